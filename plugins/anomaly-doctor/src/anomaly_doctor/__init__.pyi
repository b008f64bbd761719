from .list_plugins import examined as examined
from .show import describe_options as describe_options
