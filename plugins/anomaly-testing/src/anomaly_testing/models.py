"""Checks of a method: it builds from its config, and its scores and maps mean what the contract says."""

from __future__ import annotations

import torch

from anomaly_core import BaseModeler, MemoryModeler, RunConfig, pair, preset_names
from anomaly_testing.checks import Skip, named, require
from anomaly_testing.common import SPEC
from anomaly_testing.comparing import require_near, shown
from anomaly_testing.model_state import STATE
from anomaly_testing.model_subject import ModelSubject, predicted


def builds_with_defaults(subject: ModelSubject) -> None:
    """Built with its defaults alone, without looking for weights."""
    config = subject.plain()
    modeler = subject.component.build(config.model, None)
    require(isinstance(modeler, BaseModeler), f"its target is a {type(modeler).__name__}, which is no BaseModeler.")
    require(hasattr(modeler, "input_spec"), "it has no input_spec; set self.input_spec = InputSpec.from_config(config).")
    size, expected = modeler.input_spec.output_size, pair(config.model.center_crop or config.model.image_size)
    words = "Use InputSpec.from_config."
    require(size == expected, f"its input_spec is for {size} pixels, and its config says {expected}. {words}")


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
    if (pictures := prediction.reconstruction) is not None:
        require(pictures.shape == (count, 3, *size), f"reconstructions have the shape {tuple(pictures.shape)}.")
        low, high = float(pictures.min()), float(pictures.max())
        require(0 <= low <= high <= 1, f"reconstructions reach from {low:.3g} to {high:.3g}, not 0 to 1.")
    for row in [*fitted.history.rows, fitted.history.figures, fitted.modeler.describe()]:
        require(all(isinstance(value, float) for value in row.values()), f"it gives figures that are no floats: {row}.")


def higher_is_more_anomalous(subject: ModelSubject) -> None:
    """A picture with an obvious defect scores above the same without it, and the map is higher on it."""
    half = len(subject.images) // 2
    for fitted in subject.ever_longer():
        prediction = predicted(fitted.modeler, subject.images)
        clean, spoilt = prediction.scores[:half], prediction.scores[half:]
        if (spoilt > clean).all():
            break
    words = f"without the defect they score {shown(clean)}, with it {shown(spoilt)}"
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
    together, where = predicted(subject.fitted.modeler, subject.images), "with and without batch mates"
    for order in ([[i] for i in range(6)], [[5, 0], [1, 4, 3, 2]]):
        parts = [predicted(subject.fitted.modeler, subject.images[chosen]) for chosen in order]
        back = torch.tensor([i for chosen in order for i in chosen]).argsort()
        require_near("scores", together.scores, torch.cat([part.scores for part in parts])[back], where)
        if together.maps is not None:
            maps = torch.cat([part.maps for part in parts if part.maps is not None])
            require_near("maps", together.maps, maps[back], where)


def takes_other_sizes(subject: ModelSubject) -> None:
    """model.image_size may be another, and not square; maps have that size."""
    fitted = subject.fit(subject.moment(**{"model.image_size": (96, 64)}))
    size = fitted.modeler.input_spec.output_size
    require(size == (96, 64), f"with model.image_size=96,64 its input_spec is for {size}.")
    prediction = predicted(fitted.modeler, torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)))
    require(prediction.scores.shape == (2,), f"scores have the shape {tuple(prediction.scores.shape)}.")
    if prediction.maps is not None:
        require(prediction.maps.shape == (2, 1, *size), f"maps of {size} images have the shape {tuple(prediction.maps.shape)}.")


def takes_unlabelled_images(subject: ModelSubject) -> None:
    """Training images whose label is unknown (None, -1 in the batch) are fitted as normal ones."""
    scores = predicted(subject.fit(subject.moment(), unlabelled=True).modeler, subject.images).scores
    require(scores.isfinite().all(), f"fitted without labels it scores {shown(scores)}.")


def fits_its_fewest_images(subject: ModelSubject) -> None:
    """It can be fitted on as few images as its fewest_images says, with none held out."""
    fitted = subject.fit(subject.moment(), fewest=True)
    scores, fewest = predicted(fitted.modeler, subject.images).scores, fitted.modeler.fewest_images
    require(scores.isfinite().all(), f"fitted on {fewest} images it scores {shown(scores)}. Raise its fewest_images.")


def learns_from_known_defects(subject: ModelSubject) -> None:
    """A method that uses_anomalous takes known defects with masks and without (batch.masks is None), and learns from them."""
    if not getattr(subject.fitted.modeler, "uses_anomalous", False):
        raise Skip("it learns from normal images alone (GradientModeler.uses_anomalous)")
    config = subject.moment()
    before = predicted(subject.fit(config, defects="unlabelled").modeler, subject.images).scores
    for kind in ("masked", "unmasked"):
        scores = predicted(subject.fit(config, defects=kind).modeler, subject.images).scores
        require(scores.isfinite().all(), f"fitted on {kind} defects too it scores {shown(scores)}.")
        require(not torch.equal(scores, before), f"the labels of {kind} defects change no score.")


def scores_without_an_image(subject: ModelSubject) -> None:
    """A memory that leaves images out scores each without it, alone as in a batch, and is whole again afterwards."""
    modeler, images = subject.fitted.modeler, subject.collected
    if not isinstance(modeler, MemoryModeler) or not modeler.leaves_out:
        raise Skip("it leaves no image out (MemoryModeler.leaves_out): cross-fitting fits several detectors")
    numbers = [torch.tensor([i]) for i in range(len(images))]
    before = predicted(modeler, images).scores
    with torch.inference_mode():
        together = modeler.predict_without(images, numbers)
        alone = [modeler.predict_without(images[i : i + 1], [numbers[i]]).scores for i in range(len(images))]
    require(together.scores.shape == (len(images),), f"scores have the shape {tuple(together.scores.shape)}.")
    require(together.scores.isfinite().all(), f"without each image it scores {shown(together.scores)}.")
    require_near("scores", together.scores, torch.cat(alone), "with and without batch mates")
    require(not torch.equal(together.scores, before), "it scores its own images as if it had left none of them out.")
    require(torch.equal(predicted(modeler, images).scores, before), "afterwards its memory is another.")


MODEL = (
    SPEC
    + named(
        builds_with_defaults,
        run_config_survives_yaml,
        fits_and_scores,
        higher_is_more_anomalous,
        scores_each_image_alone,
        takes_other_sizes,
        takes_unlabelled_images,
        fits_its_fewest_images,
        learns_from_known_defects,
        scores_without_an_image,
    )
    + STATE
)
