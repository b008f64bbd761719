"""anomaly: a slim core and plugins that tell whether an image is normal, or not and where.

The public names are listed once, in ``__init__.pyi``; each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
