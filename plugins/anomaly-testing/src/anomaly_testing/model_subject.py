"""ModelSubject: a method under test, fitted for a moment on pictures that the kit draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import set_seed
from PIL import Image
from torch import Tensor, nn

from anomaly_core import (
    ANOMALOUS,
    BaseModeler,
    Component,
    DatasetSpec,
    History,
    ModelContext,
    Prediction,
    RunConfig,
    RunContext,
    RunFolder,
    Sample,
    pair,
    preset_names,
    registry,
)
from anomaly_testing.checks import Subject, registered, require
from anomaly_testing.pictures import CATEGORY, ObviousData, draw

PICTURES = "obvious"
SPEC_OF_PICTURES = DatasetSpec(
    target="anomaly_testing.pictures:ObviousData",
    config="anomaly_testing.pictures:ObviousConfig",
    summary="pictures with an obvious defect, drawn by the conformance kit",
)
SIDE = 96
EPOCHS, LONGER = 8, 30


@dataclass
class Fitted:
    """A modeler after its training, and the course of that."""

    modeler: BaseModeler
    config: RunConfig
    history: History


class ModelSubject(Subject):
    """A method under test; what several checks need is computed once."""

    @contextmanager
    def known(self) -> Iterator[None]:
        """A config finds the pictures and the component, also one that was given as a bare spec."""
        with registered(PICTURES, SPEC_OF_PICTURES):
            if self.component.added is None:
                yield
            else:
                with registered(self.component.name, self.component.added):
                    yield

    def plain(self, preset: str | None = None) -> RunConfig:
        """The config of a run that names nothing but the model."""
        with self.known():
            return RunConfig.create(model=self.name, data=PICTURES, preset=preset)

    def config(self, **more: Any) -> RunConfig:
        """The preset on small pictures, for as little training as means something; the author's overrides win."""
        names = preset_names(self.component)
        preset = self.preset or ("edge" if "edge" in names else None)
        plain = self.plain(preset)
        options: dict[str, Any] = {
            "data.root": str(self.folder),
            "data.batch_size": 4,
            "data.num_workers": 0,
            "base.device": "cpu",
            "model.image_size": min(SIDE, *pair(plain.model.image_size)),
        }
        if plain.model.center_crop is not None:
            options["model.center_crop"] = None
        if hasattr(plain.train, "epochs"):
            options["train.epochs"] = EPOCHS
        with self.known():
            return RunConfig.create(
                model=self.name, data=PICTURES, preset=preset, overrides={**options, **self.overrides, **more}
            )

    def moment(self, **more: Any) -> RunConfig:
        """The same with a single epoch: for checks that compare fits, not results."""
        once = {"train.epochs": 1} if hasattr(self.config().train, "epochs") and "train.epochs" not in self.overrides else {}
        return self.config(**once, **more)

    def fit(
        self,
        config: RunConfig,
        *,
        unlabelled: bool = False,
        fewest: bool = False,
        defects: Literal["masked", "unmasked", "unlabelled"] | None = None,
    ) -> Fitted:
        """Fit as a run does.

        Args:
            config: of the run.
            unlabelled: on images whose label is unknown.
            fewest: on as few images as the method asks for, and none held out.
            defects: on defects too, known with masks or without, or with neither label nor mask.
        """
        data = ObviousData(config.data, seed=config.base.seed)
        set_seed(config.base.seed)
        modeler: BaseModeler = self.component.build(config.model, context(config))
        trainer = registry.trainers[config.train.name].build(config.train, device="cpu")
        fit, held_out = data.split(CATEGORY, modeler.fewest_images)
        if fewest:
            fit, held_out = fit[: modeler.fewest_images], []
        if unlabelled:
            fit, held_out = _unlabelled(fit), _unlabelled(held_out)
        if defects:
            bad = [sample for sample in data.test_samples(CATEGORY) if sample.label == ANOMALOUS]
            bad = bad if defects == "masked" else [dataclasses.replace(sample, mask_path=None) for sample in bad]
            fit = [*fit, *(_unlabelled(bad) if defects == "unlabelled" else bad)]
        train = data.loader(fit, modeler.input_spec, shuffle=trainer.shuffles)
        validation = data.loader(held_out, modeler.input_spec) if held_out else None
        with modeler.fitting(trainer.shuffles):
            history = trainer.fit(modeler, train, validation, RunContext(config.base.seed))
        return Fitted(modeler.eval(), config, history)

    @cached_property
    def collected(self) -> Tensor:
        """float32 (4, 3, H, W): the first images that :attr:`fitted` was fitted on."""
        modeler = self.fitted.modeler
        samples = ObviousData(self.config().data, seed=self.config().base.seed).split(CATEGORY, modeler.fewest_images)[0]
        data = ObviousData(self.config().data)
        return torch.cat([batch.images for batch in data.loader(samples[:4], modeler.input_spec)])

    @cached_property
    def fitted(self) -> Fitted:
        """Trained long enough to mean its scores."""
        return self.fit(self.config())

    def ever_longer(self) -> Iterator[Fitted]:
        """:attr:`fitted`, and the same after longer training where there are epochs and the author did not choose them."""
        yield self.fitted
        if hasattr(self.fitted.config.train, "epochs") and "train.epochs" not in self.overrides:
            yield self.fit(self.config(**{"train.epochs": LONGER}))

    @cached_property
    def images(self) -> Tensor:
        """(6, 3, H, W): three clean pictures, then the same three with a defect."""
        size = self.fitted.modeler.input_spec
        drawn = [draw(number) for number in (500, 501, 502)]
        return torch.stack([size.image(Image.fromarray(pictures[part])) for part in (0, 1) for pictures in drawn])

    @property
    def saved(self) -> Path:
        """A folder with the state of :attr:`fitted`, as a run writes it."""
        if not (self.folder / "model.safetensors").exists():
            RunFolder(self.folder).write_state(self.fitted.modeler.state_dict())
        return self.folder


def context(config: RunConfig, pretrained: bool = True) -> ModelContext:
    """What a modeler may know of such a run."""
    return ModelContext(pretrained, (CATEGORY,), config.data.prompt)


def predicted(modeler: nn.Module, images: Tensor) -> Prediction:
    """As a run scores: in eval mode, without gradients."""
    modeler.eval()
    with torch.inference_mode():
        prediction = modeler.predict_step(images)  # type: ignore[operator]  # a BaseModeler
    require(isinstance(prediction, Prediction), f"predict_step returned a {type(prediction).__name__}, not a Prediction.")
    return prediction  # type: ignore[no-any-return]


def loaded(component: Component, config: RunConfig, folder: str) -> BaseModeler:
    """A fresh modeler with a saved state, as ``load_run`` builds it."""
    modeler: BaseModeler = component.build(config.model, context(config, pretrained=False))
    modeler.load_state(RunFolder(folder).state())
    return modeler.eval()


def _unlabelled(samples: list[Sample]) -> list[Sample]:
    return [dataclasses.replace(sample, label=None) for sample in samples]
