"""A frozen network inside a larger graph: its tensors are traced, whatever engine computes it otherwise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anomaly_features import ExtractorOptions, FrozenNetwork

pytest.importorskip("openvino")


class Halved(FrozenNetwork):
    """The image at half its size."""

    def __init__(self, options: ExtractorOptions) -> None:
        super().__init__(options)
        self.requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        return [torch.nn.functional.avg_pool2d(images, 2)]


def test_torch_export_takes_a_network_of_another_engine() -> None:
    network, images = Halved(ExtractorOptions(engine="openvino")).eval(), torch.rand(1, 3, 32, 32)
    network(images)  # compiled by now
    graph = torch.export.export(network, (images,), strict=False).module()
    torch.testing.assert_close(graph(images)[0], network.features(images)[0])
