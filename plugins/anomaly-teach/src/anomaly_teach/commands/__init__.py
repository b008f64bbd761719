"""The commands of this distribution, one a module."""
