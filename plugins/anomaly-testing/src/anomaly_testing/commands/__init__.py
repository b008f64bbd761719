"""The commands ``check`` and ``new-plugin``."""
