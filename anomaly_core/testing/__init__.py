"""The conformance kit: what every plugin must keep to, as checks that run from pytest, from Python and as ``anomaly check``."""

from anomaly_core.testing.api import (
    check_backbone,
    check_command,
    check_component,
    check_dataset,
    check_engine,
    check_hooks,
    check_metric,
    check_model,
    check_trainer,
    checks_of,
    parametrize_with_checks,
)
from anomaly_core.testing.checks import Broken, ConformanceError, Outcome, Skip

__all__ = [
    "Broken",
    "ConformanceError",
    "Outcome",
    "Skip",
    "check_backbone",
    "check_command",
    "check_component",
    "check_dataset",
    "check_engine",
    "check_hooks",
    "check_metric",
    "check_model",
    "check_trainer",
    "checks_of",
    "parametrize_with_checks",
]
