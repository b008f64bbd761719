"""make_teacher: a teacher's file from a folder of images."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import torch

from anomaly_core import RunError, expanded
from anomaly_distillation.efficientad.distilling import PatchTarget, Progress, distil, target_network
from anomaly_distillation.efficientad.networks import SHAPES, Size
from anomaly_distillation.efficientad.teachers import MADE_FROM, write_teacher
from anomaly_features import Backbones
from anomaly_trainers import PictureFolder


class Made(NamedTuple):
    """What a teacher was made from, its error in variances of its target's channels, and the time that it took."""

    made_from: str
    error: float
    seconds: float


def make_teacher(
    images: Path,
    output: Path,
    *,
    backbone: str,
    size: Size,
    steps: int,
    batch_size: int,
    learning_rate: float,
    image_size: int,
    backbones: str | None,
    device: torch.device,
    seed: int,
    progress: Progress,
) -> Made:
    """Distil a teacher from a folder of images and write it; the options are those of the command.

    Raises:
        ConfigError: there is no such folder or network.
        DataError: the folder holds no image, or one that cannot be read.
        BackboneError: the network's weights are nowhere to be found.
        RunError: the file cannot be written, or the error of the training is not finite.
    """
    begun = time.perf_counter()
    pictures = PictureFolder(images, "--images", (2 * image_size, 2 * image_size))
    extractor = target_network(backbone, Backbones(backbones))
    torch.manual_seed(seed)
    teacher, error = distil(
        SHAPES[size],
        PatchTarget(extractor, SHAPES[size].features),
        pictures.draw,
        (image_size, image_size),
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        device=device,
        progress=progress,
    )
    if not error < float("inf"):
        raise RunError(f"the teacher's error is {error}: nothing was written. Choose a smaller --learning-rate.")
    count = len(pictures.paths)
    made_from = f"{count} image{'s' if count > 1 else ''} by {backbone} in {steps} steps of {batch_size}"
    facts = {MADE_FROM: made_from, "size": size, "image_size": str(image_size), "error": f"{error:.6g}", "seed": str(seed)}
    write_teacher(expanded(output), teacher.state_dict(), facts)
    return Made(made_from, error, time.perf_counter() - begun)
