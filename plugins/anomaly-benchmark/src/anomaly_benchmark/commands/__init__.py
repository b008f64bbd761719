"""The commands ``benchmark`` and ``compare``."""
