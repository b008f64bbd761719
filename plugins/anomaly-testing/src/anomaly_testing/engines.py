"""Checks of engines: what computes frozen networks must give what PyTorch gives."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from anomaly_features import Compute, FrozenNetwork
from anomaly_testing.checks import Subject, named, require
from anomaly_testing.common import SPEC

SIZE = (32, 40)
NEAR = 0.1  # of the greatest value: an engine may compute in bfloat16
SAME = 1e-3


class EngineSubject(Subject):
    """An engine under test, and a small network that it compiles."""

    @cached_property
    def network(self) -> FrozenNetwork:
        """Two levels of features, as it would be taken from a run."""
        return _Small().eval()

    @cached_property
    def compiled(self) -> Compute:
        """The network in the engine; MissingLibrary where that is not installed."""
        self.component.require_library()
        if self.component.spec.calibrator:
            self.network.quantised = self.component.load("calibrator")(self.network, [_images(8), _images(4)])
        compute: Compute = self.component.load()(self.network, SIZE)
        return compute


def computes_the_features(subject: EngineSubject) -> None:
    """Its features are the network's: as many, of the same shapes, float32, of the same values."""
    images = _images(3)
    with torch.no_grad():
        expected = subject.network.features(images)
    levels = subject.compiled(images)
    require(len(levels) == len(expected), f"it gives {len(levels)} feature maps, and the network {len(expected)}.")
    for level, reference in zip(levels, expected, strict=True):
        require(level.shape == reference.shape, f"its features are {tuple(level.shape)}, not {tuple(reference.shape)}.")
        require(level.dtype == torch.float32, f"its features are {level.dtype}, not torch.float32.")
        far = _difference(level, reference)
        require(far < NEAR, f"its features differ from PyTorch's by {far:.2g} of the greatest value; {NEAR:g} is allowed.")


def any_batch(subject: EngineSubject) -> None:
    """An image's features do not depend on the batch that it comes in."""
    images = _images(5)
    whole = subject.compiled(images)
    for number in (0, 4):
        for level, alone in zip(whole, subject.compiled(images[number : number + 1]), strict=True):
            far = _difference(level[number : number + 1], alone)
            require(far < SAME, f"an image alone and in a batch of five differ by {far:.2g} of the greatest value.")


def keeps_its_answers(subject: EngineSubject) -> None:
    """What one call returned is not changed by the next."""
    first = subject.compiled(_images(2))
    kept = [level.clone() for level in first]
    subject.compiled(torch.ones(2, 3, *SIZE))
    require(
        all(torch.equal(level, before) for level, before in zip(first, kept, strict=True)),
        "the second call wrote over what the first one had returned. Copy what the engine owns.",
    )


def leaves_the_network_alone(subject: EngineSubject) -> None:
    """Compiling and computing change neither weights nor mode of the network."""
    before = {name: value.clone() for name, value in subject.network.state_dict().items()}
    subject.compiled(_images(2))
    state = subject.network.state_dict()
    changed = [name for name, value in before.items() if name not in state or not torch.equal(state[name], value)]
    require(not changed and len(state) == len(before), f"it changed {', '.join(changed) or 'what the network holds'}.")
    require(not subject.network.training, "it left the network in train mode.")


ENGINE = SPEC + named(computes_the_features, any_batch, keeps_its_answers, leaves_the_network_alone)


class _Small(FrozenNetwork):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
            self.second = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        shallow = self.first((images - 0.5) / 0.25)
        return [shallow, self.second(shallow)]


def _images(count: int) -> Tensor:
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(count))


def _difference(computed: Tensor, expected: Tensor) -> float:
    """The greatest one, relative to the greatest value expected; NaN counts as infinite."""
    far = float((computed - expected).abs().max() / expected.abs().max())
    return far if far == far else float("inf")
