"""The commands ``predict`` and ``evaluate``."""
