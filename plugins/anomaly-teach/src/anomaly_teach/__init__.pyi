from .extending import Extension as Extension
from .extending import extend as extend
from .synthetic import KINDS as KINDS
from .synthetic import with_defect as with_defect
