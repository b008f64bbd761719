"""MVTec AD 2 (Heckler-Kram et al., 2025, arXiv 2503.21622): eight categories under changing light, and two secret test sets.

Training and validation images show the regular light; ``test_public`` shows each scene under every light of its category
(``regular``, ``overexposed``, ``underexposed``, ``shift_1`` and so on) and has masks. ``test_private`` (regular light) and
``test_private_mixed`` (the same scenes under other light) have no labels: ``anomaly submit`` writes what the publisher's server
judges. Categories and layout are the publisher's; the counts are those that users of the published copy report alike. No copy
was at hand to check them, nor the numbers of private images.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

from anomaly_core import ANOMALOUS, NORMAL, ConfigError, Sample
from anomaly_datasets.config import MVTecAD2Config
from anomaly_datasets.facts import MVTEC_AD2
from anomaly_datasets.files import images_in, masks_in, samples_in
from anomaly_datasets.validation import ValidatedTree


class MVTecAD2Data(ValidatedTree):
    """The tree as it is published. ``Sample.extra["lighting"]`` is the light of a test image; private ones have no label."""

    layout = MVTEC_AD2.layout

    def test_samples(self, category: str) -> list[Sample]:
        options = cast(MVTecAD2Config, self.config)
        folder = self.folder(category) / options.part
        if options.part == "test_public":
            masks = masks_in(folder / "ground_truth" / "bad")
            samples = samples_in(folder / "good", NORMAL, category, "good")
            samples += samples_in(folder / "bad", ANOMALOUS, category, "bad", masks)
        else:
            samples = [Sample(path, category=category) for path in images_in(folder)]
        samples = [replace(sample, extra={"lighting": lighting(sample.path)}) for sample in samples]
        if options.lighting is None:
            return samples
        there = dict.fromkeys(sample.extra["lighting"] for sample in samples)
        for name in options.lighting:
            if name not in there:
                raise ConfigError(
                    f"data.lighting={name}: no image under {str(folder)!r} has that light. There are: {', '.join(there)}."
                )
        return [sample for sample in samples if sample.extra["lighting"] in options.lighting]


def lighting(path: Path) -> str:
    """The light of an image, from its name: ``shift_1`` of ``003_shift_1.png``."""
    return path.stem.partition("_")[2]
