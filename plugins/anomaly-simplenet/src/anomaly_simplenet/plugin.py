"""The methods of this distribution; torch-free."""

from __future__ import annotations

from anomaly_core import ModelSpec

SUPERSIMPLENET = ModelSpec(
    target="anomaly_simplenet.supersimplenet.modeler:SuperSimpleNetModeler",
    config="anomaly_simplenet.supersimplenet.config:SuperSimpleNetConfig",
    trainer="gradient",
    summary="a small head that tells features from noisy features, and from real defects",
    paper="https://arxiv.org/abs/2408.03143",
    code="https://github.com/blaz-r/SuperSimpleNet",
    presets="anomaly_simplenet.supersimplenet:presets",
)
