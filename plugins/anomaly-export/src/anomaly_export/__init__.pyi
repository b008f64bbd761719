from .detector import ExportedDetector as ExportedDetector
from .export import Report as Report
from .export import export_run as export_run
from .metadata import Metadata as Metadata
from .metadata import Precision as Precision
