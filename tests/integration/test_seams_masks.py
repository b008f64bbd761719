"""Masks of several classes and facts of the data set's own, as MVTec LOCO has them, read by a metric of a plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from PIL import Image
from pydantic import Field
from seams import added, config, run
from sklearn.metrics import average_precision_score, roc_auc_score

from anomaly_core import (
    ANOMALOUS,
    NORMAL,
    BaseDataModule,
    BaseMetric,
    Batch,
    Calibration,
    DataConfig,
    DataError,
    DatasetSpec,
    InputSpec,
    MetricSpec,
    Prediction,
    RunResults,
    Sample,
    UndefinedMetric,
    read_mask,
    read_mask_classes,
)
from anomaly_predict import load_run
from tiny.data import draw, write_image, write_mask
from tiny.plugin import PALETTE

SIDE, LEVEL = 32, 1.5  # of maps that are 1 where the normal range of colours ends


@dataclass(kw_only=True)
class LocoConfig(DataConfig):
    """Its option."""

    masks: Annotated[str, Field(description="several, one or classes: how the defects of an image are stored")] = "several"


class Loco(BaseDataModule):
    """Images with a large defect, of which 70 pixels are enough, and a small one, of which every pixel counts.

    Of both only a part can be seen: three rows of the large one, two of the small one.
    """

    config: LocoConfig

    def categories(self) -> list[str]:
        if not (self.root / "train").is_dir():
            self._draw()
        return ["box"]

    def train_samples(self, category: str) -> list[Sample]:
        return [Sample(path, NORMAL, None, category, "good") for path in sorted((self.root / "train").glob("*.png"))]

    def test_samples(self, category: str) -> list[Sample]:
        good = [Sample(path, NORMAL, None, category, "good") for path in sorted((self.root / "good").glob("*.png"))]
        return good + [self._spoilt(path, category) for path in sorted((self.root / "bad").glob("*.png"))]

    def _spoilt(self, path: Path, category: str) -> Sample:
        masks: dict[str, Any] = {
            "several": tuple(sorted((self.root / "masks" / path.stem).glob("*.png"))),
            "one": self.root / "union" / path.name,
            "classes": self.root / "classes" / path.name,
        }
        return Sample(path, ANOMALOUS, masks[self.config.masks], category, "broken", {"saturation": {"0": 70, "1": 25}})

    def _draw(self) -> None:
        for number in range(8):
            write_image(self.root / "train" / f"{number}.png", draw(number, SIDE)[0])
        for number in range(100, 103):
            write_image(self.root / "good" / f"{number}.png", draw(number, SIDE)[0])
        for number in range(200, 203):
            picture = draw(number, SIDE)[0]
            large, small = np.zeros((2, SIDE, SIDE), dtype=bool)
            large[4:18, 4 : 4 + number - 185], small[22:27, 22:27] = True, True
            picture[4:7, 4 : 4 + number - 185], picture[22:24, 22:27] = 255, 255
            write_image(self.root / "bad" / f"{number}.png", picture)
            write_mask(self.root / "masks" / str(number) / "0.png", large)
            write_mask(self.root / "masks" / str(number) / "1.png", small)
            write_mask(self.root / "union" / f"{number}.png", large | small)
            write_image(self.root / "classes" / f"{number}.png", (large + 2 * small).astype(np.uint8))


class Covered(BaseMetric):
    """Mean share of each defect that a map of at least LEVEL covers; a defect counts as covered at its saturation."""

    def __init__(self, calibration: Calibration | None = None) -> None:
        super().__init__(calibration)
        self._shares: list[float] = []

    def update(self, batch: Batch, prediction: Prediction) -> None:
        if prediction.maps is None:
            return
        for number, sample in enumerate(batch.samples):
            for defect, pixels in enumerate(defects(sample)):
                covered = int((prediction.maps[number, 0].numpy()[pixels] >= LEVEL).sum())
                self._shares.append(min(covered / sample.extra["saturation"][str(defect)], 1.0))

    def compute(self) -> float:
        if not self._shares:
            raise UndefinedMetric("no image has a mask")
        return sum(self._shares) / len(self._shares)


def defects(sample: Sample) -> list[np.ndarray]:
    """The pixels of each defect of an image: a file each, or a value each of one file."""
    if not isinstance(sample.mask_path, Path):
        return [read_mask_classes(path) != 0 for path in sample.mask_files]
    classes = read_mask_classes(sample.mask_path)
    return [classes == value for value in np.unique(classes) if value]


@pytest.fixture(autouse=True)
def components() -> Iterator[None]:
    data = DatasetSpec(target=f"{__name__}:Loco", config=f"{__name__}:LocoConfig", summary="boxes")
    metric = MetricSpec(target=f"{__name__}:Covered", level="pixel", summary="Share of each defect that is covered.")
    with added(loco=data, covered=metric, palette=PALETTE):
        yield


def of(root: Path, masks: str, **options: Any) -> RunResults:
    metrics = {"base.metrics": ["covered", "pixel_auroc", "pixel_ap"], "train.name": "memory"}
    return run(config(root, "palette", "loco", **{"data.masks": masks, **metrics, **options}))


def data_in(root: Path, masks: str = "several") -> Loco:
    data = Loco(LocoConfig(name="loco", root=str(root / "loco"), masks=masks, num_workers=0))
    data.categories()
    return data


@pytest.mark.parametrize("resolution", ["input", "native"])
def test_pixel_metrics_judge_the_union_however_it_is_stored(tmp_path: Path, resolution: str) -> None:
    several, one, classes = (of(tmp_path, masks, **{"data.evaluate_at": resolution}) for masks in ("several", "one", "classes"))
    maps = load_run(several.folder, device="cpu").predict([row.path for row in several.predictions]).maps
    assert maps is not None
    unions = [tmp_path / "loco" / "union" / Path(row.path).name for row in several.predictions]
    truth = [np.asarray(Image.open(path)) != 0 if path.is_file() else np.zeros((SIDE, SIDE), dtype=bool) for path in unions]
    for name, reference in (("pixel_auroc", roc_auc_score), ("pixel_ap", average_precision_score)):
        assert several.metrics[name] == one.metrics[name] == classes.metrics[name]
        assert several.metrics[name] == pytest.approx(reference(np.stack(truth).ravel(), maps.numpy().ravel()), abs=1e-3)


def test_a_metric_of_a_plugin_reads_classes_and_facts(tmp_path: Path) -> None:
    """By hand, of what can be seen: 3 rows of 15, 16 and 17 pixels, and 2 of 5."""
    several, classes, one = (of(tmp_path, masks) for masks in ("several", "classes", "one"))
    large = [3 * width / 70 for width in (15, 16, 17)]
    assert several.metrics["covered"] == pytest.approx(np.mean([*large, *[10 / 25] * 3]))
    assert classes.metrics["covered"] == several.metrics["covered"]
    united = [(3 * width + 10) / 70 for width in (15, 16, 17)]  # whose file knows one defect an image
    assert one.metrics["covered"] == pytest.approx(np.mean(united))


def test_batches_carry_the_union_and_the_facts(tmp_path: Path) -> None:
    data = data_in(tmp_path)
    samples = data.test_samples("box")
    (batch,) = data.loader(samples, InputSpec((SIDE, SIDE)))
    assert batch.masks is not None and batch.has_mask.all()
    for mask, sample in zip(batch.masks, batch.samples, strict=True):
        stored = np.asarray(Image.open(data.root / "union" / sample.path.name)) != 0 if sample.label else np.zeros((SIDE, SIDE))
        np.testing.assert_array_equal(mask[0].numpy(), stored)
        assert (sample.extra == {"saturation": {"0": 70, "1": 25}}) == bool(sample.label)


def test_one_file_may_hold_several_classes(tmp_path: Path) -> None:
    data = data_in(tmp_path, "classes")
    for sample in data.test_samples("box"):
        if isinstance(sample.mask_path, Path):
            assert set(np.unique(read_mask_classes(sample.mask_path))) == {0, 1, 2}
            union = np.asarray(Image.open(data.root / "union" / sample.path.name))
            np.testing.assert_array_equal(np.asarray(read_mask(sample.mask_path)), union)


def test_a_sample_with_facts_can_be_compared_and_hashed(tmp_path: Path) -> None:
    sample = data_in(tmp_path).test_samples("box")[-1]
    assert len({sample, replace(sample)}) == 1
    assert replace(sample, extra={}) != sample


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda path: write_mask(path, np.ones((SIDE, 9), dtype=bool)),
            r"the masks .*0\.png' and '.*1\.png' .* differ in size",
        ),
        (lambda path: path.write_bytes(b"damaged"), r"cannot read the mask '.*200/1\.png'"),
    ],
)
def test_one_of_several_masks_that_cannot_be_used_is_named(tmp_path: Path, spoil: Callable[[Path], Any], words: str) -> None:
    root = data_in(tmp_path).root
    spoil(root / "masks" / "200" / "1.png")
    with pytest.raises(DataError, match=words):
        of(tmp_path, "several")
    skipping = of(tmp_path, "several", **{"data.on_bad_image": "skip"})
    assert len(skipping.predictions) == 5


def test_several_masks_of_another_size_than_the_image_are_all_named(tmp_path: Path) -> None:
    root = data_in(tmp_path).root
    for name in ("0.png", "1.png"):
        write_mask(root / "masks" / "200" / name, np.ones((SIDE, 9), dtype=bool))
    with pytest.raises(DataError, match=r"mask '[^']*200/0\.png' and '[^']*200/1\.png' is 9x32, its image '[^']*' 32x32"):
        of(tmp_path, "several")
