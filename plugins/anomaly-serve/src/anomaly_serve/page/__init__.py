"""The page: teach, set, inspect, history. Templates, styles and scripts are package data; nothing comes from another host.

:func:`routes` is all that the application needs. A part of the page, such as ``teach``, has a module with ``routes(service)``
(paths below ``/page``, such as ``/products/{product}/teach``), templates that extend ``base.html``, and scripts in ``static``.
"""

from anomaly_serve.page.site import routes as routes
