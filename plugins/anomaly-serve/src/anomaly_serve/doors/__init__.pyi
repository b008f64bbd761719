from .folder import FolderDoor as FolderDoor
from .folder import Folders as Folders
from .options import DoorOptions as DoorOptions
from .options import Doors as Doors
from .options import add_doors as add_doors
from .options import doors_options as doors_options
