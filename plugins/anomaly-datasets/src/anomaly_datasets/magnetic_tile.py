"""Magnetic tiles (Huang, Qiu and Yuan, The Visual Computer 2018): 952 good tiles and 392 with a defect, under six exposures.

Grey images of many sizes, about 100 to 600 pixels. A tile's exposure is the first number of its name, ``exp3_num_45042.jpg``:
from 1 to 6 the mean grey rises from 70 to 162, so that the set holds a real shift in lighting. Three images have exposure 0.

No split is published. Here 650 good images train, drawn by ``data.split_seed`` whatever the run's seed; the other 302 and all
defective ones test. With ``data.exposures=1,2``, the same share of the good images of these exposures trains, and the rest of
them tests with their defective ones; ``data.test_exposures=5,6`` tests on other exposures instead: the model is the same.

**A tile was photographed under every exposure**, so that a draw of images has most test tiles in training too, in another
light. The names tell which belong together, if not in words: in the order of the second number, the exposures rise from 1 to 6
and begin again with the next tile (148 of the 170 good tiles have all six). ``data.by_tile=true`` draws whole tiles instead,
which is the harder and the fairer test, and holds out whole tiles for the threshold too. The 392 defective images show about
73 tiles: with ``data.abnormal_train``, the other images of the tiles that are learnt do not test.

The label comes from the folder: good tiles have a black mask, and so have four tiles of the kind Uneven. In the others, borders
are smoothed (values from 1 to 254): pixels of at least 128 count as defective. Any value above 0 would mark 48 % more of the
cracks and 10 % more of the blowholes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import cast

from anomaly_core import ANOMALOUS, NORMAL, BaseDataModule, ConfigError, DataError, Sample
from anomaly_datasets.config import MagneticTileConfig
from anomaly_datasets.facts import MAGNETIC_TILE
from anomaly_datasets.files import drawn, images_in, missing_root
from anomaly_datasets.masks.sources import FileMask

KINDS = ("Blowhole", "Break", "Crack", "Fray", "Uneven")
CATEGORY = MAGNETIC_TILE.categories[0]
SMOOTHED = 128  # the least value of a defect in a mask
TRAIN_SHARE = MAGNETIC_TILE.totals[0] / sum(MAGNETIC_TILE.totals[:2])


class MagneticTileData(BaseDataModule):
    """One category; the kinds of defect are the folders' names."""

    def categories(self) -> list[str]:
        if not (self.root / "MT_Free" / "Imgs").is_dir():
            raise missing_root(self, MAGNETIC_TILE.layout)
        return [CATEGORY]

    def train_samples(self, category: str) -> list[Sample]:
        return self.drawn[0]

    def test_samples(self, category: str) -> list[Sample]:
        exposures = self._chosen("test_exposures") or self._chosen("exposures")
        kinds = [kind for kind in KINDS if (self.root / f"MT_{kind}" / "Imgs").is_dir()]
        bad = []
        for kind in kinds:  # data.abnormal_train: who has learnt a defect in one light is not tested on it in another
            for number, tile in enumerate(tiles(self._samples(kind))):
                bad += [replace(sample, extra={**sample.extra, "group": f"{kind} {number}"}) for sample in tile]
        return [sample for sample in [*self.drawn[1], *bad] if not exposures or sample.extra["exposure"] in exposures]

    @cached_property
    def drawn(self) -> tuple[list[Sample], list[Sample]]:
        """(the good images that train, all others, whatever their exposure)."""
        options, exposures = cast(MagneticTileConfig, self.config), self._chosen("exposures")
        good = self._samples("Free")
        able = [sample for sample in good if not exposures or sample.extra["exposure"] in exposures]
        count = round(len(able) * TRAIN_SHARE) if options.train_count is None else options.train_count
        if count > len(able):
            raise ConfigError(
                f"data.train_count={count} is more than the {len(able)} good images under {str(self.root)!r}"
                f"{f' of exposures {exposures}' if exposures else ''}. Lower it, or name more exposures with data.exposures."
            )
        if not options.by_tile:
            train = drawn(able, count, options.split_seed)[0]
            chosen = set(train)
        else:
            whole = tiles(good)
            tile_of = {sample: number for number, tile in enumerate(whole) for sample in tile}
            parts = drawn(whole, round(len(whole) * count / len(able)), options.split_seed)[0]
            chosen = {sample for tile in parts for sample in tile}
            # a group: the images that are held out for the threshold show other tiles than those that are fitted
            train = [replace(s, extra={**s.extra, "group": tile_of[s]}) for s in able if s in chosen]
        return train, [sample for sample in good if sample not in chosen]

    def _samples(self, kind: str) -> list[Sample]:
        good = kind == "Free"
        label, defect = (NORMAL, "good") if good else (ANOMALOUS, kind)
        samples = []
        for path in images_in(self.root / f"MT_{kind}" / "Imgs"):
            if path.suffix.lower() == ".png":  # the masks
                continue
            mask = path.with_suffix(".png")
            source = FileMask(mask, SMOOTHED) if mask.is_file() and not good else None
            samples.append(Sample(path, label, source, CATEGORY, defect, {"exposure": _numbers(path)[0]}))
        return samples

    def _chosen(self, option: str) -> list[int]:
        """The exposures of an option, each of which some good image has; empty where none is named: all of them."""
        exposures: list[int] = getattr(self.config, option) or []
        there = sorted({sample.extra["exposure"] for sample in self._samples("Free")}) if exposures else []
        for exposure in exposures:
            if exposure not in there:
                raise ConfigError(
                    f"data.{option}: no good image under {str(self.root)!r} has exposure {exposure}. "
                    f"Choose from {', '.join(map(str, there))}."
                )
        return exposures


def tiles(samples: list[Sample]) -> list[list[Sample]]:
    """The images of each tile: in the order of the numbers, a tile ends where the exposure does not rise."""
    found: list[list[Sample]] = []
    for sample in sorted(samples, key=lambda sample: _numbers(sample.path)[1]):
        if found and sample.extra["exposure"] > found[-1][-1].extra["exposure"]:
            found[-1].append(sample)
        else:
            found.append([sample])
    return found


def _numbers(path: Path) -> tuple[int, int]:
    """(exposure, number): 3 and 45042 of ``exp3_num_45042.jpg``."""
    found = re.fullmatch(r"exp(\d)_num_(\d+)", path.stem)
    if found is None:
        raise DataError(
            f"the name of {str(path)!r} does not say its exposure: expected exp<E>_num_<N>. Unpack the data set again, and "
            "keep other images apart from it."
        )
    return int(found[1]), int(found[2])
