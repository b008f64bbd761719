"""What an epoch costs when frozen features are computed once, beside computing them anew, and beside its trainable part alone.

    python benchmarks/cached_epochs.py

Three kinds of epoch take turns on one model: `anew` (model.feature_cache=off), `cached` (ram, the default on a CPU) and
`trainable` (features are handed over without even looking at the image). Decoded images are kept in all of them. The
WideResNet50-2 has random weights: that changes no time.

`cached` over `trainable` says what the cache itself costs. `anew` over `cached` is bounded by what remains: at 128 pixels a
training step of the flows takes 36 billion multiply-adds an image on WideResNet50-2's maps (5.8 with hidden ratio 0.16), the
network that makes them 3; with `edge` 0.33 against 0.1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import bench
import torch
from torch import Tensor

from anomaly_core import GradientModeler
from anomaly_features import ExtractorModeler, FeatureCache

GIB = 2**30
WIDE = {"model.backbone": "wide_resnet50_2.tv_in1k", "model.layers": ["layer1", "layer2", "layer3"]}
CASES = {
    "FastFlow edge": ("fastflow", True, {}),
    "FastFlow, WideResNet50-2, hidden ratio 0.16": ("fastflow", False, {**WIDE, "model.hidden_ratio": 0.16}),
    "FastFlow, WideResNet50-2": ("fastflow", False, WIDE),
    "STFPM edge": ("stfpm", True, {}),
}


class Handed(FeatureCache):
    """Features by their number in the epoch: the cost of everything else."""

    def __init__(self) -> None:
        super().__init__(4 * GIB)
        self.kept: list[list[Tensor]] = []
        self.turn = 0

    def __call__(self, images: Tensor, compute: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
        if self.turn == len(self.kept):
            self.kept.append(compute(images))
        self.turn += 1
        return self.kept[self.turn - 1]


def measured(model: str, weights: bool, overrides: dict[str, Any], images: int, repeats: int) -> dict[str, float]:
    """Median seconds of each kind of epoch."""
    _, data, modeler = bench.prepared(model, weights=weights, **overrides)
    assert isinstance(modeler, GradientModeler) and isinstance(modeler, ExtractorModeler)
    samples = data.train_samples(data.categories()[0])[:images]
    loader = data.loader(samples, modeler.input_spec, keep=True)
    optimizer, _ = modeler.configure_optimizer(1)
    handed = Handed()

    def epoch(cache: FeatureCache | None) -> None:
        modeler.extractor.cache = cache
        handed.turn = 0
        modeler.train()
        for batch in loader:
            optimizer.zero_grad()
            modeler.training_step(batch)["loss"].backward()
            torch.nn.utils.clip_grad_norm_([p for p in modeler.parameters() if p.requires_grad], 1.0)
            optimizer.step()

    caches = {"anew": None, "cached": FeatureCache(4 * GIB), "trainable": handed}
    sides = {name: partial(epoch, cache) for name, cache in caches.items()}
    for side in sides.values():
        side()  # images are decoded and caches filled
    return bench.in_turn(sides, repeats)


def main() -> None:
    print(bench.machine())
    print(f"\n{'case':46}{'anew s':>9}{'cached s':>10}{'trainable s':>13}{'anew/cached':>13}{'cached/trainable':>18}")
    for title, (model, weights, overrides) in CASES.items():
        seconds = measured(model, weights, overrides, *((64, 3) if overrides else (200, 5)))
        anew, cached, trainable = seconds.values()
        print(
            f"{title:46}{anew:9.2f}{cached:10.2f}{trainable:13.2f}{anew / cached:13.2f}{cached / trainable:18.2f}", flush=True
        )


if __name__ == "__main__":
    main()
