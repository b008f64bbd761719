"""The backbones that this distribution carries; torch-free."""

from __future__ import annotations

from anomaly_core import BackboneSpec

TF_EFFICIENTNET_LITE0 = BackboneSpec(
    target="anomaly_backbones.files:tf_efficientnet_lite0",
    summary="EfficientNet-Lite0, ImageNet-1k, 4.7 M parameters",
    license="Apache-2.0",
    by_position=True,  # the wheel's file is in timm's order under the names of another implementation
)

TF_EFFICIENTNET_LITE2 = BackboneSpec(
    target="anomaly_backbones.files:tf_efficientnet_lite2",
    summary="EfficientNet-Lite2, ImageNet-1k, 6.1 M parameters",
    license="Apache-2.0",
    by_position=True,  # as Lite0's
)

VIT_SMALL_SALIENCY = BackboneSpec(
    target="anomaly_backbones.files:vit_small_saliency",
    reader="anomaly_backbones.saliency:read",
    summary="saliency-tuned ViT-S/14 (not DINOv2's weights), 22 M parameters; blocks 5 to 8 are the good ones",
    license="MIT",
)
