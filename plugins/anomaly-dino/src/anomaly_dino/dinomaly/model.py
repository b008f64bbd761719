"""Dinomaly's network part: a noisy bottleneck and a decoder of linear attention that rebuild a frozen transformer's tokens.

Paper: Guo et al., "Dinomaly: The Less Is More Philosophy in Multi-Class Unsupervised Anomaly Detection", CVPR 2025,
https://arxiv.org/abs/2405.14325
Code: https://github.com/guojiajeremy/Dinomaly, Apache-2.0, commit c5c76d0

Deviations:
- Maps are enlarged from ``map_size`` to the input, so that they lie on the image; scores are taken before that.
- The bottleneck's input is the mean of the groups' means, which is the mean of all blocks but for rounding.
- In a run of fewer than 1,000 steps the warm-up takes a tenth of them, not 100.
- Attention divides by its sum and 1e-6, which the official README recommends where values become NaN.
- A share of the normal images is held out for the threshold; the original trains on all, and its scores have none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TOP = 0.01  # the share of a map's pixels whose mean is the image score
KERNEL, SIGMA = 5, 4.0  # of the map's smoothing, in pixels
EPSILON = 1e-6  # of a sum of positive numbers, one a token


class MLP(nn.Module):
    """Linear, GELU, linear; with dropout before, between and after if there is any.

    Args:
        dim, hidden: channels.
        dropout: the probability of each of the three.
    """

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to the same."""
        hidden = self.drop(F.gelu(self.fc1(self.drop(tokens))))
        output: Tensor = self.drop(self.fc2(hidden))
        return output


class LinearAttention(nn.Module):
    """Attention without a softmax: elu + 1 of queries and keys, so that its cost grows with the tokens and not their square.

    Args:
        dim: channels.
        heads: how many heads they are divided into.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to the same."""
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()  # (B, heads, N, C / heads)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        weights = (q * k.sum(dim=2, keepdim=True)).sum(dim=3, keepdim=True) + EPSILON
        attended = (q @ (k.transpose(2, 3) @ v)) / weights
        output: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return output


class Block(nn.Module):
    """A transformer block with its norms first.

    Args:
        dim: channels.
        heads: of the attention.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-8), nn.LayerNorm(dim, eps=1e-8)
        self.attn, self.mlp = LinearAttention(dim, heads), MLP(dim, 4 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to the same."""
        attended: Tensor = tokens + self.attn(self.norm1(tokens))
        output: Tensor = attended + self.mlp(self.norm2(attended))
        return output


class DinomalyModel(nn.Module):
    """Bottleneck and decoder; works with any encoder's tokens.

    Args:
        dim: channels of a token.
        heads: of the decoder's attention.
        blocks: of the decoder, as many as the encoder gives; a whole number of groups.
        groups: consecutive blocks that are compared by their mean.
        prefix: tokens before the patches, which take part and are not compared.
        grid: (h, w) of the patches.
        dropout: of the bottleneck, while it is trained.
        map_size: (H, W) of the map that is smoothed and that scores are taken from; None is the input's size.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        blocks: int,
        groups: int,
        prefix: int,
        grid: tuple[int, int],
        dropout: float = 0.2,
        map_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.groups, self.prefix, self.grid, self.map_size = groups, prefix, grid, map_size
        self.bottleneck = nn.ModuleList([MLP(dim, 4 * dim, dropout)])
        self.decoder = nn.ModuleList([Block(dim, heads) for _ in range(blocks)])
        self.apply(_start)

    def forward(self, encoded: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The encoder's groups and the decoder's, as maps.

        Args:
            encoded: the means of each group of the encoder's blocks, (B, prefix + h * w, C).

        Returns:
            float (B, C, h, w), one a group: what is to be rebuilt, without gradient, and what was.
        """
        tokens = torch.stack(list(encoded)).mean(dim=0)
        for part in self.bottleneck:
            tokens = part(tokens)
        outputs = []
        for block in self.decoder:
            tokens = block(tokens)
            outputs.append(tokens)
        decoded = grouped(outputs[::-1], self.groups)  # the last block rebuilds the encoder's first
        return [self.patches(tokens.detach()) for tokens in encoded], [self.patches(tokens) for tokens in decoded]

    def patches(self, tokens: Tensor) -> Tensor:
        """(B, prefix + h * w, C) to (B, C, h, w)."""
        maps: Tensor = tokens[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)
        return maps

    def score(self, encoded: Sequence[Tensor], decoded: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Image scores and anomaly maps of what :meth:`forward` returned.

        Args:
            encoded, decoded: (B, C, h, w), one a group.
            size: (H, W) of the maps.

        Returns:
            float32 (B,) and (B, 1, *size).
        """
        distances = [point_distance(e, d)[:, None] for e, d in zip(encoded, decoded, strict=True)]
        mean = torch.stack([F.interpolate(part, size, mode="bilinear", align_corners=True) for part in distances]).mean(dim=0)
        at = self.map_size or size
        maps = smooth(mean if at == size else F.interpolate(mean, at, mode="bilinear", align_corners=False))
        scores = maps.flatten(1).topk(max(1, int(TOP * at[0] * at[1])), dim=1).values.mean(dim=1)
        return scores, maps if at == size else F.interpolate(maps, size, mode="bilinear", align_corners=False)


def grouped(blocks: Sequence[Tensor], groups: int) -> list[Tensor]:
    """The means of so many groups of consecutive blocks' outputs, all as large."""
    each = len(blocks) // groups
    return [torch.stack(list(blocks[start : start + each])).mean(dim=0) for start in range(0, len(blocks), each)]


def point_distance(encoded: Tensor, decoded: Tensor) -> Tensor:
    """1 - cosine along channels: (B, C, h, w) twice to (B, h, w)."""
    return 1 - F.cosine_similarity(encoded.float(), decoded.float(), dim=1)


def loss(encoded: Sequence[Tensor], decoded: Sequence[Tensor], hard: float | None = None, factor: float = 0.1) -> Tensor:
    """The mean over groups of 1 - cosine between whole flattened maps, averaged over the batch (the paper's equation 5).

    Args:
        encoded, decoded: (B, C, h, w), one a group.
        hard: the share p of points whose gradient is weakened, those that are rebuilt best; None weakens none. The value of the
            loss does not depend on it.
        factor: by which it is multiplied there.
    """
    parts = []
    for of_encoder, of_decoder in zip(encoded, decoded, strict=True):
        if hard is not None and of_decoder.requires_grad:
            weakened: Tensor = _Weakened.apply(of_decoder, _easy(of_encoder, of_decoder.detach(), hard), factor)
        else:
            weakened = of_decoder
        parts.append((1 - F.cosine_similarity(of_encoder.flatten(1).float(), weakened.flatten(1).float(), dim=1)).mean())
    return torch.stack(parts).mean()


def smooth(maps: Tensor) -> Tensor:
    """(B, 1, H, W) maps by a Gaussian of 5 x 5 pixels and sigma 4, padded by zeros: borders darken, as in the original."""
    offsets = torch.arange(KERNEL, device=maps.device, dtype=maps.dtype) - KERNEL // 2
    line = torch.exp(-offsets.square() / (2 * SIGMA**2))
    kernel = line[:, None] * line
    return F.conv2d(maps, (kernel / kernel.sum())[None, None], padding=KERNEL // 2)


def _easy(encoded: Tensor, decoded: Tensor, hard: float) -> Tensor:
    """bool (B, 1, h, w): the points of the batch that are nearer than the hardest 1 - p of them."""
    distances = point_distance(encoded, decoded)
    count = max(1, int(distances.numel() * (1 - hard)))
    return (distances < distances.flatten().topk(count).values[-1])[:, None]


class _Weakened(torch.autograd.Function):
    """The same values, with the gradient multiplied by a factor at some points."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, values: Tensor, where: Tensor, factor: float) -> Tensor:
        context.save_for_backward(where)
        context.factor = factor  # type: ignore[attr-defined]
        return values.view_as(values)

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (where,) = context.saved_tensors  # type: ignore[attr-defined]
        return torch.where(where, gradient * context.factor, gradient), None, None  # type: ignore[attr-defined]


def _start(module: nn.Module) -> None:
    """The original's weights at the start: small, and no bias."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.01, a=-0.03, b=0.03)
        nn.init.zeros_(module.bias)
