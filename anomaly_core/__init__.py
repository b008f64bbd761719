"""anomaly: a slim core and plugins that tell whether an image is normal, or not and where."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomaly_core.backbones import Backbones, FeatureExtractor
    from anomaly_core.base.data import BaseDataModule
    from anomaly_core.base.metric import BaseMetric
    from anomaly_core.base.modeler import BaseModeler, ClassificationModeler, FlowModeler, GradientModeler, MemoryModeler
    from anomaly_core.base.trainer import BaseTrainer
    from anomaly_core.calibration import Calibration
    from anomaly_core.config import RunConfig
    from anomaly_core.errors import (
        AnomalyError,
        BackboneError,
        ConfigError,
        DataError,
        PluginError,
        RunError,
        UndefinedMetric,
    )
    from anomaly_core.features import FrozenNetwork
    from anomaly_core.hookspecs import hookimpl
    from anomaly_core.inputs import InputSpec
    from anomaly_core.options import BaseConfig, DataConfig, ModelConfig, TrainConfig
    from anomaly_core.predict import Detector, load_run
    from anomaly_core.results import ExperimentResult, RunResult
    from anomaly_core.runner import run_experiment
    from anomaly_core.specs import (
        BackboneSpec,
        CommandSpec,
        DatasetSpec,
        EngineSpec,
        HookSpec,
        MetricSpec,
        ModelSpec,
        TrainerSpec,
    )
    from anomaly_core.types import Batch, Prediction, Sample

_HOME = {
    "AnomalyError": "errors",
    "BackboneError": "errors",
    "BackboneSpec": "specs",
    "Backbones": "backbones",
    "BaseConfig": "options",
    "BaseDataModule": "base.data",
    "BaseMetric": "base.metric",
    "BaseModeler": "base.modeler",
    "BaseTrainer": "base.trainer",
    "Batch": "types",
    "Calibration": "calibration",
    "ClassificationModeler": "base.modeler",
    "CommandSpec": "specs",
    "ConfigError": "errors",
    "DataConfig": "options",
    "DataError": "errors",
    "DatasetSpec": "specs",
    "Detector": "predict",
    "EngineSpec": "specs",
    "ExperimentResult": "results",
    "FeatureExtractor": "backbones",
    "FlowModeler": "base.modeler",
    "FrozenNetwork": "features",
    "GradientModeler": "base.modeler",
    "HookSpec": "specs",
    "InputSpec": "inputs",
    "MemoryModeler": "base.modeler",
    "MetricSpec": "specs",
    "ModelConfig": "options",
    "ModelSpec": "specs",
    "PluginError": "errors",
    "Prediction": "types",
    "RunConfig": "config",
    "RunError": "errors",
    "RunResult": "results",
    "Sample": "types",
    "TrainConfig": "options",
    "TrainerSpec": "specs",
    "UndefinedMetric": "errors",
    "hookimpl": "hookspecs",
    "load_run": "predict",
    "run_experiment": "runner",
}
__all__ = [
    "AnomalyError",
    "BackboneError",
    "BackboneSpec",
    "Backbones",
    "BaseConfig",
    "BaseDataModule",
    "BaseMetric",
    "BaseModeler",
    "BaseTrainer",
    "Batch",
    "Calibration",
    "ClassificationModeler",
    "CommandSpec",
    "ConfigError",
    "DataConfig",
    "DataError",
    "DatasetSpec",
    "Detector",
    "EngineSpec",
    "ExperimentResult",
    "FeatureExtractor",
    "FlowModeler",
    "FrozenNetwork",
    "GradientModeler",
    "HookSpec",
    "InputSpec",
    "MemoryModeler",
    "MetricSpec",
    "ModelConfig",
    "ModelSpec",
    "PluginError",
    "Prediction",
    "RunConfig",
    "RunError",
    "RunResult",
    "Sample",
    "TrainConfig",
    "TrainerSpec",
    "UndefinedMetric",
    "hookimpl",
    "load_run",
    "run_experiment",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first asked for, so that ``import anomaly_core`` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module 'anomaly_core' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"anomaly_core.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
