"""What this distribution registers."""

from __future__ import annotations

from anomaly_core import CommandSpec

THRESHOLD = CommandSpec(
    target="anomaly_teach.commands.threshold:threshold",
    summary="Show what each threshold costs, and change that of a run or an exported file.",
)
SUSPECTS = CommandSpec(
    target="anomaly_teach.commands.suspects:suspects", summary="List the odd images among a run's normal ones, with pictures."
)
SUGGEST = CommandSpec(
    target="anomaly_teach.commands.suggest:suggest", summary="Try sizes and methods on your images, and say which to use."
)
EXTEND = CommandSpec(
    target="anomaly_teach.commands.extend:extend", summary="Add normal images to a finished run, without fitting it anew."
)
