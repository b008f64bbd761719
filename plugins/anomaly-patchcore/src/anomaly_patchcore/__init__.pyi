from .coreset import k_center_greedy as k_center_greedy
from .coreset import k_center_greedy_with_radius as k_center_greedy_with_radius
from .padim.model import PaDiMModel as PaDiMModel
from .padim.model import locations as locations
from .padim.moments import Moments as Moments
from .patchcore.model import PatchCoreModel as PatchCoreModel
from .search import BankSearch as BankSearch
from .search import nearest as nearest
