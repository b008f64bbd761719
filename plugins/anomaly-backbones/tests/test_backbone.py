"""The carried weights load, fit timm's network and are real."""

import torch

from anomaly_core import registry
from anomaly_features import Backbones, FeatureExtractor


def test_weights_fit_timm_and_give_the_levels_of_resnet(tmp_path):
    extractor = FeatureExtractor("tf_efficientnet_lite0", (1, 2, 3), Backbones(tmp_path))
    assert extractor.channels == [24, 40, 112]
    assert extractor.strides == [4, 8, 16]
    assert extractor.mean == extractor.std == (0.5, 0.5, 0.5)
    features = extractor(torch.rand(2, 3, 64, 96))
    assert [tuple(level.shape) for level in features] == [(2, 24, 16, 24), (2, 40, 8, 12), (2, 112, 4, 6)]


def test_there_are_296_tensors_and_they_are_trained(tmp_path):
    state = Backbones(tmp_path).load("tf_efficientnet_lite0")
    assert len(state) == 296
    assert state["bn1.running_mean"].abs().max() > 0.01  # a fresh network has zeros


def test_the_tagged_name_finds_the_same_weights(tmp_path):
    assert "tf_efficientnet_lite0" in registry.backbones
    plain, tagged = (Backbones(tmp_path).load(name) for name in ("tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k"))
    assert all(torch.equal(plain[key], tagged[key]) for key in plain)
