"""LPIPS' network: VGG16's features from the core's backbones, the linear weights from the ``lpips`` distribution.

Paper: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018,
https://arxiv.org/abs/1801.03924
"""

from __future__ import annotations

import re
import warnings
from importlib.resources import as_file, files

import torch
from lpips import LPIPS  # type: ignore[import-untyped]  # ships no annotations
from torch import Tensor

from anomaly_features import Backbones

VGG16 = "vgg16.tv_in1k"


def perceptual_network(backbones: Backbones) -> LPIPS:
    """LPIPS 0.1 over VGG16, in eval mode, frozen, on the CPU; for images in [-1, 1].

    ``lpips`` itself would let torchvision download VGG16 and unpickle the linear weights: neither happens here.

    Raises:
        BackboneError: VGG16's weights are nowhere to be found.
    """
    vgg = backbones.load(VGG16)
    with warnings.catch_warnings(), torch.device("meta"):  # its parameters are replaced: they need no memory and no draw
        warnings.filterwarnings("ignore", message=".*'(pretrained|weights)'", category=UserWarning)
        network = LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    state = {key: value for key, value in network.state_dict().items() if not value.is_meta}
    state |= _linear_weights()
    for key in network.net.state_dict():
        layer = re.sub(r"slice\d+", "features", key)  # net.slice2.5.weight is features.5.weight
        state[f"net.{key}"] = vgg[layer]
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def _linear_weights() -> dict[str, Tensor]:
    """``lin0`` to ``lin4``, under both of the names that the network has for them."""
    with as_file(files("lpips") / "weights/v0.1/vgg.pth") as path:
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights | {re.sub(r"^lin(\d)", r"lins.\1", key): value for key, value in weights.items()}
