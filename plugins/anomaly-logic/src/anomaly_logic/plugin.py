"""The methods of this distribution; torch-free."""

from __future__ import annotations

from anomaly_core import ModelSpec

VISUAL_WORDS = ModelSpec(
    target="anomaly_logic.visual_words.modeler:VisualWordsModeler",
    config="anomaly_logic.visual_words.config:VisualWordsConfig",
    trainer="memory",
    summary="which visual words an image has, how many and where, beside a structural map",
    presets="anomaly_logic.visual_words:presets",
)
