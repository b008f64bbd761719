"""Teachers from files: the published ones under their names, and those that ``anomaly distill-teacher`` writes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load, save
from torch import Tensor

from anomaly_core import expanded, parse_json, read_untrusted, write_whole
from anomaly_distillation.efficientad.networks import Size
from anomaly_features import BackboneError, Backbones

FILES: dict[Size, str] = {"S": "teacher_small.pth", "M": "teacher_medium.pth"}  # as nelson1425/EfficientAD publishes them
LARGEST = 1 << 27  # bytes; the medium teacher has 32 million of them
MADE_FROM = "made_from"


class Teacher(NamedTuple):
    """A teacher's weights.

    Attributes:
        state: its tensors, named as the modules of a patch description network.
        origin: where it is from, in words.
        published: whether it is the file that the public code publishes, by its name.
    """

    state: dict[str, Tensor]
    origin: str
    published: bool


def find_teacher(size: Size, teacher: str | None, backbones: str | None) -> Teacher:
    """The teacher in a file, or the published one in the backbone folder.

    Args:
        size: of EfficientAD's networks.
        teacher: the file; None: the published one.
        backbones: the backbone folder; None: the usual one.

    Raises:
        BackboneError: there is no such file, or it holds no such teacher.
    """
    if teacher is not None:
        path = expanded(teacher)
        if not path.exists():
            raise BackboneError(
                f"model.teacher={teacher!r} is no file. Name one that `anomaly distill-teacher` wrote, or leave the option out "
                "for the published one."
            )
        return read_teacher(path, size)
    make = f"`anomaly distill-teacher --images DIR --from wide_resnet50_2 --size {size} --output teacher.safetensors`"
    if size not in FILES:
        raise BackboneError(
            f"nobody has published a teacher of the size {size}. Set model.teacher=features and model.backbone=NAME, make a "
            f"teacher of your own images with {make} and name it with model.teacher, or choose model.size=S."
        )
    folder = Backbones(backbones).folder
    if not (path := folder / FILES[size]).exists():
        raise BackboneError(
            f"EfficientAD-{size} needs a pretrained teacher, and there is no {FILES[size]} in the backbone folder "
            f"{str(folder.absolute())!r}. Next step: fetch that file once from https://github.com/nelson1425/EfficientAD and "
            "put it there (or name its folder with --set model.backbones=DIR or $ANOMALY_BACKBONES); or make a teacher of your "
            f"own unlabelled images with {make} and name it with --set model.teacher=teacher.safetensors; or take the edge "
            "preset, which needs no teacher of a file."
        )
    return read_teacher(path, size)


def read_teacher(path: Path, size: Size) -> Teacher:
    """A teacher's file, ``.safetensors`` or ``.pth`` (a state dict); no code in it is executed. BackboneError if it is none."""
    metadata: Mapping[str, Any] = {}
    try:
        content = read_untrusted(path, LARGEST)
        if path.suffix == ".safetensors":
            loaded: Any = load(content)
            metadata = _metadata(content)
        else:
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes both readers raise nearly anything
        reason = str(error).partition("\n")[0]
        raise BackboneError(
            f"the teacher {str(path)!r} cannot be read: {type(error).__name__}: {reason} Only tensors are loaded, never code. "
            "Fetch the file again, or make another with `anomaly distill-teacher`."
        ) from error
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise BackboneError(f"the teacher {str(path)!r} holds no state dict of tensors. Save `teacher.state_dict()` instead.")
    state = {str(name): value.float() for name, value in loaded.items()}
    if not all(value.isfinite().all() for value in state.values()):
        raise BackboneError(f"the teacher {str(path)!r} holds NaN or infinity. Fetch it again, or make another one.")
    published = path.name == FILES.get(size)
    made_from = str(metadata.get(MADE_FROM) or "nobody knows what")
    origin = f"{path.name}, as published" if published else f"{path.name}, made from {made_from}"
    return Teacher(state, origin, published)


def write_teacher(path: Path, state: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write a teacher as safetensors, whole or not at all, with ``facts`` of how it was made; RunError if it cannot be."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_whole(path, save(tensors, metadata=dict(facts)), "Choose another file with --output.")


def misfit(size: Size, origin: str, error: Exception) -> BackboneError:
    """The error of a teacher whose tensors are not those of a size."""
    reason = str(error).partition("\n")[2].strip().partition("\n")[0][:300]
    return BackboneError(
        f"the teacher ({origin}) is none of EfficientAD-{size}: {reason} Choose the model.size that it was made for, or "
        "another model.teacher."
    )


def _metadata(content: bytes) -> Mapping[str, Any]:
    """The words in a safetensors file, which its library has read."""
    length = int.from_bytes(content[:8], "little")
    metadata = parse_json(content[8 : 8 + length]).get("__metadata__", {})
    return metadata if isinstance(metadata, dict) else {}
