"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import CommandSpec, ExecutorSpec, HookSpec

PREDICT = CommandSpec(
    target="anomaly_predict.commands.predict:predict", summary="Score new images with a finished run or an exported detector."
)
EVALUATE = CommandSpec(
    target="anomaly_predict.commands.evaluate:evaluate", summary="Test a finished run again, on the same or other data."
)
PROCESSES = ExecutorSpec(target="anomaly_predict.sharding:processes", summary="processes of this machine")
REGIONS = HookSpec(target="anomaly_predict.listing:OBSERVER", summary="lists the regions of test images in predictions.csv")
