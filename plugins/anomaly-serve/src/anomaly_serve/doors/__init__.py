"""Doors to the plant: folders, MQTT and cameras, which feed the same service as HTTP does. Public names: ``__init__.pyi``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
