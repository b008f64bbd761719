"""Nearest neighbours in a memory bank of 10 % of the patches: exact and approximate, seconds an image and image AUROC.

    python benchmarks/search.py

PatchCore's `edge` features of the ELPV split, its exact coreset; 200 test images of 784 patches each. One bank, the same
queries for all; searches take turns. `exact` is `model.search=exact`, with products in bfloat16 where the CPU has them;
`faiss flat` is faiss's own exact search. `ivf` and `hnsw` include the exact search of each image's farthest patches, without
which the rows that say `alone` are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import bench
import faiss
import torch
from torch import Tensor

from anomaly_core import Sample
from anomaly_metrics import auroc
from anomaly_patchcore import BankSearch, k_center_greedy, nearest

IMAGES = 20  # a turn


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
    for name, search in searches.items():
        distances, indices = search(queries)
        value = auroc(distances.view(len(test), -1).amax(dim=1), labels)
        same = float((indices.view_as(exact) == exact).float().mean())
        ratios = (seconds[other] / seconds[name] for other in ("torch, float32", "faiss flat"))
        print(
            f"{name:18}{1000 * seconds[name] / IMAGES:12.1f}",
            *(f"{r:9.1f}" for r in ratios),
            f"{value:8.4f}{same:16.4f}",
            flush=True,
        )


def main() -> None:
    print(bench.machine())
    with torch.inference_mode():
        for kind in ("mono", "poly"):
            compare(kind)


if __name__ == "__main__":
    main()
