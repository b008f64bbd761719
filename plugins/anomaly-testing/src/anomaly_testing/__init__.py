"""The conformance kit: the contract of every kind of component as checks, for pytest, for Python and for ``anomaly check``.

The public names are listed once, in ``__init__.pyi``; each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
