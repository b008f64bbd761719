"""``sample``: pictures generated from a seed, with defects and pixel masks, written once in MVTec AD's layout."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from anomaly_core import ANOMALOUS, DataError, Sample, progress_bar, read_untrusted
from anomaly_datasets.config import SampleConfig
from anomaly_datasets.defects import DEFECTS
from anomaly_datasets.files import MVTecTree
from anomaly_datasets.kit import LOGICAL_FAULTS, STRUCTURAL, defects_config, kit, wrong_kit
from anomaly_datasets.saturation import DEFECTS_CONFIG, saturation_of
from anomaly_datasets.scenes import SCENES as TEXTURES_AND_OBJECTS
from anomaly_datasets.scenes import Bools, Floats, Scene

GENERATOR = 2  # raised when the same options would give other pictures
MARKER = "sample.json"
VISIBLE = 0.07  # mean change of the most changed channel inside a mask, of a range of 1
SCENES = {**TEXTURES_AND_OBJECTS, "kit": kit}
KINDS = {
    "fabric": ("thread", "stain", "missing", "colour"),
    "wood": ("scratch", "stain", "missing", "crack", "colour"),
    "nut": ("scratch", "stain", "missing", "crack", "colour"),
    "circuit": ("scratch", "stain", "missing", "crack", "colour"),
    "kit": (*LOGICAL_FAULTS, "scratch", "stain"),
}
LOGICAL = {"kit": LOGICAL_FAULTS}  # of these kinds


@dataclass(frozen=True)
class Recipe:
    """All that the pictures depend on; two recipes never share a folder."""

    generator: int
    seed: int
    size: int
    train: int
    good: int
    bad: int

    @property
    def folder(self) -> str:
        """The recipe as the name of a folder."""
        return f"v{self.generator}-seed{self.seed}-{self.size}px-{self.train}-{self.good}-{self.bad}"


class SampleData(MVTecTree):
    """Two textures, two objects and a kit of parts; the first use writes the PNG files below the root, later ones find them.

    ``kit`` has logical faults beside structural ones; as in MVTec LOCO AD, the values of its masks name the defects, and
    ``Sample.extra["saturation"]`` says how much of each is enough.
    """

    @property
    def recipe(self) -> Recipe:
        """What the options ask for."""
        options = cast(SampleConfig, self.config)
        return Recipe(GENERATOR, options.sample_seed, options.size, options.train_count, options.good_count, options.bad_count)

    @property
    def tree(self) -> Path:
        return self.root / self.recipe.folder

    def categories(self) -> list[str]:
        self.ensure()
        return list(SCENES)

    def train_samples(self, category: str) -> list[Sample]:
        self.ensure()
        return super().train_samples(category)

    def test_samples(self, category: str) -> list[Sample]:
        self.ensure()
        samples, file = super().test_samples(category), self.folder(category) / DEFECTS_CONFIG
        extra = saturation_of(file) if file.exists() else {}
        return [replace(sample, extra=extra) if sample.label == ANOMALOUS else sample for sample in samples]

    def ensure(self) -> Path:
        """The folder with the pictures, which are generated where they are not there yet.

        They are written beside the folder and renamed, so that a folder with the right name is always whole; of two
        processes the slower one drops its own copy.

        Raises:
            DataError: the folder belongs to another recipe, or cannot be written.
        """
        if not self.tree.exists():
            try:
                self._generate()
            except OSError as error:
                raise DataError(
                    f"the sample pictures cannot be written to {str(self.tree)!r}: {error}. "
                    "Name a folder that can be written with --set data.root=DIR."
                ) from error
        try:
            written = json.loads(read_untrusted(self.tree / MARKER))
        except (OSError, ValueError):
            written = None
        if written != asdict(self.recipe):
            raise DataError(
                f"{str(self.tree)!r} was not written by this generator: its {MARKER} is missing or differs. "
                "Remove that folder, or name another with --set data.root=DIR."
            )
        return self.tree

    def _generate(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".sample-", dir=self.root, ignore_cleanup_errors=True) as temporary:
            fresh = Path(temporary) / "tree"
            plan = [(category, part, index) for category in SCENES for part, index in _parts(self.recipe)]
            for category, part, index in progress_bar(plan, "generating the sample pictures"):
                write_one(fresh, self.recipe, category, part, index)
            (fresh / "kit" / DEFECTS_CONFIG).write_text(
                json.dumps(defects_config(self.recipe.size), indent=2), encoding="utf-8"
            )
            (fresh / MARKER).write_text(json.dumps(asdict(self.recipe), indent=2) + "\n", encoding="utf-8")
            try:
                fresh.rename(self.tree)
            except OSError:
                if not (self.tree / MARKER).is_file():  # not because another process was first
                    raise
                shutil.rmtree(fresh)


def write_one(tree: Path, recipe: Recipe, category: str, part: str, index: int) -> None:
    """Write picture ``index`` of a part (``train``, ``good`` or ``bad``), and the mask of a bad one.

    Each picture has a generator of its own, so that it does not depend on how many others there are.
    """
    number = list(SCENES).index(category)
    rng = np.random.default_rng([recipe.seed, number, ("train", "good", "bad").index(part), index])
    kinds = KINDS[category]
    kind, name = kinds[index % len(kinds)], f"{index // len(kinds):03d}"
    mask_path = tree / category / "ground_truth" / kind / f"{name}_mask.png"
    if part == "bad" and kind in LOGICAL.get(category, ()):
        picture, gain, values = wrong_kit(rng, recipe.size, kind)
        _save(_shoot(rng, gain, picture), tree / category / "test" / kind / f"{name}.png")
        _save(values, mask_path)
        return
    scene = SCENES[category](rng, recipe.size)
    if part != "bad":
        folder = tree / category / ("train" if part == "train" else "test") / "good"
        _save(_shoot(rng, scene.gain, scene.picture), folder / f"{index:03d}.png")
        return
    picture, mask = spoil(rng, scene, kind)
    _save(_shoot(rng, scene.gain, picture), tree / category / "test" / kind / f"{name}.png")
    _save(mask.astype(np.uint8) * STRUCTURAL, mask_path)


def spoil(rng: np.random.Generator, scene: Scene, kind: str) -> tuple[Floats, Bools]:
    """(picture with a defect, its mask); drawn again where too little of it fell onto the body or shows."""
    least = scene.body.size // 600
    while True:
        picture, amount = DEFECTS[kind](rng, scene)
        mask = amount > 0.35
        if np.count_nonzero(mask) >= least and np.abs(picture - scene.picture).max(axis=-1)[mask].mean() > VISIBLE:
            return picture, mask


def _parts(recipe: Recipe) -> list[tuple[str, int]]:
    counts = (("train", recipe.train), ("good", recipe.good), ("bad", recipe.bad))
    return [(part, index) for part, count in counts for index in range(count)]


def _shoot(rng: np.random.Generator, gain: Floats, picture: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The picture under a light, with the sensor's noise, as 8-bit RGB."""
    noise = 0.012 * rng.standard_normal(picture.shape[:2], dtype=np.float32)[..., None]
    return np.asarray(np.clip((picture * gain + noise) * 255, 0, 255).round(), dtype=np.uint8)


def _save(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, compress_level=1)
