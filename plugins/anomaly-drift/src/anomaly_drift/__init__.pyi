from .alarm import DriftAlarm as DriftAlarm
from .facts import FACTS as FACTS
from .facts import Fact as Fact
from .facts import image_facts as image_facts
from .monitor import DriftMonitor as DriftMonitor
from .recalibration import Proposal as Proposal
from .recalibration import recalibrated as recalibrated
from .reference import Reference as Reference
