from .api import check_component as check_component
from .api import checks_of as checks_of
from .api import parametrize_with_checks as parametrize_with_checks
from .checks import Broken as Broken
from .checks import ConformanceError as ConformanceError
from .checks import Outcome as Outcome
from .checks import Skip as Skip
from .pictures import write_folder as write_folder
