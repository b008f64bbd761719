"""EfficientADModeler: teacher, student, autoencoder and Adam, as a run drives them. Paper and deviations: see ``model.py``."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import cached_property

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, StepLR

from anomaly_core import Batch, ConfigError, GradientModeler, InputSpec, ModelContext, Prediction
from anomaly_distillation.efficientad.config import FEATURES, PUBLISHED, EfficientADConfig
from anomaly_distillation.efficientad.distilling import FeatureTeacher, PatchTarget, target_network
from anomaly_distillation.efficientad.model import QUANTILES, EfficientADModel, channel_statistics, quantile, whole_map
from anomaly_distillation.efficientad.networks import SHAPES, SMALLEST
from anomaly_distillation.efficientad.pictures import penalty_images, recoloured
from anomaly_distillation.efficientad.teachers import find_teacher, misfit
from anomaly_features import Backbones
from anomaly_trainers import PictureFolder

DECAY_AT, DECAY = 0.95, 0.1  # of the steps; of the learning rate


class EfficientADModeler(GradientModeler):
    """EfficientAD behind the core's interface.

    Args:
        config: its options.
        context: of the run; teacher and penalty images are looked for where it is fitted, not where a saved state follows.

    Raises:
        ConfigError: images too small; features of no network; a folder that does not exist.
        BackboneError: no teacher is to be found, or it does not fit; the features' network has no weights.
    """

    schedule_interval = "step"
    config: EfficientADConfig
    _mean: Tensor
    _std: Tensor
    teacher_published: Tensor

    def __init__(self, config: EfficientADConfig, context: ModelContext | None = None) -> None:
        super().__init__(config, context)
        self.input_spec = InputSpec.from_config(config)
        self._size = self.input_spec.output_size
        if min(self._size) < SMALLEST:
            raise ConfigError(
                f"images of {self._size[0]}x{self._size[1]} pixels are too small for EfficientAD: set model.image_size to "
                f"{SMALLEST} or more."
            )
        teacher = self._feature_teacher() if config.teacher == FEATURES else None
        self.model = EfficientADModel(SHAPES[config.size], self._size, teacher)
        for name, values in (("_mean", self.input_spec.mean), ("_std", self.input_spec.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("teacher_published", torch.tensor(0.0))
        self.origin = ""
        if self.context.pretrained:
            self._take_teacher()
            if config.penalty_images is not None:
                _ = self.penalty

    def _take_teacher(self) -> None:
        """Load the teacher from its file; warn where it is not the paper's."""
        config = self.config
        if config.teacher == FEATURES:
            self.origin = f"the patch features of {config.backbone}"
        else:
            teacher = find_teacher(config.size, None if config.teacher == PUBLISHED else config.teacher, config.backbones)
            try:
                self.model.teacher.load_state_dict(teacher.state)
            except RuntimeError as error:
                raise misfit(config.size, teacher.origin, error) from error
            self.origin = teacher.origin
            self.teacher_published.fill_(float(teacher.published))
        if not self.teacher_published:
            warnings.warn(
                f"efficientad: the teacher is not the paper's: {self.origin}. The paper's figures were reached with one that "
                "learnt from ImageNet for 60,000 steps.",
                stacklevel=3,
            )

    def _feature_teacher(self) -> FeatureTeacher:
        """The teacher that is no patch description network."""
        if self.config.backbone is None:
            raise ConfigError(
                "model.teacher=features needs the network whose features they are. Set model.backbone, such as "
                "model.backbone=tf_efficientnet_lite0."
            )
        weights = Backbones(self.config.backbones) if self.context.pretrained else None
        target = PatchTarget(target_network(self.config.backbone, weights), SHAPES[self.config.size].features)
        return FeatureTeacher(target, self._size, self.input_spec.mean, self.input_spec.std)

    @cached_property
    def penalty(self) -> PictureFolder:
        """The images of anything."""
        height, width = self._size
        return PictureFolder(self.config.penalty_images or "", "model.penalty_images", (2 * height, 2 * width))

    def computing(self, device: torch.device) -> dict[str, str]:
        """Where the teacher is from, and how its features are computed."""
        teacher = self.model.teacher
        how = teacher.target.extractor.computing(device) if isinstance(teacher, FeatureTeacher) else {}
        return {**({"teacher": self.origin} if self.origin else {}), **how}

    def warm_up(self, device: torch.device) -> None:
        """The network of the teacher's features is compiled."""
        if isinstance(teacher := self.model.teacher, FeatureTeacher):
            teacher.target.extractor.warm_up((2 * self._size[0], 2 * self._size[1]), device)

    def trained_state(self) -> dict[str, Tensor]:
        """The state without the network of the teacher's features, whose weights a run can load again."""
        return {
            name: value for name, value in self.state_dict().items() if not name.startswith("model.teacher.target.extractor.")
        }

    def describe(self) -> dict[str, float]:
        """Whether the teacher is a published one: 1, or 0."""
        return {"teacher_published": float(self.teacher_published)}

    def before_training(self, batches: Iterable[Batch]) -> None:
        """The mean and spread of the teacher's channels on the training images are measured."""
        described = (self.model.teacher(self._normalised(batch.images)) for batch in batches)
        mean, std = channel_statistics(described, self.model.features)
        self.model.teacher_mean.copy_(mean)
        self.model.teacher_std.copy_(std)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, and the parts that it is the sum of."""
        images, altered = batch.images, recoloured(batch.images)
        penalty = None
        if self.config.penalty_images is not None and self.training:
            penalty = self._normalised(penalty_images(self.penalty, len(images), self._size).to(images.device))
        views = self._normalised(images), self._normalised(altered)
        return self.model.losses(*views, penalty, self.config.hard_quantile)

    def configure_optimizer(self, epochs: int) -> tuple[Optimizer, LRScheduler | None]:
        trained = [*self.model.student.parameters(), *self.model.autoencoder.parameters()]
        optimizer = Adam(trained, lr=self.config.learning_rate, weight_decay=self.config.weight_decay)
        return optimizer, StepLR(optimizer, max(1, int(DECAY_AT * self.steps)), DECAY)

    def after_training(self, held_out: Iterable[Batch]) -> None:
        """The quantiles of the held-out images' maps are taken, which bring both maps to one scale."""
        gathered = bytearray(), bytearray()  # one block each: many small tensors between large ones would split the memory
        for batch in held_out:
            for part, maps in zip(gathered, self.model.maps(self._normalised(batch.images)), strict=True):
                part += maps.float().cpu().numpy().tobytes()
        if not gathered[0]:
            warnings.warn(
                "efficientad: no normal image is held out, so that the student's and the autoencoder's map are added as they "
                "are, not by the quantiles of normal images. Set data.holdout=0.1.",
                stacklevel=2,
            )
            return
        values = [torch.frombuffer(part, dtype=torch.float32) for part in gathered]
        rows = [torch.stack([quantile(part, share) for share in QUANTILES]) for part in values]
        self.model.quantiles.copy_(torch.stack(rows))

    def predict_step(self, images: Tensor) -> Prediction:
        maps = whole_map(self.model(self._normalised(images)), (images.shape[-2], images.shape[-1]), self.config.border)
        return Prediction(maps.amax(dim=(1, 2, 3)), maps)

    def _normalised(self, images: Tensor) -> Tensor:
        # channels last: a quarter faster on a CPU
        return ((images - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
