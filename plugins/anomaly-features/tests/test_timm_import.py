"""timm is imported and used without torch's compiler, and nothing that needs the compiler works otherwise for it."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import torch
disable = torch.compiler.disable
from anomaly_features import Backbones, FeatureExtractor
FeatureExtractor("tf_efficientnet_lite0", ["blocks.1"], Backbones())
heavy = {"matplotlib", "sklearn", "sympy", "torch._dynamo", "torch._dynamo.utils"}
print(sorted(heavy & sys.modules.keys()), torch.compiler.disable is disable)
from timm.layers import disable_compiler
from torchvision.ops import roi_align

@disable_compiler
def doubled(x):
    return 2 * x

image, boxes = torch.arange(64.0).view(1, 1, 8, 8), [torch.tensor([[1.0, 1.0, 5.0, 5.0]])]
usual = roi_align(image, boxes, 2)
print(float(doubled(torch.ones(1))), "torch._dynamo" in sys.modules)
torch.use_deterministic_algorithms(True)  # asks whether the compiler can be used, which imports it
print(torch.equal(roi_align(image, boxes, 2), usual), hasattr(sys.modules["torch._dynamo.utils"], "counters"))
print(torch.compile(lambda x: doubled(x) + 1, backend="eager")(torch.ones(1)).item())
try:
    torch.compile(lambda x: doubled(x) + 1, backend="eager", fullgraph=True)(torch.ones(1))
except Exception as error:
    print(type(error).__name__)
"""


def test_the_compiler_is_imported_when_it_is_needed():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[] True", "2.0 False", "True True", "3.0", "Unsupported"], done.stderr
