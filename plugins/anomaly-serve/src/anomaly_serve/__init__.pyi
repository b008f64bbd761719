from .records import Alarm as Alarm
from .records import Change as Change
from .records import Job as Job
from .records import Judgement as Judgement
from .records import Settings as Settings
from .records import Version as Version
from .store import Store as Store
