"""Nearest neighbours in a memory bank: exact in torch, or by an index of faiss; their distances always from differences."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor

from anomaly_core import ConfigError, has_bfloat16
from anomaly_patchcore import bounds, cells
from anomaly_patchcore.bounds import BoundedSearch, filled, squared_distances
from anomaly_patchcore.cells import CellSearch

Kind = Literal["exact", "once", "ivf", "hnsw"]

SPARE = 1  # candidates beyond k, so that rounding of the products does not hide the true neighbour
CELLS, ROWS = 2**20, 512  # distances that are held at once, so that they stay in the cache; of so many queries at least
MEMBERS = 8  # columns of a group, of which the least is looked at first
PROBES = 12  # cells of an inverted file that a query looks into
LINKS, CONSTRUCTION, EFFORT = 16, 100, 16  # of an HNSW graph: links an entry, and list lengths while building and searching
INDEXED: tuple[Kind, ...] = ("ivf", "hnsw")
FARTHEST = 4  # patches of an image that are searched exactly at once


def nearest(queries: Tensor, bank: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k nearest bank entries of each query, by Euclidean distance.

    Candidates come from |q|^2 - 2qb + |b|^2; the distances of the winners are computed again from differences, so that they
    do not depend on how the queries are batched.

    Args:
        queries: float (N, D).
        bank: float (M, D) with M >= 1, of any precision; computed in float32.
        k: neighbours a query; no more than M are returned.

    Returns:
        float32 (N, min(k, M)) **squared** distances, ascending, and int64 indices into the bank of the same shape.
    """
    k = min(k, len(bank))
    with torch.autocast(queries.device.type, enabled=False):
        queries, bank = queries.float(), bank.float()
        centre, centred, norms = _centred(bank)
        if is_exported():  # a graph must fit any number of queries
            return _nearest(queries, bank, queries - centre, centred, norms, k)
        split = queries.split(max(ROWS, CELLS // len(bank)))
        distances, indices = filled(len(queries), (_nearest(part, bank, part - centre, centred, norms, k) for part in split))
    return distances, indices


def least_distances(queries: Tensor, bank: Tensor, added: Tensor | None = None) -> Tensor:
    """The squared distance of each query to its nearest entry, from products alone.

    For a graph that is taken for an export: there the least value of a row costs a quarter of what its place costs. The
    rounding of |q|^2 - 2qb + |b|^2 stays in it, in the precision that the engine computes in.

    Args:
        queries, bank: as :func:`nearest`.
        added: float32 (n, M), where N is a multiple of n: what is added to the squared distances of each n queries.

    Returns:
        float32 (N,).
    """
    centre, centred, norms = _centred(bank.float())
    queries = queries.float() - centre
    products = torch.addmm(norms, queries, centred.T, alpha=-2)
    if added is not None:
        products = (products.view(-1, *added.shape) + added).flatten(0, 1)
    least = products.amin(dim=1)
    return (least + queries.square().sum(dim=1)).clamp(min=0)


def _centred(bank: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A bank's centre (D,), its entries (M, D) less that, and their squared norms (M,): smaller norms, smaller rounding."""
    centre = bank.mean(dim=0)
    centred = bank - centre
    return centre, centred, (centred * centred).sum(dim=1)


def _nearest(
    queries: Tensor, bank: Tensor, centred_queries: Tensor, centred: Tensor, norms: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    # the queries' own norms change no ranking and are left out: (n, M)
    products = torch.addmm(norms, centred_queries, centred.T, alpha=-2)
    return _ranked(queries, bank, _smallest(products, min(k + SPARE, len(bank))), k)


def _smallest(values: Tensor, k: int) -> Tensor:
    """int64 (n, k) columns of the k smallest of each row of (n, m) values, in no particular order.

    Selecting from whole rows costs as much as the products that fill them. So columns are put into groups first: the k smallest
    values lie in the k groups whose least values are the smallest, and what stands in no group is looked at too.
    """
    size = values.shape[1]
    groups = size // MEMBERS
    if groups < 2 * k or is_exported():
        return values.topk(k, dim=1, largest=False).indices
    least = values[:, : groups * MEMBERS].unflatten(1, (MEMBERS, groups)).amin(dim=1)
    columns = torch.arange(0, groups * MEMBERS, groups, device=values.device)
    columns = (least.topk(k, dim=1, largest=False).indices[:, :, None] + columns).flatten(1)
    if size % MEMBERS:
        rest = torch.arange(groups * MEMBERS, size, device=values.device).expand(len(values), -1)
        columns = torch.cat([columns, rest], dim=1)
    return columns.gather(1, values.gather(1, columns).topk(k, dim=1, largest=False).indices)


def _ranked(queries: Tensor, bank: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of each query's candidates (n, c), by differences."""
    exact = squared_distances(queries, bank, candidates)
    if is_exported():  # ONNX has no stable sort
        distances, order = exact.topk(k, dim=1, largest=False)
        return distances, candidates.gather(1, order)
    distances, order = exact.sort(dim=1, stable=True)
    return distances[:, :k], candidates.gather(1, order)[:, :k]


class BankSearch:
    """One bank, prepared for many queries.

    ``exact`` finds what :func:`nearest` does, on the CPU in half of the time where that multiplies bfloat16
    (:class:`~anomaly_patchcore.bounds.BoundedSearch`), elsewhere in less for banks of some thousand entries
    (:class:`~anomaly_patchcore.cells.CellSearch`). ``once`` is :func:`nearest` itself: to prepare a bank that is searched for
    one image alone costs more than it saves. ``ivf`` (an inverted file) and ``hnsw`` (a graph) run on the CPU, may
    miss a neighbour for a farther one, and give the same answers each time that they are built from the same bank;
    :meth:`of_images` has image scores exact all the same.

    Args:
        bank: float (M, D) with M >= 1.
        kind: ``exact``, ``once``, ``ivf`` or ``hnsw``.

    Raises:
        ConfigError: ``ivf`` or ``hnsw`` without faiss.
    """

    def __init__(self, bank: Tensor, kind: Kind = "exact") -> None:
        require_faiss(kind)
        self.bank = bank
        self.kind = kind
        self._index: Any = _index(bank, kind) if kind in INDEXED else None
        self._exact = BankSearch(bank) if kind in INDEXED else None
        self._bounded = _bounded(bank) if kind == "exact" and bank.device.type == "cpu" else None

    @property
    def exact(self) -> BankSearch:
        """The exact search in the bank: itself, or one beside the index."""
        return self._exact or self

    def __call__(self, queries: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """As :func:`nearest`."""
        if not len(queries):
            return nearest(queries, self.bank, k)
        with torch.autocast(queries.device.type, enabled=False):
            if self._bounded is not None and self._bounded.takes(k):
                distances, indices, proved = self._bounded(queries.float(), k)
                if isinstance(self._bounded, CellSearch) and 2 * int(proved.sum()) < len(proved):
                    self._bounded = None  # its bounds are too loose for such features
            elif self._index is not None:
                distances, indices, proved = self._indexed(queries.float(), k)
            else:
                return nearest(queries, self.bank, k)
        open_ = (~proved).nonzero()[:, 0]
        if len(open_):
            distances[open_], indices[open_] = nearest(queries[open_], self.bank, k)
        return distances, indices

    def of_images(self, patches: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """The neighbours of all patches of some images, those of each image's farthest patch exact whatever the kind.

        A graph now and then misses a patch's neighbours by far, and one such patch would be its image's score. But what an
        index finds is never nearer than the truth: a patch that was searched exactly and still is the farthest is the farthest.

        Args:
            patches: float (B, n, D), n patches an image.
            k: as :func:`nearest`; the farthest patch is that of the greatest mean distance.

        Returns:
            float32 and int64 (B, n, k), as :func:`nearest`.
        """
        images, count, _ = patches.shape
        flat = patches.flatten(0, 1)
        distances, indices = self(flat, k)
        certain = torch.zeros(len(flat), dtype=torch.bool, device=distances.device)
        first = count * torch.arange(images, device=distances.device)[:, None]
        while self._exact is not None:
            means = distances.mean(dim=1).view(images, count)
            farthest = first + means.topk(min(FARTHEST, count), dim=1).indices
            if certain[farthest[:, :1]].all():
                break
            rows = farthest[~certain[farthest]]
            distances[rows], indices[rows] = self._exact(flat[rows], k)
            certain[rows] = True
        return distances.unflatten(0, (images, count)), indices.unflatten(0, (images, count))

    def _indexed(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """As :func:`nearest`, and bool (N,): whether the index returned k entries."""
        import faiss

        k = min(k, len(self.bank))
        faiss.omp_set_num_threads(torch.get_num_threads())  # faiss has its own threads
        _, rows = self._index.search(queries.detach().cpu().contiguous().numpy(), min(k + SPARE, len(self.bank)))
        candidates = torch.from_numpy(rows).to(queries.device)
        distances, indices = _ranked(queries, self.bank, candidates.clamp(min=0), k)
        return distances, indices, (candidates >= 0).all(dim=1)  # fewer entries in the cells that were looked into


def _bounded(bank: Tensor) -> BoundedSearch | CellSearch | None:
    """The fastest exact search in a bank on the CPU; None: :func:`nearest`."""
    if has_bfloat16():  # then cells were measured to be no faster
        return BoundedSearch(bank) if len(bank) >= bounds.FEWEST else None
    return CellSearch(bank) if len(bank) >= cells.FEWEST and bank.isfinite().all() else None


def is_exported() -> bool:
    """Whether the running code is being traced into a graph."""
    return bool(torch._C._get_tracing_state()) or torch.compiler.is_compiling()


def has_faiss() -> bool:
    """Whether faiss can be imported."""
    return find_spec("faiss") is not None


def require_faiss(kind: Kind) -> None:
    """Raise ConfigError if the requested index needs faiss and faiss is not installed."""
    if kind in INDEXED and not has_faiss():
        raise ConfigError(
            f"model.search={kind} needs faiss, which is not installed. Run `pip install anomaly-patchcore[faiss]`, "
            "or use model.search=exact."
        )


def _index(bank: Tensor, kind: Kind) -> Any:
    import faiss

    rows = bank.detach().float().cpu().contiguous().numpy()
    size, dim = rows.shape
    threads = faiss.omp_get_max_threads()
    index: Any
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, LINKS)
        index.hnsw.efConstruction, index.hnsw.efSearch = CONSTRUCTION, EFFORT
        faiss.omp_set_num_threads(1)  # threads would link the entries in an order of their own
    else:
        cells = max(1, min(int(4 * size**0.5), size // 39))  # faiss wants 39 entries a cell to find its centre
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dim), dim, cells)
        index.nprobe = min(PROBES, cells)
        index.train(rows)  # its k-means has a fixed seed
    index.add(rows)
    faiss.omp_set_num_threads(threads)
    return index
