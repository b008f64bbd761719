"""AnomalyDINOModeler: a frozen backbone and AnomalyDINO's bank, as a run drives them. Deviations: see ``model.py``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anomaly_core import ConfigError, DataError, ModelContext, Prediction
from anomaly_dino.anomalydino.bank import PatchBank
from anomaly_dino.anomalydino.config import AnomalyDINOConfig
from anomaly_dino.anomalydino.model import AnomalyDINOModel
from anomaly_dino.foreground import foreground_mask
from anomaly_dino.patches import PatchModeler
from anomaly_dino.rotation import rotated

if TYPE_CHECKING:
    from accelerate import Accelerator

OF_MVTEC = {"capsule", "hazelnut", "pill", "screw", "toothbrush"}
OF_VISA = {"candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pipe_fryum"}
MASKED = OF_MVTEC | OF_VISA | {f"pcb{number}" for number in range(1, 5)}


class AnomalyDINOModeler(PatchModeler):
    """AnomalyDINO behind the core's interface.

    Args:
        config: its options.
        context: of the run.

    Raises:
        ConfigError: a backbone or a layer that does not exist, or an option that would be ignored.
        BackboneError: no source has the weights.
    """

    config: AnomalyDINOConfig

    def __init__(self, config: AnomalyDINOConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        if config.batched and (ignored := self._ignored()):
            raise ConfigError(f"model.batched=true would ignore {' and '.join(ignored)}. Leave that out.")
        self.model = AnomalyDINOModel(config.metric, config.neighbors, config.sigma, config.batched)
        self.masks = config.mask == "always"
        if config.mask == "paper" and (masked := MASKED.intersection(self.context.categories)):
            self.masks = len(masked) == len(self.context.categories)
            if not self.masks:
                warnings.warn(
                    f"model.mask=paper masks {', '.join(sorted(masked))} and not the other categories: learnt together, none "
                    "is masked. Set model.mask=always to mask all.",
                    stacklevel=2,
                )
        self._bank: PatchBank | None = None
        self._owners = torch.empty(0, dtype=torch.int32)  # the image of each row; not saved

    def _ignored(self) -> list[str]:
        """What does nothing where images are judged by one another."""
        config = self.config
        plain = {"metric": "cosine", "neighbors": 1, "mask_references": False}
        return [f"model.{name}={getattr(config, name)}" for name, usual in plain.items() if getattr(config, name) != usual]

    def collect(self, images: Tensor) -> None:
        count, height, width = 1 if self.config.batched else self.config.rotations, *images.shape[-2:]
        angles = torch.arange(count, device=images.device) * (360 / count)
        for image in images:
            copies = image[None]
            if count > 1:
                copies = rotated(image.expand(count, -1, height, width), angles, half=True)
            patches = self.finite_patches(copies)
            rows = self.model.rows(patches)
            if self._bank is None:
                expected = None if self.expected is None else self.expected * len(rows)
                self._bank = self._new_bank(expected)
            mask = self._mask(patches) if self.config.mask_references else None
            self._bank.add(rows if mask is None else rows[mask.flatten()])

    def merge(self, accelerator: Accelerator) -> None:
        if accelerator.num_processes == 1:
            return
        device = self.model.memory_bank.device
        bank = self._bank or self._new_bank()
        rows, owners = bank.rows()
        dim = int(accelerator.gather(torch.tensor([rows.shape[1]], device=device)).max())
        rows = rows.to(device).view(-1, dim)
        counts = accelerator.gather(torch.tensor([len(rows)], device=device)).tolist()
        images = accelerator.gather(torch.tensor([bank.images], device=device)).tolist()
        if not sum(counts):
            return
        first = sum(images[: accelerator.process_index])
        packed = torch.cat([rows, (owners.to(device) + first)[:, None].to(rows)], dim=1)  # a float32 holds 16 million exactly
        parts = accelerator.gather(accelerator.pad_across_processes(packed)).split(max(counts))
        merged = self._new_bank(sum(counts))
        for part, length in zip(parts, counts, strict=True):
            for owner in part[:length, -1].unique().tolist():
                merged.add(part[:length][part[:length, -1] == owner, :-1], int(owner))
        merged.images, merged.cut = sum(images), merged.cut or bank.cut
        self._bank = merged

    def build(self) -> None:
        if self._bank is None or not len(self._bank):
            raise DataError(
                "AnomalyDINO saw no training image, so that there is nothing to remember. Check data.root and data.category."
            )
        rows, owners = self._bank.rows()
        self.model.memory_bank, bank = rows.contiguous(), self._bank
        self._owners = owners[:0] if bank.cut else owners
        self._bank = None

    def reopen(self) -> None:
        """The bank is taken as patches of images that nobody tells apart, to which others are added."""
        rows = self.model.memory_bank
        self._bank = self._new_bank()
        self._bank.add(rows)
        self._bank.cut = True  # no image can be left out
        self.model.memory_bank = rows[:0]

    def _new_bank(self, expected: int | None = None) -> PatchBank:
        """An empty one; that of images which judge one another has all of their patches."""
        return PatchBank(None if self.config.batched else self.config.bank_size, self.config.bank_keeps, expected)

    @property
    def leaves_out(self) -> float:  # type: ignore[override]  # depends on the bank
        """Any number of images, if others remain: exact, as long as the bank has every patch."""
        return math.inf if len(self._owners.unique()) > 1 else 0

    def predict_without(self, images: Tensor, numbers: Sequence[Tensor]) -> Prediction:
        parts = []
        for _, run in groupby(range(len(images)), key=lambda i: id(numbers[i])):
            rows = list(run)
            lost = torch.isin(self._owners, numbers[rows[0]].to(self._owners))
            if lost.all():
                raise DataError(
                    "without this image AnomalyDINO's bank is empty. Add normal images, or set base.calibration=holdout."
                )
            with self.model.without(lost):
                parts.append(self.predict_step(images[rows]))
        return Prediction.joined(parts)

    def predict_step(self, images: Tensor) -> Prediction:
        patches = self.patches(images)
        return Prediction(*self.model(patches, (images.shape[-2], images.shape[-1]), self._mask(patches)))

    def _mask(self, patches: Tensor) -> Tensor | None:
        """Where the object is, bool (B, h, w); everywhere in an image where none is found. None: nothing is masked."""
        if not self.masks:
            return None
        mask = foreground_mask(patches, self.config.mask_threshold, morphology=self.config.mask_morphology)
        return mask | ~mask.flatten(1).any(dim=1)[:, None, None]

    def held_out_step(self, images: Tensor) -> dict[str, Tensor]:
        """``held_out_distance``: the mean distance of all patches of unseen normal images."""
        return {"held_out_distance": self.model.patch_scores(self.patches(images)).mean()}

    def describe(self) -> dict[str, float]:
        size, dim = self.model.memory_bank.shape
        return {"memory_bank_size": float(size), "embedding_dim": float(dim)}
