from .synthetic import KINDS as KINDS
from .synthetic import with_defect as with_defect
