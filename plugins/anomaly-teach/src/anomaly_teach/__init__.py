"""Decisions of a detector: threshold, odd normal images, size, more images. Public names: ``__init__.pyi``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
