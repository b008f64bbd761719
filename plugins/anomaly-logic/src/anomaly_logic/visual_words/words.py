"""Words: the vocabulary of one layer, and how much of each word every cell of an image has."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomaly_core import RunError

SAMPLE = 20_000  # cells that the words are found in
SEED = 0  # of the draw and of k-means: the words of a run depend on its images alone


class Words(nn.Module):
    """Standardised features, and the words among them; empty until :meth:`fit`.

    Attributes:
        centre, scale: float32 (C,), each channel's mean, and its deviation times the square root of C.
        words: float32 (K, C), the centres of k-means.
        usual: float32 (K, h, w), each word's mean share of every cell over normal images.
        temperature: float32 (), by how much more a squared distance makes a word e times as unlikely.
    """

    centre: Tensor
    scale: Tensor
    words: Tensor
    usual: Tensor
    temperature: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("words", torch.empty(0, channels))
        self.register_buffer("usual", torch.empty(0, 0, 0))
        self.register_buffer("temperature", torch.tensor(1.0))

    def fit(self, features: Tensor, count: int, softness: float) -> None:
        """Find ``count`` words in the features of normal images, (N, C, h, w) of any float type, by k-means."""
        from sklearn.cluster import KMeans

        images, channels, height, width = features.shape
        cells = images * height * width
        chosen = torch.randperm(cells, generator=torch.Generator().manual_seed(SEED))[:SAMPLE].sort().values
        image, cell = chosen // (height * width), chosen % (height * width)
        rows = features[image, :, cell // width, cell % width].float()  # (n, C)
        deviation, self.centre = (part.to(self.centre) for part in torch.std_mean(rows, dim=0))
        # a channel that is (nearly) the same everywhere, as behind a ReLU, must not be blown up to noise
        floor = 1e-3 * deviation.max().clamp(min=1e-12)
        self.scale = deviation.clamp(min=float(floor)) * channels**0.5
        rows = ((rows - self.centre.cpu()) / self.scale.cpu()).contiguous()
        count = min(count, len(rows))
        # Lloyd's algorithm: mini-batches overlook words of small parts, which have one cell in a hundred
        found = KMeans(count, random_state=SEED, n_init=3, max_iter=100).fit(rows.numpy())
        self.words = torch.from_numpy(found.cluster_centers_).to(self.centre)
        nearest = torch.cdist(rows, self.words.cpu()).amin(dim=1).square().mean()
        self.temperature = (softness * nearest).clamp(min=1e-6).to(self.centre)

    def standardised(self, features: Tensor) -> Tensor:
        """float32 (B, C, h, w), of zero mean and variance 1 / C over normal images."""
        return (features - self.centre[:, None, None]) / self.scale[:, None, None]

    def forward(self, features: Tensor) -> Tensor:
        """Standardised features to each word's share of every cell, float32 (B, K, h, w): 1 in all.

        A share falls with exp(-squared distance / temperature).

        Raises:
            RunError: there are no words yet.
        """
        if not self.words.numel():
            raise RunError("visual_words has no words yet. Fit it first, or load a finished run.")
        height, width = int(features.shape[-2]), int(features.shape[-1])
        likeness = 2 * self.words @ features.flatten(2) - self.words.square().sum(dim=1)[:, None]  # (B, K, h * w)
        return torch.softmax(likeness / self.temperature, dim=1).reshape(-1, len(self.words), height, width)

    def beyond(self, shares: Tensor) -> Tensor:
        """Shares (B, K, h, w) less the usual ones of the same cells; RunError if these are of another grid."""
        grid, fitted = tuple(shares.shape[-2:]), tuple(self.usual.shape[-2:])
        if grid != fitted:
            raise RunError(
                f"visual_words was fitted on {fitted[0]} x {fitted[1]} cells, and these images have {grid[0]} x {grid[1]}. "
                "It knows what is usual at each cell: give images of the size that it was fitted on."
            )
        return shares - self.usual
