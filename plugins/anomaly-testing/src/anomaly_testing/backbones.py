"""Checks of backbones: pretrained weights that travel inside a distribution."""

from __future__ import annotations

from pathlib import Path

import torch

from anomaly_core import ConfigError
from anomaly_features import Backbones, FeatureExtractor, TransformerExtractor, full_name, is_transformer
from anomaly_testing.checks import Broken, Subject, named, require
from anomaly_testing.common import SPEC


def timm_knows_it(subject: Subject) -> None:
    """The entry point's name is a model of timm's."""
    try:
        full_name(subject.component.name)
    except ConfigError as error:
        raise Broken(str(error)) from error


def states_its_licence(subject: Subject) -> None:
    """The spec names the licence of the weights."""
    require(subject.component.spec.license.strip(), "the spec has no license. Weights travel with their licence: name it.")


def file_is_safe(subject: Subject) -> None:
    """target returns the path of a file that is there: .safetensors, .pth, or what the spec's reader reads."""
    path = Path(subject.component.load()())
    require(path.is_file(), f"target returned {str(path)!r}, which is no file.")
    known = path.suffix in (".safetensors", ".pth") or subject.component.spec.reader
    require(known, f"{path.name} is neither .safetensors nor .pth, and the spec has no reader.")


def weights_fit(subject: Subject) -> None:
    """The weights fit timm's network, tensor by tensor, and give finite features."""
    nowhere = subject.folder / "no-backbones"
    name = subject.component.name
    state = Backbones(nowhere).load(name)
    require(all(value.isfinite().all() for value in state.values()), "the weights hold NaN or infinity.")
    with torch.inference_mode():
        images = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))  # whole patches of 14 and of 16 pixels
        if is_transformer(name):
            levels = TransformerExtractor(name, [1, 2], (112, 112), Backbones(nowhere))(images)
        else:
            levels = FeatureExtractor(name, [1, 2], Backbones(nowhere))(images)
    require(all(maps.isfinite().all() and maps.std() > 0 for maps in levels), "its features are constant or not finite.")


BACKBONE = SPEC + named(timm_knows_it, states_its_licence, file_is_safe, weights_fit)
