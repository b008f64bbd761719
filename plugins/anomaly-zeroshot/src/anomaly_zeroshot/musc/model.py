"""MuSc's network part: neighbourhoods of patch features, and scores of images by one another.

Paper: Li et al., "MuSc: Zero-Shot Industrial Anomaly Classification and Segmentation with Mutual Scoring of the Unlabeled
Images", ICLR 2024, https://arxiv.org/abs/2401.16753
Code: https://github.com/xrli-U/MuSc, MIT, commit b76b93d

Deviations:
- An image that was not among those that are compared is scored by all of them; the original knows no other images. One that was
  is recognised, and not compared with itself.
- Features and distances are float32. The original computes them in half precision on a GPU.
- To bound memory and time, an image is compared with a random share of the images (``most_images``); the original divides them
  into parts that are scored apart (``divide_num``).
- Layers of a convolutional network have grids of their own: their scores are enlarged to the finest.
- Class tokens have unit length, those of DINO too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_core import DataError, RunError

CELLS = 2**20  # similarities of one image that are computed at once: 4 MB
IN_GRAPH = 2**24  # in an exported graph, for one image, where each part is a node of its own
SAME = 0.05  # an image is a collected one if each of its patches has one there at most so far: the angle is 3 degrees


class MuScModel(nn.Module):
    """From feature maps to scores; works with any feature extractor.

    Args:
        layers: the number of feature maps.
        neighbourhoods: odd sides of the windows, in patches (the paper's r).
        lowest: the interval of the other images, sorted by their distance, over which it is averaged (the paper's 0 to 0.3).
        rscin: numbers of neighbours over which image scores are averaged; empty keeps them.
        dtype: in which features are kept.

    Attributes:
        maps0, maps1, ...: float (N, C, h, w), each layer's normalised features of the images to compare with; empty until
            :meth:`build`.
        embeddings: float32 (N, D) of unit length; without ``rscin`` (N, 0).
        raw: float32 (N,), those images' scores before :meth:`rescored`; without ``rscin`` empty.
    """

    embeddings: Tensor
    raw: Tensor

    def __init__(
        self,
        layers: int,
        neighbourhoods: Sequence[int] = (1, 3, 5),
        lowest: tuple[float, float] = (0.0, 0.3),
        rscin: Sequence[int] = (1, 2, 3),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.neighbourhoods = tuple(neighbourhoods)
        self.lowest = lowest
        self.rscin = tuple(rscin)
        for layer in range(layers):
            self.register_buffer(f"maps{layer}", torch.empty(0, 0, 0, 0, dtype=dtype))
        self.register_buffer("embeddings", torch.empty(0, 0))
        self.register_buffer("raw", torch.empty(0))

    @property
    def memory(self) -> list[Tensor]:
        """Each layer's maps of the images to compare with."""
        return [self.get_buffer(f"maps{layer}") for layer in range(self.layers)]

    def build(self, maps: Sequence[Tensor], embeddings: Tensor | None = None, size: tuple[int, int] = (0, 0)) -> None:
        """Take in the images to compare with.

        Args:
            maps: (N, C, h, w) of :func:`normalised`, one a layer.
            embeddings: (N, D) of unit length, for ``rscin``.
            size: (H, W) of the maps that image scores are taken from, for ``rscin``.

        Raises:
            DataError: there are too few images for the interval ``lowest``.
        """
        count = len(maps[0])
        low, high = self._interval(count - 1)
        if high <= low:
            fewest = next(n for n in range(2, 10**6) if (part := self._interval(n - 1))[1] > part[0])
            raise DataError(
                f"MuSc compares {count} images, and of so few model.lowest={self.lowest[0]:g},{self.lowest[1]:g} takes none. "
                f"Give {fewest} images or more, or widen the interval."
            )
        for layer, values in enumerate(maps):
            setattr(self, f"maps{layer}", values.to(self.get_buffer(f"maps{layer}").dtype))
        if self.rscin and embeddings is not None:
            self.embeddings = embeddings
            raw = torch.empty(count, device=maps[0].device)
            for first in range(0, count, 4):  # in place: kept parts between large temporaries take gigabytes
                raw[first : first + 4] = self(([level[first : first + 4].float() for level in maps]), None, size)[0]
            self.raw = raw

    def forward(self, maps: Sequence[Tensor], embeddings: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Image scores and anomaly maps.

        Args:
            maps: (B, C, h, w) of :func:`normalised`, one a layer.
            embeddings: (B, D) of unit length; None: no ``rscin``.
            size: (H, W) of the maps.

        Returns:
            float32 (B,) and float32 (B, 1, *size).

        Raises:
            RunError: there is nothing to compare with, or it has another grid.
        """
        scores, itself = self.patch_scores(maps)
        maps_of_scores = F.interpolate(scores[:, None], size, mode="bilinear", align_corners=True)
        raw = maps_of_scores.amax(dim=(1, 2, 3))
        if self.rscin and embeddings is not None:
            raw = rescored(raw, embeddings, self.raw, self.embeddings, itself, self.rscin)
        return raw, maps_of_scores

    def patch_scores(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean mutual scores over layers and neighbourhoods (B, h, w), and which collected image each is, bool (B, N)."""
        memory = self.memory
        if not len(memory[0]):
            raise RunError("MuSc has no images to compare with. Fit it first, or load a finished run.")
        for values, collected in zip(maps, memory, strict=True):
            if values.shape[1:] != collected.shape[1:]:
                raise RunError(
                    f"MuSc compares features of the shape {tuple(collected.shape[1:])}, and these images have "
                    f"{tuple(values.shape[1:])}. Give images of the size that it was fitted on."
                )
        grid = max((values.shape[-2:] for values in maps), key=lambda side: side[0] * side[1])
        total, itself = None, None
        for r in self.neighbourhoods:
            for values, collected in zip(maps, memory, strict=True):
                distances = nearest(values, collected, r)  # (B, h * w, N)
                if itself is None:
                    itself = _recognised(distances)
                scores = self.mutual(distances, itself).unflatten(1, values.shape[-2:])
                if scores.shape[-2:] != grid:
                    scores = F.interpolate(scores[:, None], grid, mode="bilinear", align_corners=True)[:, 0]
                total = scores if total is None else total + scores
        assert total is not None and itself is not None
        return total / (len(self.neighbourhoods) * len(memory)), itself

    def mutual(self, distances: Tensor, itself: Tensor) -> Tensor:
        """The paper's MSM: of each patch the mean distance to those images that are most similar there.

        Args:
            distances: (B, P, N) to the nearest patch of each image.
            itself: bool (B, N), the image that it is, which does not count; all False for a new one.

        Returns:
            (B, P).
        """
        count = distances.shape[-1]
        most = max(self._interval(count)[1], self._interval(count - 1)[1])
        lowest = distances.masked_fill(itself[:, None], math.inf).topk(most, dim=-1, largest=False).values

        def mean(others: int) -> Tensor:
            low, high = self._interval(others)
            return lowest[..., low:high].mean(dim=-1)

        return torch.where(itself.any(dim=1, keepdim=True), mean(count - 1), mean(count))

    def _interval(self, others: int) -> tuple[int, int]:
        return int(self.lowest[0] * others), int(self.lowest[1] * others)


def normalised(features: Tensor) -> Tensor:
    """The LayerNorm of LNAMD: (B, C, h, w) features, each image over all of its values together, without weights."""
    centred = features.float() - features.float().mean(dim=(1, 2, 3), keepdim=True)  # layer_norm exports for fixed shapes alone
    return centred / (centred.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-5).sqrt()


def aggregated(maps: Tensor, r: int) -> Tensor:
    """The rest of LNAMD: (B, C, h, w) to (B, h * w, C), each patch the mean of its r x r neighbourhood, padded by zeros."""
    return F.avg_pool2d(maps, r, 1, r // 2).flatten(2).transpose(1, 2)


def nearest(maps: Tensor, collected: Tensor, r: int) -> Tensor:
    """Euclidean distance of each patch, of unit length, to the nearest patch of each image.

    Args:
        maps: (B, C, h, w) of :func:`normalised`.
        collected: (N, C, h, w), the same of the images to compare with, in any precision.
        r: side of the neighbourhood.

    Returns:
        float32 (B, h * w, N).
    """
    patches = F.normalize(aggregated(maps, r), dim=-1)  # (B, P, C)
    if torch.jit.is_tracing() or torch.compiler.is_exporting():  # type: ignore[no-untyped-call,attr-defined]
        similar = torch.cat([_most_similar(patches, others) for others in _parts(collected, r, IN_GRAPH)], dim=-1)
    else:
        # in place, and image by image: what is computed at once stays in the processor's cache, which takes half the time
        similar, first = patches.new_empty(len(patches), patches.shape[1], len(collected)), 0
        for others in _parts(collected, r, CELLS):
            for number, image in enumerate(patches):
                similar[number, :, first : first + len(others)] = _most_similar(image, others)
            first += len(others)
    return (2 - 2 * similar).clamp_min(0).sqrt()


def _parts(collected: Tensor, r: int, cells: int) -> Iterator[Tensor]:
    """The patches of some images at once, (n, P, C) of unit length."""
    for part in collected.split(max(1, cells // (collected.shape[-2] * collected.shape[-1]) ** 2)):
        yield F.normalize(aggregated(part.float(), r), dim=-1)


def _most_similar(patches: Tensor, others: Tensor) -> Tensor:
    """The cosine of each patch with the most similar one of each image: (..., P, C) and (n, P, C) to (..., P, n)."""
    cosines = patches @ others.flatten(0, 1).T  # (..., P, n * P)
    similar: Tensor = cosines.unflatten(-1, (-1, others.shape[1])).amax(dim=-1)
    return similar


def rescored(raw: Tensor, embeddings: Tensor, others_raw: Tensor, others: Tensor, itself: Tensor, ks: Sequence[int]) -> Tensor:
    """The paper's RsCIN: image scores averaged over the most similar images, by similarity.

    Args:
        raw: (B,) scores.
        embeddings: (B, D).
        others_raw: (N,) scores of the images that were compared with one another; their extremes become 0 and 1.
        others: (N, D).
        itself: bool (B, N), which of those each image is.
        ks: numbers of images, each image itself among them; the mean of all.

    Returns:
        (B,).
    """
    low = others_raw.amin()
    spread = (others_raw.amax() - low).clamp_min(torch.finfo(raw.dtype).tiny)
    similar = (embeddings @ others.T).masked_fill(itself, -math.inf)
    similar = torch.cat([embeddings.square().sum(dim=1, keepdim=True), similar], dim=1)  # (B, 1 + N), itself first
    scores = torch.cat([raw[:, None], others_raw.expand(len(raw), -1)], dim=1).sub(low) / spread
    most = min(max(ks), len(others))
    weights, order = similar.topk(most, dim=1)
    chosen = scores.gather(1, order)
    means = [(weights[:, :k] * chosen[:, :k]).sum(dim=1) / weights[:, :k].sum(dim=1) for k in (min(k, most) for k in ks)]
    return torch.stack(means).mean(dim=0)


def _recognised(distances: Tensor) -> Tensor:
    """Which collected image each image is, bool (B, N), at most one: (B, P, N) distances are nearly 0 everywhere. A new image
    that is as near as that to one is not compared with that either, which changes nothing that one could see."""
    farthest = distances.amax(dim=1)
    least, first = farthest.min(dim=1, keepdim=True)
    return (torch.arange(distances.shape[-1], device=distances.device) == first) & (least < SAME)
