"""Checks of a fitted method's state: repeated, saved, moved to another process, another device, another runtime."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from anomaly_core import BaseModeler, Component, RunConfig
from anomaly_testing.checks import Skip, named, require
from anomaly_testing.comparing import require_near, shown
from anomaly_testing.model_subject import ModelSubject, loaded, predicted
from anomaly_testing.worker import in_worker


def same_seed_same_scores(subject: ModelSubject) -> None:
    """Two fits with one seed give the same scores, bit for bit."""
    first, second = (predicted(subject.fit(subject.moment()).modeler, subject.images).scores for _ in range(2))
    words = "Draw everything random from torch's global generator."
    require(torch.equal(first, second), f"two fits with the seed 0 score {shown(first)} and {shown(second)}. {words}")


def state_survives_saving(subject: ModelSubject) -> None:
    """Saved as safetensors and loaded into a fresh one without backbone, state and scores are the same bit for bit."""
    fitted = subject.fitted
    fresh = loaded(subject.component, fitted.config, str(subject.saved))
    _require_same_state(fitted.modeler.state_dict(), fresh.state_dict(), "after saving and loading")
    before, after = (predicted(modeler, subject.images) for modeler in (fitted.modeler, fresh))
    require(
        torch.equal(before.scores, after.scores),
        f"before saving it scored {shown(before.scores)}, loaded {shown(after.scores)}. What predict_step needs and "
        "the config does not say must be a parameter or a registered buffer.",
    )
    if before.maps is not None and after.maps is not None:
        require(torch.equal(before.maps, after.maps), "before saving its maps were others than after loading.")


def scoring_changes_nothing(subject: ModelSubject) -> None:
    """predict_step leaves state, mode and input as they are, and gives the same when asked again."""
    modeler, images = subject.fitted.modeler, subject.images.clone()
    modeler.eval()
    state = copy.deepcopy(modeler.state_dict())
    first = predicted(modeler, images)
    require(not any(part.training for part in modeler.modules()), "predict_step put a part of it into train mode.")
    require(torch.equal(images, subject.images), "predict_step changed the images that it was given.")
    _require_same_state(state, modeler.state_dict(), "after scoring")
    again = predicted(modeler, images).scores
    require(torch.equal(first.scores, again), f"asked twice, it scores {shown(first.scores)} and {shown(again)}.")


def scores_in_a_worker(subject: ModelSubject) -> None:
    """Spec and config go to a spawned process, which loads the saved state and scores the same."""
    fitted, images = subject.fitted, subject.images
    component = dataclasses.replace(subject.component, added=subject.component.spec)  # works there without its entry point
    scores = in_worker(_score, component, fitted.config, str(subject.saved), images.numpy())
    require_near("scores", predicted(fitted.modeler, images).scores, torch.from_numpy(scores), "here and in a worker process")


def exports(subject: ModelSubject) -> None:
    """torch.export takes predict_step, and the graph scores the same; else an expected failure says why not."""
    modeler, images = subject.fitted.modeler.eval(), subject.images[:2]
    before = predicted(modeler, images)
    with torch.no_grad():
        program = torch.export.export(_Exportable(modeler), (images,), strict=False)
        outputs = program.module()(images)
    require_near("scores", before.scores, outputs[0], "before and after export")
    if before.maps is not None:
        require_near("maps", before.maps, outputs[1], "before and after export")


def scores_on_a_gpu(subject: ModelSubject) -> None:
    """On a GPU it scores as on the CPU, to single precision."""
    if not torch.cuda.is_available():
        raise Skip("no GPU here")
    images = subject.images
    on_cpu = predicted(subject.fitted.modeler, images).scores
    fresh = loaded(subject.component, subject.fitted.config, str(subject.saved)).to("cuda")
    on_gpu = predicted(fresh, images.cuda())
    require(on_gpu.scores.device.type == "cuda", f"given images on the GPU it answers on {on_gpu.scores.device}.")
    require_near("scores", on_cpu, on_gpu.scores.cpu(), "on the CPU and on the GPU", relative=1e-2)


STATE = named(
    same_seed_same_scores,
    state_survives_saving,
    scoring_changes_nothing,
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


def _score(component: Component, config: RunConfig, folder: str, images: Any) -> Any:
    """In the worker: scores of the images, as numpy."""
    return predicted(loaded(component, config, folder), torch.from_numpy(images)).scores.numpy()


def _require_same_state(before: dict[str, Tensor], after: dict[str, Tensor], when: str) -> None:
    differing = before.keys() ^ after.keys()
    require(not differing, f"{when} its state has other entries: {', '.join(sorted(differing))}.")
    for name, value in before.items():
        same = value.dtype == after[name].dtype and torch.equal(value, after[name])
        require(same, f"{when} its state {name!r} is another.")
