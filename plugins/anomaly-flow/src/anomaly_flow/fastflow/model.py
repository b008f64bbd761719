"""FastFlow's network part: a normalizing flow for each feature map, its likelihood and its anomaly map.

Paper: Yu et al., "FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows", 2021,
    https://arxiv.org/abs/2111.07677
Code: https://github.com/gathierry/FastFlow, which the field uses, with FrEIA's ``AllInOneBlock``.

Deviations:
- Permutations are drawn by torch's generator, FrEIA's by numpy's, and done by index, not by a product with their matrix.
- Flows compute in float32 whatever the precision of training: sums of squares overflow and log-determinants round below it.
- The epoch with the best likelihood of held-out normal images is kept; the code reports epochs judged on the test images.
- ``trainable_norm=False`` normalises without learnt scale and shift. The original's learnt scale is not counted in the
  log-determinant, so that its loss is no likelihood of the features themselves, and can go on falling by shrinking them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anomaly_features import upsample

with warnings.catch_warnings():
    # A docstring of FrEIA 0.2 holds a stray backslash, which Python reports when it compiles the file: where none is cached.
    warnings.filterwarnings("ignore", ".*invalid escape sequence", module=".*FrEIA")
    from FrEIA.framework import SequenceINN
    from FrEIA.modules import AllInOneBlock

Shape = tuple[int, int, int]


class FastFlowModel(nn.Module):
    """From frozen feature maps to latent maps, their log-determinants, the loss and the anomaly map.

    Args:
        shapes: (C, h, w) of each feature map; C at least 2.
        flow_steps: coupling steps of each flow.
        hidden_ratio: hidden channels of a step's subnet, as a share of its input's.
        conv3x3_only: every subnet convolves 3x3; else the odd steps 1x1.
        clamp: greatest log scale of a coupling step.
        norm: a LayerNorm over (C, h, w) before each flow; False where features come normalised.
        trainable_norm: whether that LayerNorm has scale and shift.
    """

    def __init__(
        self,
        shapes: Sequence[Shape],
        flow_steps: int = 8,
        hidden_ratio: float = 1.0,
        conv3x3_only: bool = False,
        clamp: float = 2.0,
        norm: bool = True,
        trainable_norm: bool = True,
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList(
            nn.LayerNorm(shape, elementwise_affine=trainable_norm) if norm else nn.Identity() for shape in shapes
        )
        self.flows = nn.ModuleList(flow(shape, flow_steps, hidden_ratio, conv3x3_only, clamp) for shape in shapes)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Feature maps to latents.

        Args:
            features: float (B, C, h, w), one a level, of the shapes that the model was built for.

        Returns:
            float32 latents z of the same shapes, and the float32 (B,) log|det dz/dx| of each level.
        """
        latents, log_dets = [], []
        for feature, norm, level in zip(features, self.norms, self.flows, strict=True):
            with torch.autocast(feature.device.type, enabled=False):
                latent, log_det = level(norm(feature.float()))
            latents.append(latent)
            log_dets.append(log_det)
        return latents, log_dets

    @staticmethod
    def loss(latents: Sequence[Tensor], log_dets: Sequence[Tensor]) -> Tensor:
        """Mean over the batch of ``0.5 * sum(z**2) - log|det|``, summed over levels: nats an image, less the constant."""
        terms = [
            (0.5 * latent.square().sum(dim=(1, 2, 3)) - log_det).mean()
            for latent, log_det in zip(latents, log_dets, strict=True)
        ]
        return torch.stack(terms).sum()

    @staticmethod
    def anomaly_maps(latents: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """(B, C, h, w) latents to a float32 (B, 1, *size) map in [-1, 0]: mean over levels of ``-exp(-0.5 * mean_c z**2)``."""
        levels = [upsample(-torch.exp(-0.5 * latent.square().mean(dim=1, keepdim=True)), size) for latent in latents]
        return torch.stack(levels).mean(dim=0)


def flow(
    shape: Shape, steps: int = 8, hidden_ratio: float = 1.0, conv3x3_only: bool = False, clamp: float = 2.0
) -> SequenceINN:
    """The flow of a level, for (B, C, h, w) maps; even steps convolve 3x3, the odd ones 1x1 unless ``conv3x3_only``."""
    sequence = SequenceINN(*shape)
    for step in range(steps):
        kernel_size = 3 if conv3x3_only or step % 2 == 0 else 1

        def subnet(channels_in: int, channels_out: int, kernel_size: int = kernel_size) -> nn.Sequential:
            hidden = max(1, int(channels_in * hidden_ratio))
            return nn.Sequential(
                nn.Conv2d(channels_in, hidden, kernel_size, padding="same"),
                nn.ReLU(),
                nn.Conv2d(hidden, channels_out, kernel_size, padding="same"),
            )

        sequence.append(CouplingStep, subnet_constructor=subnet, affine_clamping=clamp, permute_soft=False)
    return sequence


class CouplingStep(AllInOneBlock):  # type: ignore[misc]  # FrEIA has no types
    """FrEIA's step with its permutation drawn by torch's generator and done by index.

    FrEIA multiplies by the permutation's matrix, a 1x1 convolution over all channels: with wide maps and small subnets half
    of a step's arithmetic, for the same numbers. The matrices remain the step's state, under FrEIA's names.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        channels = self.in_channels
        matrix = torch.eye(channels)[torch.randperm(channels)]
        self.w_perm.data = matrix.view_as(self.w_perm)
        # contiguous, as FrEIA's own is not: safetensors saves nothing else
        self.w_perm_inv.data = matrix.T.contiguous().view_as(self.w_perm_inv)

    def _permute(self, x: Tensor, rev: bool = False) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) scaled, shifted and permuted, or back, and the log-determinant of the scaling, a pixel."""
        scale = self.global_scale_activation(self.global_scale)
        log_det = scale.log().sum()
        order = (self.w_perm_inv if rev else self.w_perm).flatten(1).argmax(dim=1)
        if rev:
            return (x.index_select(1, order) - self.global_offset) / scale, log_det
        return (x * scale + self.global_offset).index_select(1, order), log_det
