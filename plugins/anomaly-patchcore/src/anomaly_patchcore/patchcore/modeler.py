"""PatchCoreModeler: a frozen backbone and PatchCore's memory, as a run drives them. Paper and deviations: see ``model.py``."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anomaly_core import ConfigError, DataError, InputSpec, MemoryModeler, ModelContext, Prediction, RunError
from anomaly_features import ExtractorModeler, FeatureExtractor, TransformerExtractor, fingerprints, is_transformer
from anomaly_patchcore.padim.moments import Moments
from anomaly_patchcore.patchcore.budget import divided, require_room
from anomaly_patchcore.patchcore.config import PatchCoreConfig
from anomaly_patchcore.patchcore.exchange import exchanged, origins
from anomaly_patchcore.patchcore.extending import projection_of_fit
from anomaly_patchcore.patchcore.left_out import LeftOut
from anomaly_patchcore.patchcore.model import PatchCoreModel
from anomaly_patchcore.patchcore.rows import Rows
from anomaly_patchcore.patchcore.store import SAMPLE, PatchStore
from anomaly_patchcore.patchcore.whitening import whitening_of
from anomaly_patchcore.search import require_faiss

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger("anomaly_core.patchcore")  # a command shows what the core's logger and those below it are given


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
        if config.neighbourhood is not None and config.search != "exact":
            raise ConfigError(
                f"model.neighbourhood={config.neighbourhood} compares few entries with each patch, and model.search="
                f"{config.search} is an index of all. Set model.search=exact, or model.neighbourhood=null."
            )
        self._budget, image_room = divided(config)
        if image_room is not None:
            self.image_room = image_room
        # drawn before anything else, so that the same seed gives the same bank whatever is built or loaded in between
        self._seed = int(torch.randint(2**31, (1,)))
        self.extractor = self._new_extractor()
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
            config.whiten,
            config.neighbourhood,
        )
        self._store = self._new_store()
        self._collected = 0  # images
        self._moments: Moments | None = None  # of all patches that are collected, for the whitening
        self._grids: set[tuple[int, int]] = set()  # (h, w) of their patches
        self._numbers: dict[tuple[int, int], int] = {}  # of this process's images, by their content
        self._owners = torch.empty(0, dtype=torch.int32)  # of each entry of the bank; not saved
        self._origins = torch.empty(0, 3, dtype=torch.int32)  # of each patch that is held after the bank is built
        self._left_out: LeftOut | None = None
        self._keeps = False  # whether the patches are needed after the bank is built
        self._fits = False  # whether held-out images will come again, to be scored
        self._scored: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # of held-out images, by their content: score, patches'
        self._kept: Rows | Tensor | None = None  # all patches that were collected, image by image
        self._built = False
        self._extends = False  # the next memory is the bank and what is collected

    @contextmanager
    def fitting(self, repeated: bool) -> Iterator[None]:
        """Images that come again find their patches here (:meth:`predict_without`), unless these are thinned. Then features are
        cached, by ``feature_cache=auto`` only where no budget bounds the memory. Held-out images find their scores."""
        self._keeps, self._fits = repeated, True
        config = self.config
        again = config.feature_cache == "ram" or (config.coreset == "streamed" and config.memory_budget is None)
        with super().fitting(repeated and again):
            try:
                yield
            finally:
                self._keeps, self._fits, self._left_out, self._kept = False, False, None, None
                self._origins, self._moments = self._origins[:0], None
                self._numbers.clear()
                self._scored.clear()
                self._grids.clear()

    def embed(self, images: Tensor) -> Tensor:
        """float32 (B, 3, H, W) in [0, 1] -> (B, h, w, D) patches."""
        return self.model.embed(self.feature_maps(images))

    def collect(self, images: Tensor) -> None:
        patches = self.embed(images)  # (B, h, w, D)
        if not self._collected and not self._extends:
            require_room(self._store, self.config, self.expected, patches)
        self._grids.add((patches.shape[1], patches.shape[2]))
        numbers = torch.arange(self._collected, self._collected + len(images), dtype=torch.int32, device=patches.device)
        self._collected += len(images)
        if self.config.whiten and not self._extends:
            self._moments = self._moments or Moments(1, patches.shape[3], patches.device)
            self._moments.add(patches.flatten(0, 2)[None])
        self._store.add(patches.flatten(0, 2), origins=origins(numbers, *patches.shape[1:3]))
        if self._store.reach is not None or len(self._grids) > 1:
            self._numbers.clear()  # no image's patches will be found again
        elif self._keeps:
            self._numbers |= dict(zip(fingerprints(images), numbers.tolist(), strict=True))

    def merge(self, accelerator: Accelerator) -> None:
        if accelerator.num_processes == 1:
            return
        self._require_patches()
        if self._moments is not None:
            self._moments.merge(accelerator)
        self._store, first = exchanged(self._store, self._new_store(), self._collected, accelerator)
        self._numbers = {key: number + first for key, number in self._numbers.items()}

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
        self._require_patches()
        store, wanted, config = self._store, self._store.wanted, self.config
        chosen = self.model.build_from(store)
        if len(chosen.picked) < wanted:
            option = "coreset_ratio" if config.bank_size is None else "bank_size"
            warnings.warn(
                f"model.memory_budget={config.memory_budget} holds a memory bank of {len(chosen.picked)} patches, not of the "
                f"{wanted} that model.{option}={getattr(config, option)} asks for. Raise the budget or ask for a smaller bank.",
                stacklevel=2,
            )
        if (measured := self.model.measured_radius) is not None:
            log.info(
                "the coreset covers the patches within a radius of %.4g, measured on those that were kept and on %s drawn at "
                "random; that of all is at most %.4g.",
                measured,
                f"{min(SAMPLE, store.total):,}",
                float(self.model.coreset_radius),
            )
        if self._moments is not None:
            self.model.whitening = self._whitening(self._moments)
        self._origins = store.origins
        self._owners = self._origins[chosen.picked, 0]
        if self._keeps:
            search = None if config.whiten else self.model.exact_search()  # a whitening changes with what is left out
            searched = chosen.searched if search is None else chosen.patches
            owners = self._origins[:, 0]
            self._left_out = LeftOut(chosen.patches, searched, owners, chosen.picked, search, config.neighbors)
            self._kept = chosen.patches if len(chosen.patches) == store.total and len(self._grids) == 1 else None
        if not self._keeps:
            self._origins, self._moments = self._origins[:0], None
        self._store, self._collected = self._new_store(), 0
        self._built = True

    def _extend(self) -> None:
        """Add what was collected since :meth:`reopen` to the bank; nothing may have been."""
        if len(self._store):
            bank, projection_dim = self.model.memory_bank, self.config.projection_dim
            projection = projection_of_fit(bank, projection_dim, self._seed, self._store.thins)
            self._store.projection = projection  # where its coresets are searched
            if self.config.bank_size:
                self._store.size = 1  # the bank has its size: only patches beyond its radius join it, and one at least
            self.model.extend(self._store, projection)
            self._built, self._owners, self._left_out = True, self._owners[:0], None  # the first images' are not saved
        self._store, self._collected, self._extends = self._new_store(), 0, False

    @property
    def leaves_out(self) -> float:  # type: ignore[override]  # depends on the bank
        """Any number of images, if others remain."""
        return math.inf if self._left_out is not None or len(self._owners.unique()) > 1 else 0

    def predict_without(self, images: Tensor, numbers: Sequence[Tensor]) -> Prediction:
        size, kept, parts = (images.shape[-2], images.shape[-1]), self._kept_patches(images), []
        patches = self._embed_again(images, kept)
        for _, run in groupby(range(len(images)), key=lambda i: id(numbers[i])):
            rows = list(run)
            with self._bank_without(numbers[rows[0]], [kept[i] for i in rows]):
                parts.append(Prediction(*self.model.score(patches[rows], size)))
        return Prediction.joined(parts)

    def _bank_without(self, numbers: Tensor, scored: list[slice | None]) -> AbstractContextManager[None]:
        """The model searches a bank, and whitens, as if it had not seen the images of these numbers; where their patches are
        held no longer, it whitens as it does. ``scored``: which patches will be scored, of each image."""
        lost, regained, places, known = torch.isin(self._owners, numbers), self.model.memory_bank[:0], None, None
        if self._left_out is not None:
            lost, rows = self._left_out.rows_without(numbers)
            regained, places = self._left_out.patches[rows], self._origins[rows, 1:]
            known = self._left_out.neighbours(scored)
        if lost.all() and not len(regained):
            raise DataError(
                "PatchCore's memory bank has patches of one group of images alone, so that these cannot be scored without "
                "them. Raise model.coreset_ratio, or set base.calibration=holdout."
            )
        whitening = None
        if self._moments is not None and self._kept is not None:
            own = torch.isin(self._origins[:, 0], numbers).nonzero()[:, 0]
            whitening = self._whitening(self._moments.without(self._kept[own][None].float()))
        return self.model.without(lost, regained, places, whitening, known)

    def _whitening(self, moments: Moments) -> Tensor:
        return whitening_of(moments, self.config.whiten_components, self.config.whiten_shrinkage)

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
        patches = self.embed(images)
        if self._fits:  # they are scored next, and need not be embedded again
            scores, of_patches = self.model.score_patches(patches)
            self._scored |= dict(zip(fingerprints(images), zip(scores, of_patches, strict=True), strict=True))
        return {"coverage": self.model.coverage(patches)}

    def _new_store(self) -> PatchStore:
        config = self.config
        return PatchStore(
            self._budget,
            self._seed,
            config.projection_dim,
            config.coreset_ratio,
            config.bank_size,
            config.coreset == "streamed",
            getattr(torch, config.collect_dtype),
            config.whiten or config.neighbourhood is not None,
        )

    def _new_extractor(self) -> FeatureExtractor | TransformerExtractor:
        config, weights = self.config, self.config.weights(self.context)
        if is_transformer(config.backbone):
            size = InputSpec.from_config(config).output_size
            return TransformerExtractor(config.backbone, config.layers, size, weights, config)
        return FeatureExtractor(config.backbone, config.layers, weights, config)

    def _require_patches(self) -> None:
        if not len(self._store):
            raise DataError(
                "PatchCore saw no training image, so that there is nothing to remember. Check data.root and data.category."
            )

    def _kept_patches(self, images: Tensor) -> list[slice | None]:
        """Which of all patches are those of each image that was collected, if all are still held."""
        if self._kept is None:
            return [None] * len(images)
        ((height, width),) = self._grids
        starts = (self._numbers.get(key) for key in fingerprints(images))
        return [None if n is None else slice(n * height * width, (n + 1) * height * width) for n in starts]

    def _embed_again(self, images: Tensor, kept: Sequence[slice | None]) -> Tensor:
        """As :meth:`embed`, but for patches that are kept."""
        others = [i for i, patches in enumerate(kept) if patches is None]
        if self._kept is None or len(others) == len(images):
            return self.embed(images)
        new, (grid,) = iter(self.embed(images[others]) if others else ()), self._grids
        return torch.stack([next(new) if p is None else self._kept[p].float().view(*grid, -1) for p in kept])

    def predict_step(self, images: Tensor) -> Prediction:
        self._require_bank()
        size = (images.shape[-2], images.shape[-1])
        if self._scored:
            known = [self._scored.get(key) for key in fingerprints(images)]
            found = [one for one in known if one is not None]
            if len(found) == len(images):
                scores, of_patches = (torch.stack(part) for part in zip(*found, strict=True))
                return Prediction(scores, self.model.maps(of_patches, size))
        return Prediction(*self.model(self.feature_maps(images), size))

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
            **({} if self.model.measured_radius is None else {"coreset_radius_measured": self.model.measured_radius}),
        }
