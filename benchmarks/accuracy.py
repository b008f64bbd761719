"""Settings for a data set, ranked without its test images: on normal training images and synthetic defects.

    python benchmarks/accuracy.py magnetic_tile --root DIR
    python benchmarks/accuracy.py elpv --only edge --only saliency --shots 1 --draws 5

Each candidate is PatchCore with some options. It is fitted on a part of the training images and scores others: as they are,
with a weak local defect (holes, scratches, patches and stains of `anomaly suggest`, blended with what lies beneath), and with a
wide one (a ragged region whose surface is another image's, or smoothed, or filled). Candidates are ranked by the mean of image
and pixel AUROC on both. What the chosen one does on the test images is said by `anomaly run` with the same options, once.
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
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from anomaly_core import BaseDataModule, ModelContext, registry, validate
from anomaly_metrics import auroc
from anomaly_teach import KINDS, with_defect

MOST_FITTED, HELD_OUT, BATCH = 300, 175, 8
SIDE = 64  # of the maps on which pixels are compared while candidates are ranked
EDGE: dict[str, Any] = {"image_size": 224, "center_crop": None, "target_dim": None, "coreset_ratio": 0.01, "projection_dim": 64}
LITE0: dict[str, Any] = {**EDGE, "backbone": "tf_efficientnet_lite0", "layers": ["blocks.2", "blocks.4"]}
ACCURATE: dict[str, Any] = {
    **EDGE,
    "backbone": "tf_efficientnet_lite2",
    "layers": ["blocks.4"],
    "image_size": 256,
    "coreset_ratio": 0.02,
    "whiten": True,
}
SALIENCY: dict[str, Any] = {**EDGE, "backbone": "vit_small_patch14_dinov2.saliency", "patch_size": 1, "coreset_ratio": 0.02}
CANDIDATES: dict[str, dict[str, Any]] = {
    "edge": {**LITE0, "resize": "pad"},
    "stretched": LITE0,
    "whitened": {**LITE0, "whiten": True},
    "whitened, smooth": {**LITE0, "whiten": True, "sigma": 16},
    "whitened, 320 px": {**LITE0, "whiten": True, "image_size": 320},
    "nearby": {**LITE0, "whiten": True, "neighbourhood": 4, "coreset_ratio": 0.02},
    "deeper": {**LITE0, "layers": ["blocks.4", "blocks.6"]},
    "accurate": ACCURATE,
    "accurate, smooth": {**ACCURATE, "sigma": 16},
    "accurate, larger patches": {**ACCURATE, "sigma": 16, "patch_size": 5},
    "saliency": {**SALIENCY, "layers": ["blocks.5"]},
    "saliency, whitened": {**SALIENCY, "layers": ["blocks.5"], "whiten": True},
    "saliency, two blocks": {**SALIENCY, "layers": ["blocks.4", "blocks.7"]},
}


class Judged(NamedTuple):
    """Image and pixel AUROC with weak and with wide defects, and the milliseconds that an image took, without decoding."""

    weak_image: float
    weak_pixel: float
    wide_image: float
    wide_pixel: float
    milliseconds: float

    @property
    def mean(self) -> float:
        """By which candidates are ranked."""
        return statistics.mean(self[:4])


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
    component = registry.datasets[given.data]
    config = validate(component.config_class(), {"root": given.root} if given.root else {}, "data")
    data: BaseDataModule = component.build(config, seed=0, spec=component.spec)
    train = data.train_samples(given.category or data.categories()[0])
    order = random.Random(given.seed).sample(train, len(train))
    held, rest = ([Image.open(sample.path).convert("RGB") for sample in part] for part in (order[:HELD_OUT], order[HELD_OUT:]))
    rng = np.random.default_rng(given.seed)
    damaged = [weakly_damaged(image, rng) for image in held] + [widely_damaged(image, rest, rng) for image in held]
    count = given.shots or min(MOST_FITTED, len(rest))
    print(f"fitted on {count} images, {given.draws} times; {len(held)} scored as they are, and with each kind of defect")
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
    component = registry.models["patchcore"]
    modeler = component.build(validate(component.config_class(), options, "model"), ModelContext()).eval()
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
    small = F.adaptive_max_pool2d(torch.cat([torch.zeros_like(masks[: len(held)]), masks]), SIDE).int()
    maps = F.adaptive_avg_pool2d(torch.cat([one.maps for one in found]), SIDE)
    scores = torch.cat([one.scores for one in found])
    judged = []
    for kind in (1, 2):
        rows = torch.cat([torch.arange(len(held)), torch.arange(len(held)) + kind * len(held)])
        labels = (rows >= len(held)).int()
        judged += [auroc(scores[rows], labels), auroc(maps[rows], small[rows])]
    return Judged(*judged, 1000 * seconds / len(queries))


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


def widely_damaged(image: Image.Image, others: list[Image.Image], rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """An image with a ragged region of another surface, and the region's mask."""
    pixels = np.array(image).astype(np.float32)
    height, width = pixels.shape[:2]
    side = min(height, width)
    noise = gaussian_filter(rng.standard_normal((height, width)), side * 0.06)
    rows, columns = np.mgrid[:height, :width] - np.array([rng.uniform(0, height), rng.uniform(0, width)])[:, None, None]
    inside = np.hypot(rows, columns) / (side * rng.uniform(0.15, 0.5)) + 0.25 * noise / noise.std() < 0.8
    kind = rng.choice(["another's", "smoothed", "filled"])
    if kind == "another's":
        other = np.array(others[int(rng.integers(len(others)))].resize((width, height)))[::-1, ::-1].astype(np.float32)
        surface = other - smoothed(other, side * 0.15) + smoothed(pixels, side * 0.15)
    elif kind == "smoothed":
        surface = smoothed(pixels, rng.uniform(1, 4)) * rng.uniform(0.8, 1.2)
    else:
        grain = gaussian_filter(rng.standard_normal((height, width, 1)), (2, 2, 0)) * 40
        surface = smoothed(pixels, side * 0.1) * rng.uniform(0.4, 1.5) + grain
    amount = gaussian_filter(inside.astype(np.float32), 1.5)[..., None] * rng.uniform(0.4, 1)
    changed = (pixels + amount * (surface - pixels)).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(changed), Image.fromarray(inside.astype(np.uint8) * 255)


def smoothed(pixels: np.ndarray[Any, Any], sigma: float) -> Any:
    """(H, W, 3), each colour by itself."""
    return gaussian_filter(pixels, (sigma, sigma, 0))


def batches(images: list[Tensor]) -> Iterator[Tensor]:
    """(BATCH, 3, H, W) each."""
    return (torch.stack(images[first : first + BATCH]) for first in range(0, len(images), BATCH))


def print_row(name: str, row: Judged) -> None:
    weak, wide = f"{row.weak_image:.3f} {row.weak_pixel:.3f}", f"{row.wide_image:.3f} {row.wide_pixel:.3f}"
    print(f"{name:22} image, pixel: weak {weak}  wide {wide}  mean {row.mean:.3f}  {row.milliseconds:6.1f} ms", flush=True)


if __name__ == "__main__":
    main()
