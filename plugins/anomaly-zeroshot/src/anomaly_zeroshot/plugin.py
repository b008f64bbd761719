"""The method and the command of this distribution; torch-free."""

from __future__ import annotations

from anomaly_core import CommandSpec, ModelSpec

MUSC = ModelSpec(
    target="anomaly_zeroshot.musc.modeler:MuScModeler",
    config="anomaly_zeroshot.musc.config:MuScConfig",
    trainer="memory",
    summary="unlabelled images score one another: what few others have is odd",
    paper="https://arxiv.org/abs/2401.16753",
    code="https://github.com/xrli-U/MuSc",
    presets="anomaly_zeroshot.musc:presets",
)

RANK = CommandSpec(
    target="anomaly_zeroshot.commands.rank:rank",
    summary="Rank unlabelled images, the most unusual first, without training.",
)
