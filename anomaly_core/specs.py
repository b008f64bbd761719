"""What a plugin says of a component: frozen, torch-free descriptions with the addresses of the real thing.

An address is ``"package.module:attribute"``; it is imported when the component is built, not before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class ComponentSpec:
    """The part that all kinds share.

    Args:
        target: address of the class or function that does the work.
        summary: one line for ``list-plugins --check``, ``show`` and the help.
    """

    kind: ClassVar[str] = ""

    target: str
    summary: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelSpec(ComponentSpec):
    """A method: a :class:`~anomaly_core.BaseModeler`, its config and the trainer that fits it.

    Args:
        config: address of a stdlib dataclass that extends :class:`~anomaly_core.ModelConfig`; imports no torch.
        trainer: name of the trainer: ``memory``, ``gradient``, ``flow``, ``classification`` or a plugin's.
        paper: where the method is described.
        code: the original implementation.
        presets: ``"package:folder"`` with one YAML file a preset.
    """

    kind: ClassVar[str] = "model"

    config: str
    trainer: str
    paper: str = ""
    code: str = ""
    presets: str = ""


@dataclass(frozen=True, kw_only=True)
class DatasetSpec(ComponentSpec):
    """A data set: a :class:`~anomaly_core.BaseDataModule` and its config.

    Args:
        config: address of a stdlib dataclass that extends :class:`~anomaly_core.DataConfig`; imports no torch.
        homepage: where the data set is published.
        license: its licence, as its publisher names it.
        noncommercial: True where the licence excludes commercial use; a run then says so once.
    """

    kind: ClassVar[str] = "dataset"

    config: str
    homepage: str = ""
    license: str = ""
    noncommercial: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainerSpec(ComponentSpec):
    """A way of fitting: a :class:`~anomaly_core.BaseTrainer` and its config, a :class:`~anomaly_core.TrainConfig`."""

    kind: ClassVar[str] = "trainer"

    config: str


@dataclass(frozen=True, kw_only=True)
class MetricSpec(ComponentSpec):
    """A figure of merit: a :class:`~anomaly_core.BaseMetric`.

    Args:
        higher_is_better: the direction in which a method improves.
        default: computed when the user names no metric.
        oracle: its threshold is chosen on the test set itself; tables and reports say so beside its name.
        needs: ``"reconstruction"`` where it judges reconstructions: as a default it is then left out for other methods.
    """

    kind: ClassVar[str] = "metric"

    higher_is_better: bool = True
    default: bool = False
    oracle: bool = False
    needs: str = ""


@dataclass(frozen=True, kw_only=True)
class BackboneSpec(ComponentSpec):
    """Pretrained weights that travel inside a distribution.

    The entry point's name is timm's model name. ``target`` is the address of a function without arguments that returns the
    path of a weights file (``.safetensors``, or ``.pth`` loaded with ``weights_only=True``).

    Args:
        license: the licence of the weights.
        by_position: the file's tensors are in timm's order but carry other names.
    """

    kind: ClassVar[str] = "backbone"

    license: str = ""
    by_position: bool = False


@dataclass(frozen=True, kw_only=True)
class CommandSpec(ComponentSpec):
    """A subcommand of ``anomaly``; ``target`` is the address of a :class:`click.Command`, ``summary`` its line in the help."""

    kind: ClassVar[str] = "command"


@dataclass(frozen=True, kw_only=True)
class HookSpec(ComponentSpec):
    """Observers of a run's life; ``target`` is the address of a module or object with ``@anomaly_core.hookimpl`` functions."""

    kind: ClassVar[str] = "hook"


@dataclass(frozen=True, kw_only=True)
class EngineSpec(ComponentSpec):
    """What computes frozen networks, and opens detectors that were exported for it.

    ``target`` is the address of a function ``(network, size) -> callable``: it compiles a
    :class:`~anomaly_core.FrozenNetwork`, normalisation included, for float32 (B, 3, *size) images with any B; the callable
    takes such a CPU tensor and gives the list of feature maps that the network gives.

    Args:
        module: import name of the library that it needs; empty where none is needed.
        install: the command that installs it, for messages.
        suffixes: of the files that it opens for ``anomaly predict``, with their dots.
        reader: address of a function ``(path, engine) -> anomaly_core.types.Scorer``, which opens such a file.
    """

    kind: ClassVar[str] = "engine"

    module: str = ""
    install: str = ""
    suffixes: tuple[str, ...] = ()
    reader: str = ""


KINDS: dict[str, type[ComponentSpec]] = {
    spec.kind: spec
    for spec in (ModelSpec, DatasetSpec, TrainerSpec, MetricSpec, BackboneSpec, CommandSpec, HookSpec, EngineSpec)
}
