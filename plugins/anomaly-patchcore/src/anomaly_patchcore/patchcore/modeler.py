"""PatchCoreModeler: a frozen backbone and PatchCore's memory, as a run drives them. Paper and deviations: see ``model.py``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anomaly_core import ConfigError, DataError, InputSpec, MemoryModeler, ModelContext, Prediction, RunError
from anomaly_features import ExtractorModeler, FeatureExtractor
from anomaly_patchcore.patchcore.config import PatchCoreConfig
from anomaly_patchcore.patchcore.extending import projection_of_fit
from anomaly_patchcore.patchcore.left_out import LeftOut
from anomaly_patchcore.patchcore.model import PatchCoreModel
from anomaly_patchcore.patchcore.store import PatchStore, parse_bytes
from anomaly_patchcore.search import require_faiss

if TYPE_CHECKING:
    from accelerate import Accelerator


class PatchCoreModeler(ExtractorModeler, MemoryModeler):
    """PatchCore behind the core's interface.

    Args:
        config: its options.
        context: of the run.

    Raises:
        ConfigError: an even patch size, a backbone or a layer that does not exist, a budget that is no size, an approximate
            search without faiss.
        BackboneError: no source has the weights.
    """

    config: PatchCoreConfig

    def __init__(self, config: PatchCoreConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        if config.patch_size % 2 == 0:
            raise ConfigError(f"model.patch_size={config.patch_size} is even: a patch needs a centre. Choose 1, 3, 5, ...")
        require_faiss(config.search)
        self._budget = None if config.memory_budget is None else parse_bytes(config.memory_budget)
        # drawn before anything else, so that the same seed gives the same bank whatever is built or loaded in between
        self._seed = int(torch.randint(2**31, (1,)))
        self.extractor = FeatureExtractor(config.backbone, config.layers, config.weights(self.context), config)
        self.input_spec = InputSpec.from_config(config, self.extractor.mean, self.extractor.std)
        self.model = PatchCoreModel(
            config.patch_size,
            config.pretrain_dim,
            config.target_dim,
            config.neighbors,
            config.reweight,
            config.reweight_neighbors,
            config.sigma,
            config.search,
            getattr(torch, config.bank_dtype),
        )
        self._store = self._new_store()
        self._collected = 0  # images
        self._owners = torch.empty(0, dtype=torch.int32)  # of each entry of the bank; not saved
        self._left_out: LeftOut | None = None
        self._keeps = False  # whether the patches are needed after the bank is built
        self._built = False
        self._extends = False  # the next memory is the bank and what is collected

    @contextmanager
    def fitting(self, repeated: bool) -> Iterator[None]:
        self._keeps = repeated  # images come again to be scored without themselves
        with super().fitting(repeated):
            try:
                yield
            finally:
                self._keeps, self._left_out = False, None

    def embed(self, images: Tensor) -> Tensor:
        """float32 (B, 3, H, W) in [0, 1] -> (B, h, w, D) patches."""
        return self.model.embed(self.extractor(images))

    def collect(self, images: Tensor) -> None:
        patches = self.embed(images)  # (B, h, w, D)
        numbers = torch.arange(self._collected, self._collected + len(images), dtype=torch.int32, device=patches.device)
        self._collected += len(images)
        self._store.add(patches.flatten(0, 2), owners=numbers.repeat_interleave(patches.shape[1] * patches.shape[2]))

    def merge(self, accelerator: Accelerator) -> None:
        if accelerator.num_processes == 1:
            return
        if self._store.budget is not None:  # so that all of them together fit into each one's budget
            self._store.shrink(self._store.capacity // accelerator.num_processes)
        patches = self._patches()
        reach = self._store.reach
        first = accelerator.gather(torch.tensor([self._collected], device=patches.device))[: accelerator.process_index].sum()
        # owners and reach travel as two more columns; a float32 holds the numbers of 16 million images exactly
        owners = (self._store.owners + first)[:, None].float()
        extents = torch.zeros_like(owners) if reach is None else reach[:, None]
        patches = torch.cat([patches, owners, extents], dim=1)
        counts = accelerator.gather(torch.tensor([len(patches)], device=patches.device))
        totals = accelerator.gather(torch.tensor([self._store.total], device=patches.device))
        parts = accelerator.gather(accelerator.pad_across_processes(patches)).split(int(counts.max()))
        store = self._new_store()
        for part, count, total in zip(parts, counts.tolist(), totals.tolist(), strict=True):
            rows = part[:count]
            store.add(rows[:, :-2], None if reach is None else rows[:, -1], total, rows[:, -2].int())
        self._store = store

    def reopen(self) -> None:
        """The bank stays, and :meth:`build` adds to it what is collected from now on.

        The projection that the coreset was searched in is not saved but drawn again by the seed of torch's global generator
        when the modeler was made: under the run's seed it is the same.
        """
        self._require_bank()
        self._store, self._extends = self._new_store(), True

    def build(self) -> None:
        if self._extends:
            self._extend()
            return
        patches, store = self._patches(), self._store
        if store.budget is None:
            generator = torch.Generator().manual_seed(self._seed)
            picked = self.model.build(patches, self.config.coreset_ratio, self.config.projection_dim, generator)
        else:
            picked = self.model.build_streamed(store, self.config.coreset_ratio)
            wanted = max(1, int(store.total * self.config.coreset_ratio))
            if len(store) < wanted:
                warnings.warn(
                    f"model.memory_budget={self.config.memory_budget} holds {len(store)} patches: fewer than the {wanted} that "
                    f"model.coreset_ratio={self.config.coreset_ratio} asks for. The memory bank has {len(store)}.",
                    stacklevel=2,
                )
        self._owners = store.owners[picked]
        if self._keeps:
            projection = self.model.projection
            searched = patches @ projection if len(projection) else patches
            self._left_out = LeftOut(patches, searched, store.owners, picked)
        self._store, self._collected = self._new_store(), 0
        self._built = True

    def _extend(self) -> None:
        """Add what was collected since :meth:`reopen` to the bank; nothing may have been."""
        if len(self._store):
            bank, projection_dim = self.model.memory_bank, self.config.projection_dim
            projection = projection_of_fit(bank, projection_dim, self._seed, self._budget)
            self._store.projection = projection  # where its coresets are searched
            self.model.extend(self._store, self.config.coreset_ratio, projection)
            self._built, self._owners, self._left_out = True, self._owners[:0], None  # the first images' are not saved
        self._store, self._collected, self._extends = self._new_store(), 0, False

    @property
    def leaves_out(self) -> float:  # type: ignore[override]  # depends on the bank
        """Any number of images, if others remain."""
        return math.inf if self._left_out is not None or len(self._owners.unique()) > 1 else 0

    def predict_without(self, images: Tensor, numbers: Sequence[Tensor]) -> Prediction:
        patches, size, parts = self.embed(images), (images.shape[-2], images.shape[-1]), []
        for _, run in groupby(range(len(images)), key=lambda i: id(numbers[i])):
            rows = list(run)
            if self._left_out is None:
                bank = self.model.memory_bank[~torch.isin(self._owners, numbers[rows[0]])]
            else:
                bank = self._left_out.bank(numbers[rows[0]])
            if not len(bank):
                raise DataError(
                    "PatchCore's memory bank has patches of one group of images alone, so that these cannot be scored without "
                    "them. Raise model.coreset_ratio, or set base.calibration=holdout."
                )
            with self.model.having(bank):
                parts.append(Prediction(*self.model.score(patches[rows], size)))
        return Prediction.joined(parts)

    def held_out_step(self, images: Tensor) -> dict[str, Tensor]:
        """``coverage``: share of the images' patches that are as near to the bank as the farthest training patch.

        A share far below 1 says that the bank does not yet know what normal looks like: more normal images are needed. Nothing
        where the bank holds every training patch, which are then at distance 0. See :meth:`PatchCoreModel.coverage` for units.
        """
        if not float(self.model.coreset_radius):
            return {}
        if self.config.projection_dim and not self._built:
            raise RunError(
                "the coverage of a loaded PatchCore is unknown: the projection that its coreset was searched in is not saved. "
                "It is measured when a run is fitted, and stands in its history.csv."
            )
        return {"coverage": self.model.coverage(self.embed(images))}

    def _new_store(self) -> PatchStore:
        return PatchStore(self._budget, self._seed, self.config.projection_dim, self.config.coreset_ratio)

    def _patches(self) -> Tensor:
        if not len(self._store):
            raise DataError(
                "PatchCore saw no training image, so that there is nothing to remember. Check data.root and data.category."
            )
        return self._store.patches()

    def predict_step(self, images: Tensor) -> Prediction:
        self._require_bank()
        scores, maps = self.model(self.extractor(images), (images.shape[-2], images.shape[-1]))
        return Prediction(scores, maps)

    def _require_bank(self) -> None:
        if not len(self.model.memory_bank):
            raise RunError("PatchCore's memory bank is empty. Fit it first, or load a finished run.")

    def prepare_export(self) -> None:
        """A graph cannot contain a faiss index: exported models search exactly, even if the run does not."""
        self.model.search_exactly()

    def describe(self) -> dict[str, float]:
        size, dim = self.model.memory_bank.shape
        return {
            "memory_bank_size": float(size),
            "embedding_dim": float(dim),
            "coreset_radius": float(self.model.coreset_radius),
        }
