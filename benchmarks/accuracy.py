"""Settings for a data set, ranked without its test images: on normal training images and synthetic defects.

    python benchmarks/accuracy.py magnetic_tile --root DIR
    python benchmarks/accuracy.py elpv --only lite0 --only saliency-224 --shots 1

Each candidate is PatchCore with some options. It is fitted on a part of the training images and scores others, once as they
are and once with a weak synthetic defect: holes, scratches, patches and stains of `anomaly suggest`, blended with what lies
beneath, and wide, faint stains. Candidates are ranked by the mean of their image and pixel AUROC there. What the one that is
chosen does on the test images is said by `anomaly run` with the same options, once.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import bench
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from anomaly_core import BaseDataModule, ModelContext, registry, validate
from anomaly_metrics import auroc
from anomaly_patchcore.patchcore.config import PatchCoreConfig
from anomaly_patchcore.patchcore.modeler import PatchCoreModeler
from anomaly_teach import KINDS, with_defect

MOST_FITTED, HELD_OUT, BATCH = 300, 175, 8
SIDE = 64  # of the maps on which pixels are compared while candidates are ranked
EDGE: dict[str, Any] = {"image_size": 224, "center_crop": None, "target_dim": None, "coreset_ratio": 0.01, "projection_dim": 64}
LITE0: dict[str, Any] = {**EDGE, "backbone": "tf_efficientnet_lite0", "layers": ["blocks.2", "blocks.4"]}
SALIENCY: dict[str, Any] = {**EDGE, "backbone": "vit_small_patch14_dinov2.saliency", "engine": "openvino_bf16", "patch_size": 1}
CANDIDATES: dict[str, dict[str, Any]] = {
    "edge": {**LITE0, "resize": "pad"},
    "stretched": LITE0,
    "whitened": {**LITE0, "whiten": True},
}


class Judged(NamedTuple):
    """Image and pixel AUROC, and the milliseconds that an image took, without decoding."""

    image: float
    pixel: float
    milliseconds: float

    @property
    def mean(self) -> float:
        """By which candidates are ranked."""
        return (self.image + self.pixel) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a data set, such as magnetic_tile or elpv")
    parser.add_argument("--root", help="its folder")
    parser.add_argument("--category", help="the first by default")
    parser.add_argument(
        "--only", action="append", choices=list(CANDIDATES), help="of the candidates; repeatable; all by default"
    )
    parser.add_argument("--shots", type=int, help=f"images to fit on; as many as there are, {MOST_FITTED} at most")
    parser.add_argument("--draws", type=int, default=1, help="of the images to fit on (1)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws, the defects and the coreset (0)")
    given = parser.parse_args()
    print(bench.machine())
    config = validate(registry.data[given.data].config_class(), {"root": given.root} if given.root else {}, "data")
    data: BaseDataModule = registry.data[given.data].load()(config)
    train = data.train_samples(given.category or data.categories()[0])
    order = random.Random(given.seed).sample(train, len(train))
    held, rest = ([Image.open(sample.path).convert("RGB") for sample in part] for part in (order[:HELD_OUT], order[HELD_OUT:]))
    rng = np.random.default_rng(given.seed)
    damaged = [weakly_damaged(image, rng) for image in held]
    count = given.shots or min(MOST_FITTED, len(rest))
    print(f"fitted on {count} images, {given.draws} times; {len(held)} scored as they are and with a defect")
    rows = {}
    for name in given.only or CANDIDATES:
        draws = random.Random(given.seed)
        judged = [evaluated(CANDIDATES[name], draws.sample(rest, count), held, damaged) for _ in range(given.draws)]
        rows[name] = Judged(*(statistics.mean(column) for column in zip(*judged, strict=True)))
        print_row(name, rows[name])
    print("\nranked:")
    for name, row in sorted(rows.items(), key=lambda item: -item[1].mean):
        print_row(name, row)


def evaluated(
    options: dict[str, Any], fit: list[Image.Image], held: list[Image.Image], damaged: list[tuple[Image.Image, Image.Image]]
) -> Judged:
    """A candidate fitted on some images, judged by others that are held out, and these with a defect and its mask."""
    torch.manual_seed(0)
    modeler = PatchCoreModeler(validate(PatchCoreConfig, options, "model"), ModelContext()).eval()
    spec = modeler.input_spec
    with torch.inference_mode():
        for part in batches([spec.image(image) for image in fit]):
            modeler.collect(part)
        modeler.build()
        queries = [spec.image(image) for image in [*held, *(image for image, _ in damaged)]]
        modeler.predict_step(queries[0][None])  # engine and search are prepared
        start = time.perf_counter()
        found = [modeler.predict_step(part) for part in batches(queries)]
        seconds = time.perf_counter() - start
    masks = torch.stack([spec.mask(mask) for _, mask in damaged]).float()
    small = F.adaptive_max_pool2d(torch.cat([torch.zeros_like(masks[:1]).expand(len(held), -1, -1, -1), masks]), SIDE)
    maps = F.adaptive_avg_pool2d(torch.cat([one.maps for one in found]), SIDE)
    labels = torch.arange(len(queries)) >= len(held)
    scores = torch.cat([one.scores for one in found])
    return Judged(auroc(scores, labels.int()), auroc(maps, small.int()), 1000 * seconds / len(queries))


def weakly_damaged(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """An image with a defect that is blended with what lies beneath, and the defect's mask."""
    pixels = np.array(image)
    side, kind = min(pixels.shape[:2]), str(rng.choice([*KINDS, "wide stain"]))
    wide = kind == "wide stain"
    size = round(side * (rng.uniform(0.2, 0.45) if wide else rng.uniform(0.03, 0.12)))
    strength = rng.uniform(0.15, 0.45) if wide else rng.uniform(0.15, 0.7)
    changed, mask = with_defect(pixels, "stain" if wide else kind, max(4, size), rng)
    blended = pixels + strength * (changed.astype(np.float32) - pixels)
    if (pixels == pixels[..., :1]).all():  # a grey camera sees no colour
        blended = np.repeat(blended.mean(axis=2, keepdims=True), 3, axis=2)
    return Image.fromarray(blended.round().clip(0, 255).astype(np.uint8)), Image.fromarray(mask.astype(np.uint8) * 255)


def batches(images: list[Tensor]) -> Iterator[Tensor]:
    """(BATCH, 3, H, W) each."""
    return (torch.stack(images[first : first + BATCH]) for first in range(0, len(images), BATCH))


def print_row(name: str, row: Judged) -> None:
    print(
        f"{name:28} image {row.image:.3f}  pixel {row.pixel:.3f}  mean {row.mean:.3f}  {row.milliseconds:6.1f} ms", flush=True
    )


if __name__ == "__main__":
    main()
