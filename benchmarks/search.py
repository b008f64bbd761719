"""Nearest neighbours in a memory bank of 10 % of the patches: exact and approximate, seconds an image and image AUROC.

    python benchmarks/search.py
    python benchmarks/search.py --sizes [CHECKOUT]  # exact search alone, by size of bank and image; beside another commit

PatchCore's `edge` features of the ELPV split, its exact coreset; 200 test images of 784 patches each. One bank, the same
queries for all; searches take turns. `exact` is `model.search=exact`, with products in bfloat16 where the CPU has them;
`faiss flat` is faiss's own exact search. `ivf` and `hnsw` include the exact search of each image's farthest patches, without
which the rows that say `alone` are.

`--sizes` takes banks of 1,200 to 40,000 patches at 384 px (2,304 an image, also the first 784 of each), with and without
bfloat16. It counts seconds of the processor in one thread: what other programs do counts less. `ONEDNN_MAX_CPU_ISA=AVX2
MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2` before the command stands for a CPU without AVX-512.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import bench
import faiss
import torch
from torch import Tensor

from anomaly_core import Sample, has_bfloat16
from anomaly_metrics import auroc
from anomaly_patchcore import BankSearch, bounds, k_center_greedy, nearest, search

IMAGES = 20  # a turn
SIZES = (1200, 3200, 12_000, 40_000)


def flat(bank: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Faiss's exact search."""
    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank.numpy())
    faiss.omp_set_num_threads(torch.get_num_threads())

    def search(patches: Tensor) -> tuple[Tensor, Tensor]:
        distances, indices = index.search(patches.flatten(0, 1).contiguous().numpy(), 1)
        return torch.from_numpy(distances), torch.from_numpy(indices)

    return search


def alone(search: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A search of single queries, for the patches of some images."""
    return lambda patches: search(patches.flatten(0, 1))


def compare(kind: str) -> None:
    """A table of the searches in the bank of one kind of cell."""
    _, data, modeler = bench.prepared("patchcore", kind)
    modeler.eval()
    category = data.categories()[0]
    test = data.test_samples(category)

    def patches(samples: Sequence[Sample]) -> Tensor:
        parts = [modeler.embed(batch.images).flatten(1, 2) for batch in data.loader(samples, modeler.input_spec)]
        return torch.cat(parts)  # (images, 784, D)

    train, queries = patches(data.train_samples(category)).flatten(0, 1), patches(test)
    projected = train @ torch.randn(train.shape[1], 64, generator=torch.Generator().manual_seed(0))
    bank = train[k_center_greedy(projected, len(train) // 10)]
    ivf, hnsw = BankSearch(bank, "ivf"), BankSearch(bank, "hnsw")
    searches: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
        "torch, float32": alone(partial(nearest, bank=bank)),
        "exact": BankSearch(bank).of_images,
        "faiss flat": flat(bank),
        "ivf, alone": alone(ivf),
        "ivf": ivf.of_images,
        "hnsw, alone": alone(hnsw),
        "hnsw": hnsw.of_images,
        "hnsw, fp16 bank": BankSearch(bank.half(), "hnsw").of_images,
    }
    some = queries[:: len(queries) // IMAGES][:IMAGES]
    seconds = bench.in_turn({name: partial(search, some) for name, search in searches.items()})
    labels = torch.tensor([sample.label for sample in test])
    exact = nearest(queries.flatten(0, 1), bank)[1]
    print(f"\nELPV {kind}: bank {tuple(bank.shape)}")
    print(f"{'search':18}{'ms an image':>12}{'x torch':>9}{'x flat':>9}{'AUROC':>9}{'same neighbour':>16}")
    for name, searched in searches.items():
        distances, indices = searched(queries)
        value = auroc(distances.view(len(test), -1).amax(dim=1), labels)
        same = float((indices.view_as(exact) == exact).float().mean())
        ratios = (seconds[other] / seconds[name] for other in ("torch, float32", "faiss flat"))
        print(
            f"{name:18}{1000 * seconds[name] / IMAGES:12.1f}",
            *(f"{r:9.1f}" for r in ratios),
            f"{value:8.4f}{same:16.4f}",
            flush=True,
        )


def features() -> Path:
    """A file with a bank of 40,000 patches in the order of greedy k-center and the patches of 16 test images, made once."""
    path = Path(tempfile.gettempdir()) / "search" / "elpv_384.pt"
    if not path.exists():
        _, data, modeler = bench.prepared("patchcore", "mono", **{"model.image_size": 384})
        modeler.eval()
        category = data.categories()[0]
        test = data.test_samples(category)
        train, queries = (
            torch.cat([modeler.embed(batch.images).flatten(1, 2) for batch in data.loader(samples, modeler.input_spec)])
            for samples in (data.train_samples(category), test[:: len(test) // 16][:16])
        )
        some = train.flatten(0, 1)[::4]
        projected = some @ torch.randn(some.shape[1], 64, generator=torch.Generator().manual_seed(0))
        path.parent.mkdir(exist_ok=True)
        torch.save({"bank": some[k_center_greedy(projected, 40_000)], "queries": queries}, path)
    return path


def side() -> None:
    """Milliseconds an image for each size of bank and image and kind of arithmetic, one a line."""
    torch.set_num_threads(1)
    kept = torch.load(features())
    for bfloat16 in (False, True) if has_bfloat16() else (False,):
        for module in (search, bounds):  # an older commit asked in bounds
            module.has_bfloat16 = lambda found=bfloat16: found
        for size in SIZES:
            made = BankSearch(kept["bank"][:size].contiguous())
            for count in (784, 2304):
                seconds = []
                for image in kept["queries"][:, :count]:
                    start = time.process_time()
                    made(image)
                    seconds.append(time.process_time() - start)
                print(f"{size:6} {count:6} {'bf16' if bfloat16 else 'fp32'} {1000 * statistics.fmean(seconds[1:]):.1f}")


def sizes(before: str | None) -> None:
    """A table by size of the bank: this commit, and another one's checkout."""
    features()
    table: dict[str, dict[str, str]] = {}
    for name, root in (("this", Path(__file__).parents[1]), ("before", Path(before) if before else None)):
        if root is not None:
            path = os.pathsep.join(map(str, [root, *root.glob("plugins/*/src")]))
            command = [sys.executable, __file__, "--side"]
            ran = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True, text=True)
            for line in ran.stdout.splitlines():
                row, _, milliseconds = line.rpartition(" ")
                table.setdefault(row, {})[name] = milliseconds
    print("  bank queries      ms an image: this commit, before")
    for row, found in table.items():
        print(row, *(f"{value:>9}" for value in found.values()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs="?", const="", metavar="CHECKOUT")
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with torch.inference_mode():
        if options.side:
            side()
            return
        print(bench.machine())
        if options.sizes is not None:
            sizes(options.sizes)
            return
        for kind in ("mono", "poly"):
            compare(kind)


if __name__ == "__main__":
    main()
