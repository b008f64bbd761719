"""Large images are scored by their tiles, whatever the method; batches in parts that fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from anomaly_core import BaseModeler, DataConfig, InputSpec, ModelConfig, Prediction
from anomaly_core.imaging.tiles import Tiling
from anomaly_core.run.scoring import TiledModeler, tiled


class Brightness(BaseModeler):
    """The map is the image's own red, so that what tiles must say is known exactly."""

    def __init__(self, size: tuple[int, int], resize: str = "stretch") -> None:
        super().__init__(ModelConfig())
        self.input_spec = InputSpec(size, resize)  # type: ignore[arg-type]
        self.seen: list[tuple[int, ...]] = []

    def predict_step(self, images: Tensor) -> Prediction:
        self.seen.append(tuple(images.shape))
        maps = images[:, :1]
        return Prediction(maps.amax(dim=(1, 2, 3)), maps, images)


@pytest.mark.parametrize("overlap", [0, 8, 16])
@pytest.mark.parametrize("size", [(32, 32), (100, 77), (20, 90), (33, 9)])
def test_the_tiled_map_is_the_untiled_one(size: tuple[int, int], overlap: int) -> None:
    """With tiles as large as the input nothing is resized: blended, they give back every pixel."""
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, *size), dtype=np.uint8)).float() / 255
    tile = (min(32, size[0]), min(32, size[1]))
    prediction = TiledModeler(Brightness(tile), Tiling((32, 32), overlap), 4).predict_step(image)
    assert prediction.maps is not None
    assert prediction.reconstruction is not None
    torch.testing.assert_close(prediction.maps, image[:, :1], rtol=0, atol=1e-6)
    torch.testing.assert_close(prediction.reconstruction, image, rtol=0, atol=1e-6)
    assert float(prediction.scores[0]) == float(image[:, 0].max())


@pytest.mark.parametrize("resize", ["stretch", "keep", "pad"])
@pytest.mark.parametrize("size", [(128, 128), (96, 200)])
def test_a_smooth_map_comes_back_from_any_input_size(resize: str, size: tuple[int, int]) -> None:
    rows, columns = torch.meshgrid(torch.linspace(0, 3, size[0]), torch.linspace(0, 5, size[1]), indexing="ij")
    image = (0.5 + 0.4 * torch.sin(rows) * torch.cos(columns)).expand(1, 3, -1, -1)
    for wanted in ((48, 32), (80, 112)):
        maps = TiledModeler(Brightness(wanted, resize), Tiling((64, 48), 16), 5).predict_step(image).maps
        assert maps is not None
        assert maps.shape == (1, 1, *size)
        assert float((maps - image[:, :1]).abs().max()) < 0.03


def test_no_more_tiles_than_a_batch_go_through_the_network_at_once() -> None:
    modeler = Brightness((32, 32))
    TiledModeler(modeler, Tiling((32, 32), 8), 4).predict_step(torch.rand(1, 3, 100, 100))
    assert [shape[0] for shape in modeler.seen] == [4, 4, 4, 4]


def test_without_tiles_the_modeler_scores_itself() -> None:
    modeler = Brightness((32, 32))
    assert tiled(modeler, DataConfig()) is modeler
    assert isinstance(tiled(modeler, DataConfig(tile=64)), TiledModeler)
