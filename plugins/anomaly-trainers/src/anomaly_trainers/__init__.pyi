from .config import GradientTrainConfig as GradientTrainConfig
from .config import MemoryTrainConfig as MemoryTrainConfig
from .gradient import GradientTrainer as GradientTrainer
from .memory import MemoryTrainer as MemoryTrainer
from .pictures import PictureFolder as PictureFolder
from .processes import accelerator as accelerator
from .training import Training as Training
