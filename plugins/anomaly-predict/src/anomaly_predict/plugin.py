"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import CommandSpec, ExecutorSpec

PREDICT = CommandSpec(
    target="anomaly_predict.commands.predict:predict", summary="Score new images with a finished run or an exported detector."
)
EVALUATE = CommandSpec(
    target="anomaly_predict.commands.evaluate:evaluate", summary="Test a finished run again, on the same or other data."
)
PROCESSES = ExecutorSpec(target="anomaly_predict.sharding:processes", summary="processes of this machine")
