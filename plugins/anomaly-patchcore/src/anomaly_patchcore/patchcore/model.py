"""PatchCore's network part: patch embedding, memory bank, scores.

Paper: Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022, https://arxiv.org/abs/2106.08265
Code: https://github.com/amazon-science/patchcore-inspection

Deviations:
- The coreset is the exact greedy k-center from one random start, in a random projection as the original; the original starts
  from its estimate of distances to ten random points.
- A patch is pooled before the deeper layer is resized, not after: both are linear, so that the embedding is the same and
  costs less.
- Nearest neighbours are searched exactly in torch; ``search="ivf"`` and ``"hnsw"`` are FAISS's and approximate in the maps:
  the patch that makes an image's score is searched exactly.
- Patches may be thinned while they are collected, within a budget of memory (:mod:`anomaly_patchcore.patchcore.store`).
- ``target_dim=None`` averages each patch, concatenates the layers and does not pool over channels (the `edge` preset).
- ``whiten=True`` compares patches after PCA whitening (:mod:`~anomaly_patchcore.patchcore.whitening`), ``neighbourhood`` only
  with entries from nearby places (:mod:`~anomaly_patchcore.patchcore.nearby`). The bank and its radius are the same as without.
- ``reweight=True`` is equation 7 of the paper, which the original code leaves out; its weight is applied to the official code's
  score, a squared distance, so that scores and maps keep one unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from anomaly_core import DataError
from anomaly_features import upsample_smooth
from anomaly_patchcore.coreset import k_center_greedy_with_radius
from anomaly_patchcore.patchcore.embedding import embedded
from anomaly_patchcore.patchcore.extending import chosen
from anomaly_patchcore.patchcore.graph import scored_in_graph
from anomaly_patchcore.patchcore.left_out import SearchWithout
from anomaly_patchcore.patchcore.nearby import NearbySearch, penalties
from anomaly_patchcore.patchcore.store import Chosen, PatchStore
from anomaly_patchcore.search import BankSearch, Kind, is_exported, nearest

HELD = ("memory_bank", "places", "whitening")  # the buffers that are others while images are left out


class PatchCoreModel(nn.Module):
    """From feature maps to scores; works with any feature extractor.

    Args:
        patch_size: side of a patch in feature cells, odd.
        pretrain_dim: values that each layer's patch is pooled to.
        target_dim: values of a patch's embedding; None: patches are averaged, layers concatenated, nothing pooled.
        neighbors: nearest bank entries whose squared distances are averaged.
        reweight, reweight_neighbors: the paper's equation 7 on the image score.
        sigma: of the Gaussian that smooths the map, in pixels.
        search: how neighbours are found, :class:`~anomaly_patchcore.search.BankSearch`. Its index is made from the bank when
            it is first needed and never saved; a graph taken of the model for an export searches exactly.
        bank_dtype: torch.float32, or torch.float16 for a bank of half the size; distances are computed in float32.
        whiten: distances are those of whitened patches; :attr:`whitening` must be set before patches are scored.
        neighbourhood: rows and columns between a patch and the entries that it is compared with, at most; None: all entries.

    Attributes:
        memory_bank: ``bank_dtype`` (M, D), empty until :meth:`build`.
        coreset_radius: float32 (): the largest distance of a training patch to the bank (not squared), where the coreset was
            searched: between projected patches if there is a projection. An upper bound of it where patches were dropped.
        measured_radius: the largest distance of the patches that were kept, and of 16,384 others drawn at random, where some
            were dropped; None where :attr:`coreset_radius` is that of all, and after loading.
        whitening: float32 (D, d), by which patches and entries are multiplied before they are compared; with ``whiten`` alone.
        places: int32 (M, 2): the row and column that each entry comes from; with ``neighbourhood`` alone.
        projection: float32 (D, projection_dim), or empty where the coreset was searched in all values. Not saved.
    """

    memory_bank: Tensor
    coreset_radius: Tensor
    projection: Tensor
    whitening: Tensor
    places: Tensor

    def __init__(
        self,
        patch_size: int = 3,
        pretrain_dim: int = 1024,
        target_dim: int | None = 1024,
        neighbors: int = 1,
        reweight: bool = False,
        reweight_neighbors: int = 9,
        sigma: float = 4.0,
        search: Kind = "exact",
        bank_dtype: torch.dtype = torch.float32,
        whiten: bool = False,
        neighbourhood: int | None = None,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.pretrain_dim = pretrain_dim
        self.target_dim = target_dim
        self.neighbors = neighbors
        self.reweight = reweight
        self.reweight_neighbors = reweight_neighbors
        self.sigma = sigma
        self.search = search
        self.bank_dtype = bank_dtype
        self.whiten = whiten
        self.neighbourhood = neighbourhood
        if whiten:
            self.register_buffer("whitening", torch.empty(0, 0))
        if neighbourhood is not None:
            self.register_buffer("places", torch.empty(0, 2, dtype=torch.int32))
        self.register_buffer("memory_bank", torch.empty(0, target_dim or 0, dtype=bank_dtype))
        self.register_buffer("coreset_radius", torch.tensor(0.0))
        self.register_buffer("projection", torch.empty(0, 0), persistent=False)
        self.measured_radius: float | None = None
        self._search_of: tuple[Tensor, BankSearch | NearbySearch] | None = None  # a bank, and the search in it
        self._without: SearchWithout | None = None

    def embed(self, features: Sequence[Tensor]) -> Tensor:
        """Feature maps of one batch, the shallowest first, as patches.

        Args:
            features: float (B, C_i, h_i, w_i), one a layer.

        Returns:
            float32 (B, h_0, w_0, D): D is ``target_dim``, or the sum of the channels where that is None.
        """
        return embedded(features, self.patch_size, self.pretrain_dim, self.target_dim)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Feature maps to image scores (B,) and anomaly maps (B, 1, *size): :meth:`embed`, then :meth:`score`."""
        return self.score(self.embed(features), size)

    def build(
        self, patches: Tensor, ratio: float, projection_dim: int | None = 128, generator: torch.Generator | None = None
    ) -> Tensor:
        """Fill the memory bank with a coreset of all training patches.

        Args:
            patches: float32 (N, D).
            ratio: share of them that is kept, at least one.
            projection_dim: the coreset is searched in a random projection to so many values; None or 0: in all D.
            generator: a CPU generator for the projection and the first pick.

        Returns:
            int64 (M,): which patches the bank has, in its order.
        """
        store = PatchStore(projection_dim=projection_dim, ratio=ratio)
        store.generator = generator
        store.add(patches)
        return self.build_from(store).picked

    def build_from(self, store: PatchStore) -> Chosen:
        """Fill the memory bank from a store: with the coreset of its patches, or, if it has dropped some, with a coreset of
        coresets. The store is used up.

        Returns:
            What was chosen, and what it was chosen from.
        """
        count, reach = store.settle(), store.reach  # settling may drop patches
        first = int(torch.randint(len(store), (1,), generator=store.generator)) if not store.thins else -1
        self.projection = torch.empty(0, 0, device=store.rows.device)
        if count == len(store) and reach is None:
            searched = store.rows.drained()
            picked = torch.arange(count, device=searched.device)
            self._remember(searched, 0.0, store.origins[:, 1:])
            return Chosen(picked, searched, searched)
        rows, searched = store.rows, store.searched()
        if store.projection is not None:
            self.projection = store.projection
        if first < 0:
            first = int(torch.randint(len(searched), (1,), generator=store.generator))
        picked, radius = k_center_greedy_with_radius(searched, count, first)
        if reach is not None:
            distances = nearest(searched, searched[picked])[0][:, 0].sqrt()
            radius = float((distances + reach).max())
            if store.sample is not None:
                sampled = float(nearest(store.sample, searched[picked])[0].max()) ** 0.5
                self.measured_radius = max(float(distances.max()), sampled)
        patches = rows if len(rows) else searched
        self._remember(patches[picked].float(), radius, store.origins[picked, 1:])
        return Chosen(picked, patches, searched)

    def extend(self, store: PatchStore, projection: Tensor | None) -> None:
        """Add patches of more normal images to the bank; all its entries stay (:func:`~.extending.chosen`).

        Args:
            store: the new patches, and how many of them the bank is to have; it is used up.
            projection: float32 (D, projection_dim): what the bank's coreset was searched in; None: all values.
        """
        bank = self.memory_bank
        self.projection = bank.new_empty(0, 0) if projection is None else projection
        patches, radius, places = chosen(self, store)
        if self.neighbourhood is not None:
            places = torch.cat([self.places, places])
        self._remember(torch.cat([bank.float(), patches]), radius, places)

    def coverage(self, patches: Tensor) -> Tensor:
        """Share of patches, float32 (..., D), that lie no farther from the bank than the coreset radius: float32 ().

        Both distances are taken where the coreset was searched: in the random projection if there is one.
        """
        distances, _ = nearest(self.project(patches.flatten(0, -2)), self.project(self.memory_bank.float()))
        return (distances[:, 0] <= self.coreset_radius**2).float().mean()

    def project(self, patches: Tensor) -> Tensor:
        """Patches, float32 (..., D), where the coreset was searched."""
        return patches @ self.projection if len(self.projection) else patches

    def _remember(self, patches: Tensor, radius: float, places: Tensor) -> None:
        bank = patches.to(self.bank_dtype)
        if not bank.isfinite().all():
            raise DataError(
                f"the patches hold values up to {float(patches.abs().max()):.3g}, too large for model.bank_dtype=float16. "
                "Use model.bank_dtype=float32."
            )
        self.memory_bank, self.coreset_radius = bank, torch.tensor(radius, device=patches.device)
        if self.neighbourhood is not None:
            self.places = places.to(bank.device)

    def compared(self, patches: Tensor) -> Tensor:
        """float32 (..., D) patches or entries as they are compared: whitened, where asked for."""
        return patches.float() @ self.whitening if self.whiten else patches

    def _neighbors(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances and indices (B * h * w, neighbors) of (B, h, w, D) patches, as they are compared."""
        search = self._without or self._of_whole()
        if isinstance(search, NearbySearch):
            distances, indices = search.of_grids(patches, self.neighbors)
        else:
            distances, indices = search.of_images(patches.flatten(1, 2), self.neighbors)
        return distances.flatten(0, 1), indices.flatten(0, 1)

    def _of_whole(self) -> BankSearch | NearbySearch:
        if self._search_of is None or self._search_of[0] is not self.memory_bank:
            self._search_of = self.memory_bank, self._search_in(self.memory_bank)
        return self._search_of[1]

    def _search_in(self, bank: Tensor) -> BankSearch | NearbySearch:
        bank = self.compared(bank).to(self.bank_dtype)
        nearby = self.neighbourhood
        return BankSearch(bank, self.search) if nearby is None else NearbySearch(bank, self.places, nearby)

    def exact_search(self) -> BankSearch | None:
        """The exact search in the bank's entries as they are compared; None where that depends on a patch's place."""
        return search.exact if isinstance(search := self._of_whole(), BankSearch) else None

    @contextmanager
    def without(
        self,
        lost: Tensor,
        regained: Tensor,
        places: Tensor | None = None,
        whitening: Tensor | None = None,
        known: tuple[Tensor, Tensor] | None = None,
    ) -> Iterator[None]:
        """Inside, the memory bank lacks some entries, has others instead, and is searched exactly.

        Args:
            lost: bool (M,): the entries that it lacks.
            regained, places: float (n, D) and int32 (n, 2): those that it has instead, and where they come from.
            whitening: the one that holds inside; None: the same.
            known: of the patches that will be scored inside, all at once, as ``SearchWithout`` has it.
        """
        whole = None if whitening is not None else self.exact_search()
        before = self._search_of, self.search, {name: tensor for name, tensor in self.named_buffers() if name in HELD}
        regained = regained.to(self.bank_dtype)
        if whole is not None:
            self._without = SearchWithout(whole, lost, self.compared(regained).to(self.bank_dtype), known)
        if self._without is None or self.reweight:
            self.memory_bank, self.search = torch.cat([self.memory_bank[~lost], regained]), "once"
        if self.neighbourhood is not None:
            self.places = torch.cat([self.places[~lost], self.places[:0] if places is None else places.to(self.places)])
        if whitening is not None:
            self.whitening = whitening
        try:
            yield
        finally:
            self._search_of, self.search, buffers = before
            self._without = None
            for name, tensor in buffers.items():
                setattr(self, name, tensor)

    def search_exactly(self) -> None:
        """Search exactly from now on, regardless of ``search``."""
        self.search, self._search_of = "exact", None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._search_of = None  # the same tensor with other values

    def score(self, patches: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Image scores and anomaly maps.

        Args:
            patches: float32 (B, h, w, D) of :meth:`embed`.
            size: (H, W) of the maps.

        Returns:
            float32 (B,) scores: the largest patch score (a mean **squared** distance), re-weighted where asked
            for; and float32 (B, 1, *size) maps.
        """
        scores, of_patches = self.score_patches(patches)
        return scores, self.maps(of_patches, size)

    def maps(self, of_patches: Tensor, size: tuple[int, int]) -> Tensor:
        """float32 (B, 1, *size) maps of the patches' scores, float32 (B, h, w)."""
        return upsample_smooth(of_patches[:, None], size, self.sigma)

    def score_patches(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Image scores, float32 (B,), as :meth:`score` has them, and the scores of all patches, float32 (B, h, w)."""
        patches = self.compared(patches)
        batch, height, width, _ = patches.shape
        if is_exported():
            added = None
            if self.neighbourhood is not None:
                added = penalties(self.places, int(height), int(width), self.neighbourhood, self.neighbors)
            bank = self.compared(self.memory_bank)
            patch_scores, worst, distances, indices = scored_in_graph(patches, bank, self.neighbors, added)
        else:
            distances, indices = self._neighbors(patches)
            patch_scores = distances.mean(dim=1).view(batch, -1)  # (B * h * w, k) -> (B, h * w)
            rows = torch.arange(batch, device=patches.device) * height * width + patch_scores.argmax(dim=1)
            worst, distances, indices = patches.flatten(0, 2)[rows], distances[rows], indices[rows]
        scores = distances.mean(dim=1)
        if self.reweight:
            scores = scores * self._weight(worst, distances[:, 0], indices[:, 0])
        return scores, patch_scores.view(batch, height, width)

    def _weight(self, patches: Tensor, squared: Tensor, neighbor: Tensor) -> Tensor:
        """Equation 7's weight in (0, 1), of float32 (B,): a patch whose nearest entry is itself rare counts more."""
        bank = self.compared(self.memory_bank)
        _, around = nearest(bank[neighbor].float(), bank, self.reweight_neighbors)  # (B, b)
        distances = (patches[:, None] - bank[around]).square().sum(dim=2).sqrt()
        return 1 - torch.exp(squared.sqrt() - distances.logsumexp(dim=1))
