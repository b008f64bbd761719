"""Specs: a plugin's frozen, torch-free descriptions of its components, with the addresses of the implementations.

An address is ``"package.module:attribute"``; it is only imported when the component is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal


@dataclass(frozen=True, kw_only=True)
class ComponentSpec:
    """The fields that all kinds share.

    Args:
        target: address of the class or function that does the work.
        summary: one line for ``show`` and the help.

    A kind's entry point group is ``anomaly_core.<kind>s``. A kind with options has its own section in a run's config; its
    components' config dataclasses extend the one at ``config_base``.
    """

    kind: ClassVar[str] = ""
    section: ClassVar[str] = ""
    config_base: ClassVar[str] = ""

    target: str
    summary: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelSpec(ComponentSpec):
    """A method: a :class:`~anomaly_core.BaseModeler`, its config and the trainer that fits it.

    Args:
        config: address of a stdlib dataclass that extends :class:`~anomaly_core.ModelConfig`; imports no torch.
        trainer: name of the trainer: ``memory``, ``gradient`` or a plugin's.
        paper, code: where the method is described, and the original implementation.
        presets: ``"package:folder"`` with one YAML file per preset.
        train: trainer options that the method needs, which every preset may override: ``{"gradient_clip": 1.0}``.
    """

    kind: ClassVar[str] = "model"
    section: ClassVar[str] = "model"
    config_base: ClassVar[str] = "anomaly_core.config.sections:ModelConfig"

    config: str
    trainer: str
    paper: str = ""
    code: str = ""
    presets: str = ""
    train: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class DatasetSpec(ComponentSpec):
    """A data set: a :class:`~anomaly_core.BaseDataModule` and its config.

    Args:
        config: address of a stdlib dataclass that extends :class:`~anomaly_core.DataConfig`; imports no torch.
        homepage, license: where the data set is published, and its licence as the publisher names it.
        noncommercial: the licence excludes commercial use; a run then logs this once.
    """

    kind: ClassVar[str] = "dataset"
    section: ClassVar[str] = "data"
    config_base: ClassVar[str] = "anomaly_core.config.sections:DataConfig"

    config: str
    homepage: str = ""
    license: str = ""
    noncommercial: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainerSpec(ComponentSpec):
    """A way of fitting: a :class:`~anomaly_core.BaseTrainer` and its config, a :class:`~anomaly_core.TrainConfig`.

    Args:
        launcher: address of a function ``(devices, arguments) -> exit status`` that runs the command line ``arguments`` in
            several processes (``anomaly run --devices N``); empty if it fits in one process only.
    """

    kind: ClassVar[str] = "trainer"
    section: ClassVar[str] = "train"
    config_base: ClassVar[str] = "anomaly_core.config.sections:TrainConfig"

    config: str
    launcher: str = ""


@dataclass(frozen=True, kw_only=True)
class MetricSpec(ComponentSpec):
    """A figure of merit: a :class:`~anomaly_core.BaseMetric`.

    Args:
        title: its name in tables and reports, such as ``Image AUROC``; if empty, the entry point's name.
        level: what it judges. A default of level ``reconstruction`` is left out for methods that do not reconstruct.
        prominence: ``headline`` is in every table, ``table`` in a run's table, ``detail`` only in metrics.json and the report.
        higher_is_better: the direction in which a method improves.
        default: computed when the user names no metric.
        oracle: its threshold is chosen on the test set itself; tables and reports mark its name.
        at_threshold: it judges verdicts at the calibrated threshold (at level ``pixel``: that of the maps).
        bounded: its values lie in [0, 1], and so do the intervals that are stated for them.
    """

    kind: ClassVar[str] = "metric"

    title: str = ""
    level: Literal["image", "pixel", "reconstruction"] = "image"
    prominence: Literal["headline", "table", "detail"] = "detail"
    higher_is_better: bool = True
    default: bool = False
    oracle: bool = False
    at_threshold: bool = False
    bounded: bool = False


@dataclass(frozen=True, kw_only=True)
class BackboneSpec(ComponentSpec):
    """Pretrained weights that a distribution contains.

    The entry point's name is timm's model name. ``target`` is the address of a function without arguments that returns the
    path of a weights file (``.safetensors``, or ``.pth``, which is loaded with ``weights_only=True``). Weights of one of timm's
    architectures that are not timm's have a tag of their own: ``vit_small_patch14_dinov2.saliency``.

    Args:
        license: the licence of the weights.
        by_position: the file's tensors are in timm's order but have other names.
        reader: address of a function that reads another kind of file: its path -> a state dict under timm's names.
    """

    kind: ClassVar[str] = "backbone"

    license: str = ""
    by_position: bool = False
    reader: str = ""


@dataclass(frozen=True, kw_only=True)
class CommandSpec(ComponentSpec):
    """A subcommand of ``anomaly``; ``target`` is the address of a :class:`click.Command`, ``summary`` its line in the help."""

    kind: ClassVar[str] = "command"


@dataclass(frozen=True, kw_only=True)
class HookSpec(ComponentSpec):
    """Observers of a run; ``target`` is the address of a module or object with ``@anomaly_core.hookimpl`` functions."""

    kind: ClassVar[str] = "hook"


@dataclass(frozen=True, kw_only=True)
class EngineSpec(ComponentSpec):
    """An engine: computes frozen networks, and opens detectors exported for it.

    ``target`` is the address of a function ``(network, size) -> callable``, as described in ``anomaly_features``.

    Args:
        module: import name of the library that it needs; empty if none is needed.
        install: the command that installs the library, for messages.
        suffixes: suffixes, with their dots, of the files that it opens for ``anomaly predict``.
        reader: address of a function ``(path, engine, threads, verify=True) -> Detector`` that opens such a file, and with
            ``verify`` refuses one that is not as it was written.
        rewriter: address of a function ``(path, calibration, verify=True) -> None`` that gives such a file another
            calibration, and leaves the rest as it is.
        opener: address of a function ``(run, config, engine, threads) -> Detector | None`` that opens a finished run, a
            ``RunFolder``, without torch, by what ``keeper`` left in its folder; None if nothing there belongs to the run as it
            is.
        keeper: address of a function ``(folder, engine, images) -> str`` that leaves it there, compared with the run on some
            images. The text says what came of it; empty if that was known already. RunError if it cannot be written.
        calibrator: address of a function ``(network, images) -> state``, for an engine that must see training images before it
            computes, as described in ``anomaly_features``; the state is saved with the run.
        precision: of its computation: ``float32``, ``bfloat16`` or ``int8``.
        auto: its rank among the engines of which ``model.engine=auto`` takes the first that is installed; None: it is used by
            name alone, as everything must be that does not compute in float32.
    """

    kind: ClassVar[str] = "engine"

    module: str = ""
    install: str = ""
    suffixes: tuple[str, ...] = ()
    reader: str = ""
    rewriter: str = ""
    opener: str = ""
    keeper: str = ""
    calibrator: str = ""
    precision: str = "float32"
    auto: int | None = None


@dataclass(frozen=True, kw_only=True)
class ExecutorSpec(ComponentSpec):
    """An executor: runs many tasks in parallel, in processes on this machine or on a cluster.

    ``target`` is the address of a context manager ``(jobs, address) -> map``; the map's results are in the order of the
    items. ``module`` and ``install`` are as for an engine.
    """

    kind: ClassVar[str] = "executor"

    module: str = ""
    install: str = ""


KINDS: dict[str, type[ComponentSpec]] = {spec.kind: spec for spec in ComponentSpec.__subclasses__()}
