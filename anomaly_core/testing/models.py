"""Checks of a method: trained for a moment on pictures with an obvious defect, it keeps the contract of a modeler."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from PIL import Image
from torch import Tensor, nn

from anomaly_core.backbones import Backbones
from anomaly_core.base.modeler import BaseModeler
from anomaly_core.base.trainer import History, RunContext
from anomaly_core.config import RunConfig, preset_names
from anomaly_core.experiment import Experiment
from anomaly_core.inputs import pair
from anomaly_core.registry import Component, registry
from anomaly_core.specs import DatasetSpec
from anomaly_core.testing.checks import Skip, Subject, named, registered, require
from anomaly_core.testing.common import SPEC
from anomaly_core.testing.pictures import CATEGORY, ObviousData, draw
from anomaly_core.testing.worker import in_worker
from anomaly_core.types import Prediction

PICTURES = "obvious"
SPEC_OF_PICTURES = DatasetSpec(
    target="anomaly_core.testing.pictures:ObviousData",
    config="anomaly_core.testing.pictures:ObviousConfig",
    summary="pictures with an obvious defect, drawn by the conformance kit",
)
SIDE = 96
EPOCHS, LONGER = 8, 30
RELATIVE, ABSOLUTE = 1e-4, 1e-6


@dataclass
class Fitted:
    """A modeler after its training, and what the trainer told of it."""

    modeler: BaseModeler
    config: RunConfig
    history: History


class ModelSubject(Subject):
    """A method under test; what several checks need is made once."""

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
        with self.known():
            options: dict[str, Any] = {"data.root": str(self.folder), "data.batch_size": 4, "base.device": "cpu"}
            options |= {"data.num_workers": 0, "model.image_size": min(SIDE, *pair(plain.model.image_size))}
            if plain.model.center_crop is not None:
                options["model.center_crop"] = None
            if hasattr(plain.train, "epochs"):
                options["train.epochs"] = EPOCHS
            given = {**options, **self.overrides, **more}
            return RunConfig.create(model=self.name, data=PICTURES, preset=preset, overrides=given)

    def moment(self, **more: Any) -> RunConfig:
        """The same with a single epoch: for checks that compare fits, not results."""
        once = {"train.epochs": 1} if hasattr(self.config().train, "epochs") and "train.epochs" not in self.overrides else {}
        return self.config(**once, **more)

    def fit(self, config: RunConfig, unlabelled: bool = False) -> Fitted:
        """Fit as a run does."""
        data = ObviousData(config.data, seed=config.base.seed)
        set_seed(config.base.seed)
        modeler: BaseModeler = self.component.build(config.model, backbones=Backbones(config.base.backbones))
        trainer = registry.trainers[config.train.name].build(config.train, device="cpu")
        fit, held = data.split(CATEGORY)
        if unlabelled:
            fit, held = ([dataclasses.replace(sample, label=None) for sample in part] for part in (fit, held))
        train = data.loader(fit, modeler.input_spec, shuffle=trainer.shuffles)
        history = trainer.fit(modeler, train, data.loader(held, modeler.input_spec), RunContext(config.base.seed))
        return Fitted(modeler.eval(), config, history)

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
            Experiment(self.folder).save_state(self.fitted.modeler.state_dict())
        return self.folder


def predicted(modeler: nn.Module, images: Tensor) -> Prediction:
    """As a run scores: in eval mode, without gradients."""
    modeler.eval()
    with torch.inference_mode():
        prediction = modeler.predict_step(images)  # type: ignore[operator]  # a BaseModeler
    require(isinstance(prediction, Prediction), f"predict_step returned a {type(prediction).__name__}, not a Prediction.")
    return prediction  # type: ignore[no-any-return]


def builds_with_defaults(subject: ModelSubject) -> None:
    """Built with its defaults alone, without looking for weights."""
    config = subject.plain()
    modeler = subject.component.build(config.model, backbones=None)
    require(isinstance(modeler, BaseModeler), f"its target made a {type(modeler).__name__}, which is no BaseModeler.")
    require(hasattr(modeler, "input_spec"), "it has no input_spec; set self.input_spec = InputSpec.from_config(config).")
    size = pair(config.model.center_crop or config.model.image_size)
    found = modeler.input_spec.output_size
    require(found == size, f"its input_spec is for {found} pixels, and its config says {size}. Use InputSpec.from_config.")


def run_config_survives_yaml(subject: ModelSubject) -> None:
    """A run's whole config, and that of each preset, comes back from YAML as it was written."""
    for preset in (None, *preset_names(subject.component)):
        config = subject.plain(preset)
        path = subject.folder / "config.yaml"
        path.write_text(config.to_yaml(), "utf-8")
        with subject.known():
            again = RunConfig.create(config=path)
        require(again == config, f"preset {preset}: written to YAML and read again, {config.model} is {again.model}.")


def fits_and_scores(subject: ModelSubject) -> None:
    """A smoke fit; scores float32 (B,), maps (B, 1, H, W), all finite and not all the same."""
    fitted, images = subject.fitted, subject.images
    prediction = predicted(fitted.modeler, images)
    count, size = len(images), fitted.modeler.input_spec.output_size
    scores = prediction.scores
    require(scores.shape == (count,), f"scores have the shape {tuple(scores.shape)}; (B,) is ({count},).")
    parts = {"scores": scores, "maps": prediction.maps, "reconstruction": prediction.reconstruction}
    for name, part in parts.items():
        if part is not None:
            require(part.dtype == torch.float32, f"{name} are {part.dtype}, not torch.float32.")
            require(part.isfinite().all(), f"{name} hold NaN or infinity.")
    require(len(scores.unique()) > 1, f"every image scores {float(scores[0]):.4g}.")
    if prediction.maps is not None:
        shape = (count, 1, *size)
        require(prediction.maps.shape == shape, f"maps have the shape {tuple(prediction.maps.shape)}; expected {shape}.")
    if (made := prediction.reconstruction) is not None:
        require(made.shape == (count, 3, *size), f"reconstructions have the shape {tuple(made.shape)}.")
        require(
            made.min() >= 0 and made.max() <= 1, f"reconstructions reach from {made.min():.3g} to {made.max():.3g}, not 0 to 1."
        )
    for row in [*fitted.history.rows, fitted.history.figures, fitted.modeler.describe()]:
        require(all(isinstance(value, float) for value in row.values()), f"it tells figures that are no floats: {row}.")


def higher_is_more_anomalous(subject: ModelSubject) -> None:
    """A picture with an obvious defect scores above the same without it, and the map is higher on it."""
    half = len(subject.images) // 2
    for fitted in subject.ever_longer():
        prediction = predicted(fitted.modeler, subject.images)
        clean, spoilt = prediction.scores[:half], prediction.scores[half:]
        if (spoilt > clean).all():
            break
    words = f"without the defect they score {_shown(clean)}, with it {_shown(spoilt)}"
    require(
        (spoilt > clean).all(), f"{words}; higher must mean more anomalous. If it needs more training, override train.epochs."
    )
    if prediction.maps is not None:
        changed = (subject.images[half:] - subject.images[:half]).abs().amax(dim=1, keepdim=True) > 0.05
        maps = prediction.maps[half:]
        inside, outside = maps[changed].mean(), maps[~changed].mean()
        require(inside > outside, f"the map's mean is {inside:.4g} on the defect and {outside:.4g} beside it.")


def scores_each_image_alone(subject: ModelSubject) -> None:
    """An image's score and map depend neither on its batch mates nor on their number or order."""
    together = predicted(subject.fitted.modeler, subject.images)
    for order in ([[i] for i in range(6)], [[5, 0], [1, 4, 3, 2]]):
        parts = [predicted(subject.fitted.modeler, subject.images[picked]) for picked in order]
        back = torch.tensor([i for picked in order for i in picked]).argsort()
        _same("scores", together.scores, torch.cat([part.scores for part in parts])[back])
        if together.maps is not None:
            _same("maps", together.maps, torch.cat([part.maps for part in parts if part.maps is not None])[back])


def takes_other_sizes(subject: ModelSubject) -> None:
    """model.image_size may be another, and not square; maps have that size."""
    fitted = subject.fit(subject.moment(**{"model.image_size": (96, 64)}))
    size = fitted.modeler.input_spec.output_size
    require(size == (96, 64), f"with model.image_size=96,64 its input_spec is for {size}.")
    prediction = predicted(fitted.modeler, torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)))
    require(prediction.scores.shape == (2,), f"scores have the shape {tuple(prediction.scores.shape)}.")
    if prediction.maps is not None:
        require(prediction.maps.shape == (2, 1, *size), f"maps of {size} images have the shape {tuple(prediction.maps.shape)}.")


def same_seed_same_scores(subject: ModelSubject) -> None:
    """Two fits with one seed give the same scores, bit for bit."""
    first, second = (predicted(subject.fit(subject.moment()).modeler, subject.images).scores for _ in range(2))
    words = "Draw everything random from torch's global generator."
    require(torch.equal(first, second), f"two fits with the seed 0 score {_shown(first)} and {_shown(second)}. {words}")


def state_survives_saving(subject: ModelSubject) -> None:
    """Saved as safetensors and loaded into a fresh one without backbone, state and scores are the same bit for bit."""
    fitted = subject.fitted
    fresh = loaded(subject.component, fitted.config.model, str(subject.saved))
    _same_state(fitted.modeler.state_dict(), fresh.state_dict(), "after saving and loading")
    before, after = (predicted(modeler, subject.images) for modeler in (fitted.modeler, fresh))
    require(
        torch.equal(before.scores, after.scores),
        f"before saving it scored {_shown(before.scores)}, loaded {_shown(after.scores)}. What predict_step needs and "
        "the config does not say must be a parameter or a registered buffer.",
    )
    if before.maps is not None and after.maps is not None:
        require(torch.equal(before.maps, after.maps), "before saving its maps were others than after loading.")


def scoring_changes_nothing(subject: ModelSubject) -> None:
    """predict_step leaves state and mode as they are, its input too, and says the same when asked again."""
    modeler, images = subject.fitted.modeler, subject.images.clone()
    modeler.eval()
    state = copy.deepcopy(modeler.state_dict())
    first = predicted(modeler, images)
    require(not any(part.training for part in modeler.modules()), "predict_step put a part of it into train mode.")
    require(torch.equal(images, subject.images), "predict_step changed the images that it was given.")
    _same_state(state, modeler.state_dict(), "after scoring")
    again = predicted(modeler, images).scores
    require(torch.equal(first.scores, again), f"asked twice, it scores {_shown(first.scores)} and {_shown(again)}.")


def takes_unlabelled_images(subject: ModelSubject) -> None:
    """Training images whose label is unknown (None, -1 in the batch) are fitted as normal ones."""
    prediction = predicted(subject.fit(subject.moment(), unlabelled=True).modeler, subject.images)
    require(prediction.scores.isfinite().all(), f"fitted without labels it scores {_shown(prediction.scores)}.")


def scores_on_a_gpu(subject: ModelSubject) -> None:
    """On a GPU it scores as on the CPU, to single precision."""
    if not torch.cuda.is_available():
        raise Skip("no GPU here")
    images = subject.images
    on_cpu = predicted(subject.fitted.modeler, images).scores
    fresh = loaded(subject.component, subject.fitted.config.model, str(subject.saved)).to("cuda")
    on_gpu = predicted(fresh, images.cuda())
    require(on_gpu.scores.device.type == "cuda", f"given images on the GPU it answers on {on_gpu.scores.device}.")
    _same("scores", on_cpu, on_gpu.scores.cpu(), relative=1e-2)


def scores_in_a_worker(subject: ModelSubject) -> None:
    """Spec and config go to a spawned process, which loads the saved state and scores the same."""
    fitted, images = subject.fitted, subject.images
    component = dataclasses.replace(subject.component, added=subject.component.spec)  # found there without its entry point
    scores = in_worker(_score, component, fitted.config.model, str(subject.saved), images.numpy())
    _same("scores", predicted(fitted.modeler, images).scores, torch.from_numpy(scores), "here and in a worker process")


def exports(subject: ModelSubject) -> None:
    """torch.export takes predict_step, and what it makes scores the same; else an expected failure says why not."""
    modeler, images = subject.fitted.modeler.eval(), subject.images[:2]
    before = predicted(modeler, images)
    with torch.no_grad():
        program = torch.export.export(_Exportable(modeler), (images,), strict=False)
        outputs = program.module()(images)
    _same("scores", before.scores, outputs[0], "before and after export")
    if before.maps is not None:
        _same("maps", before.maps, outputs[1], "before and after export")


MODEL = SPEC + named(
    builds_with_defaults,
    run_config_survives_yaml,
    fits_and_scores,
    higher_is_more_anomalous,
    scores_each_image_alone,
    takes_other_sizes,
    same_seed_same_scores,
    state_survives_saving,
    scoring_changes_nothing,
    takes_unlabelled_images,
    scores_in_a_worker,
    exports,
    scores_on_a_gpu,
)


class _Exportable(nn.Module):
    """predict_step as a forward that returns tensors."""

    def __init__(self, modeler: BaseModeler) -> None:
        super().__init__()
        self.modeler = modeler

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        prediction = self.modeler.predict_step(images)
        return (prediction.scores,) if prediction.maps is None else (prediction.scores, prediction.maps)


def loaded(component: Component, config: Any, folder: str) -> BaseModeler:
    """A fresh modeler with a saved state, as ``load_run`` makes it."""
    modeler: BaseModeler = component.build(config, backbones=None)
    modeler.load_state(Experiment(folder).load_state())
    return modeler.eval()


def _score(component: Component, config: Any, folder: str, images: Any) -> Any:
    """In the worker: scores of the images, as numpy."""
    return predicted(loaded(component, config, folder), torch.from_numpy(images)).scores.numpy()


def _shown(scores: Tensor) -> str:
    return ", ".join(f"{score:.6g}" for score in scores.tolist())


def _same(name: str, one: Tensor, other: Tensor, where: str = "", relative: float = RELATIVE) -> None:
    """Broken where two results differ by more than rounding."""
    where = where or "with and without batch mates"
    require(one.shape == other.shape, f"{name} {where} have the shapes {tuple(one.shape)} and {tuple(other.shape)}.")
    near = torch.isclose(one, other, rtol=relative, atol=max(ABSOLUTE, relative * float(one.abs().max())))
    require(near.all(), f"{name} {where} differ by up to {float((one - other).abs().max()):.4g}.")


def _same_state(before: dict[str, Tensor], after: dict[str, Tensor], when: str) -> None:
    differing = before.keys() ^ after.keys()
    require(not differing, f"{when} its state has other entries: {', '.join(sorted(differing))}.")
    for name, value in before.items():
        same = value.dtype == after[name].dtype and torch.equal(value, after[name])
        require(same, f"{when} its state {name!r} is another.")
