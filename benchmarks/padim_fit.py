"""PaDiM's fit and scores: moments gathered online and batched Cholesky solves, beside a covariance and an inverse a location.

    python benchmarks/padim_fit.py

The loop is what the widely used code does: all features of the training set in memory, `numpy.cov` and `numpy.linalg.inv` for
each of the locations, and scipy's `mahalanobis` for each location of each image. Features are given to both: 200 training
images of the ELPV split, the `edge` preset.
"""

from __future__ import annotations

import time

import bench
import numpy as np
import torch
from scipy.spatial.distance import mahalanobis

from anomaly_patchcore import Moments, locations

SCORED = 8


def main() -> None:
    print(bench.machine())
    config, data, modeler = bench.prepared("padim")
    modeler.eval()
    model, category = modeler.model, data.categories()[0]
    with torch.inference_mode():
        train = [modeler.embed(b.images) for b in data.loader(data.train_samples(category), modeler.input_spec)]
        test = modeler.embed(next(iter(data.loader(data.test_samples(category)[:SCORED], modeler.input_spec))).images)
        _, dim, height, width = test.shape

        def ours() -> None:
            moments = Moments(height * width, dim)
            for part in train:
                moments.add(locations(part))
            model.build(moments, (height, width))

        fit = bench.in_turn({"ours": ours}, repeats=3)["ours"]
        start = time.perf_counter()
        scores = model.distances(test)
        scored = time.perf_counter() - start

    held = torch.cat(train).numpy().reshape(-1, dim, height * width)
    start = time.perf_counter()
    means, inverses = held.mean(axis=0), np.empty((height * width, dim, dim))
    for place in range(height * width):
        covariance = np.cov(held[:, :, place], rowvar=False) + config.model.regularization * np.identity(dim)
        inverses[place] = np.linalg.inv(covariance)
    loop_fit = time.perf_counter() - start
    start = time.perf_counter()
    vectors = test.numpy().reshape(SCORED, dim, height * width)
    plain = [
        [mahalanobis(image[:, place], means[:, place], inverses[place]) for place in range(height * width)] for image in vectors
    ]
    loop_scored = time.perf_counter() - start
    difference = np.abs(np.array(plain).reshape(scores.shape) / scores.numpy() - 1).max()
    print(f"\n{height * width} locations, {dim} dimensions, {len(held)} images; greatest relative difference {difference:.1e}")
    print(f"{'':22}{'ours':>10}{'loop':>10}{'ratio':>8}")
    print(f"{'fit, s':22}{fit:10.2f}{loop_fit:10.2f}{loop_fit / fit:8.1f}")
    print(
        f"{'score an image, ms':22}{1000 * scored / SCORED:10.1f}{1000 * loop_scored / SCORED:10.1f}{loop_scored / scored:8.1f}"
    )
    print(f"{'features held, MB':22}{0:10.0f}{held.nbytes / 1e6:10.0f}")


if __name__ == "__main__":
    main()
