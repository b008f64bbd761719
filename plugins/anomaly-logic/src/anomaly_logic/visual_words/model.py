"""Visual words: which parts an image has, how many and where, judged beside what each part looks like. Training-free.

A house method without a paper. Its ideas: images as bags of visual words (Sivic and Zisserman, Video Google, ICCV 2003; Csurka
et al., Visual Categorization with Bags of Keypoints, 2004), counted over a pyramid of regions (Lazebnik et al., Beyond Bags of
Features, CVPR 2006) with soft assignment (van Gemert et al., Visual Word Ambiguity, PAMI 2010), Mahalanobis distances under a
shrunk covariance (Ledoit and Wolf, 2004), and the residual of a subspace of patches for structural defects. Related, with
learned parts: ComAD, SALAD and CSAD, which judge histograms of segmented components.

How it scores:
- Each layer of a frozen network has words of its own: k-means of its standardised features. A cell belongs to all of them, and
  to the near ones most. Fine layers tell colours, middle ones the pieces of parts, coarse ones what lies beside what.
- For each layer and each grid of regions (the whole image, 3 x 3) the shares of the words are one vector, and its squared
  Mahalanobis distance says how unusual the counts are. As the covariance knows what goes with what, a combination that never
  occurs is far away, even if each half of it is usual.
- The structural measure is the mean residual of the oddest cells.
- Each measure is standardised by its values on the normal images, each left out of what judges it. The score is the length of
  the vector of what lies above: in standard deviations. No test image is seen.
- The map adds the residuals to each cell's exact part in the distances: a part that is missing shows where it usually lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomaly_core import ConfigError
from anomaly_features import upsample, upsample_smooth
from anomaly_logic.visual_words.arrangement import Arrangement
from anomaly_logic.visual_words.surface import Surface
from anomaly_logic.visual_words.words import Words

AT_ONCE = 16  # images of a fit that are in float32 at once
LEAST = 0.1  # deviation of a measure
NORMALS = 500  # images, evenly spread, that the measures are standardised by: each costs some milliseconds


class VisualWordsModel(nn.Module):
    """From feature maps to scores; works with any feature extractor.

    Args:
        channels: of each feature map, in the order in which they come.
        words: of each layer.
        softness: of the assignment to words, in mean squared distances to the nearest one.
        regions: the grids of regions in which words are counted: n x n for each n.
        variance: the share of the features' variance that is normal.
        top: the share of the cells that make the structural score.
        sigma: of the Gaussian that smooths the map, in pixels.

    Attributes:
        offsets, spreads: float32 (M,), mean and deviation of the M measures on normal images: one for each layer and grid of
            regions, and the structural one last.
        scales: float32 (3,), mean and deviation of normal cells' residuals, and the deviation of their part in the distances.
    """

    offsets: Tensor
    spreads: Tensor
    scales: Tensor

    def __init__(
        self,
        channels: Sequence[int],
        words: int = 32,
        softness: float = 1.0,
        regions: Sequence[int] = (1, 3),
        variance: float = 0.95,
        top: float = 0.002,
        sigma: float = 8.0,
    ) -> None:
        super().__init__()
        self.count, self.softness, self.top, self.sigma = words, softness, top, sigma
        self.regions = tuple(regions)
        self.words = nn.ModuleList(Words(each) for each in channels)
        self.arrangements = nn.ModuleList(nn.ModuleList(Arrangement(each) for each in regions) for _ in channels)
        self.surface = Surface(sum(channels), variance)
        measures = len(channels) * len(regions) + 1
        self.register_buffer("offsets", torch.zeros(measures))
        self.register_buffer("spreads", torch.ones(measures))
        self.register_buffer("scales", torch.ones(3))

    def fit(self, layers: Sequence[Tensor]) -> None:
        """Find words, Gaussians, axes and the standardisation.

        Args:
            layers: the feature maps of normal images, each (N, C, h, w) of any float type, on any device.

        Raises:
            ConfigError: a feature map has fewer cells a side than there are regions.
        """
        for number, layer in enumerate(layers):
            if min(layer.shape[-2:]) < max(self.regions):
                raise ConfigError(
                    f"model.regions={max(self.regions)} divides each side of the image into so many parts, and layer number "
                    f"{number + 1} has {layer.shape[-2]} x {layer.shape[-1]} cells. Lower it, or enlarge model.image_size."
                )
        words = self.vocabularies
        for vocabulary, layer in zip(words, layers, strict=True):
            vocabulary.fit(layer, self.count, self.softness)
        images, device = len(layers[0]), self.offsets.device
        total, products, cells = torch.zeros(0), torch.zeros(0), 0
        usual = [torch.zeros(len(each.words), *layer.shape[-2:]) for each, layer in zip(words, layers, strict=True)]
        counts = {key: torch.empty(images, usual[key[0]].shape[0] * each.regions**2) for key, each in self._each()}
        for first in range(0, images, AT_ONCE):
            part = slice(first, first + AT_ONCE)
            standardised = self.standardised([layer[part].to(device, torch.float32) for layer in layers])
            for number, (vocabulary, features) in enumerate(zip(words, standardised, strict=True)):
                shares = vocabulary(features)
                usual[number] += shares.sum(dim=0).cpu() / images
                for key, each in self._each():
                    if key[0] == number:
                        counts[key][part] = each.counted(shares).cpu()
            rows = self.joined(standardised).transpose(0, 1).flatten(1).double()  # (D, b * h * w)
            if not cells:
                total, products = rows.new_zeros(len(rows)), rows.new_zeros(len(rows), len(rows))
            total += rows.sum(dim=1)
            products.addmm_(rows, rows.T)
            cells += rows.shape[1]
        for key, each in self._each():
            each.fit(counts[key])
        for vocabulary, mean in zip(words, usual, strict=True):
            vocabulary.usual = mean.to(device)
        self.surface.fit(cells, total, products)
        self._standardise(layers)

    def _standardise(self, layers: Sequence[Tensor]) -> None:
        """Set the means and deviations of all measures, from normal images that are each left out."""
        images, device = len(layers[0]), self.offsets.device
        chosen = torch.arange(0, images, max(1, -(-images // NORMALS)))
        measured = torch.empty(len(chosen), len(self.offsets))
        for part in torch.arange(len(chosen)).split(AT_ONCE):
            features = [layer[chosen[part]].to(device, torch.float32) for layer in layers]
            measured[part] = self.measured(features, without=True)[0].cpu()
        spreads, offsets = torch.std_mean(measured, dim=0)
        # where normal images hardly differ, a deviation of nothing would make the measure count above all others; distances are
        # in standard deviations, residuals are not
        floor = torch.full_like(offsets, LEAST)
        floor[-1] = LEAST / 10 * offsets[-1].clamp(min=1e-6)
        self.spreads, self.offsets = spreads.maximum(floor).to(device), offsets.to(device)
        moments = torch.zeros(4, dtype=torch.float64)
        for part in torch.arange(len(chosen)).split(AT_ONCE):
            features = [layer[chosen[part]].to(device, torch.float32) for layer in layers]
            _, residuals, evidence = self.combined(*self.measured(features, without=True))
            values = (residuals, residuals.square(), evidence, evidence.square())
            moments += torch.stack([each.double().mean(dim=(1, 2)).sum().cpu() for each in values]) / len(chosen)
        mean, square, evidence_mean, evidence_square = moments
        deviations = (square - mean**2, evidence_square - evidence_mean**2)
        self.scales = torch.stack([mean, *(each.clamp(min=1e-12).sqrt() for each in deviations)]).to(self.offsets)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Feature maps to image scores (B,) and anomaly maps (B, 1, *size)."""
        return self.scored(features, size, without=False)

    def scored(self, features: Sequence[Tensor], size: tuple[int, int], without: bool) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`; ``without``: of images that it was fitted on, each judged by all the others.

        The words stay, and the standardisation: both rest on thousands of cells and on all images.
        """
        scores, residuals, evidence = self.combined(*self.measured(features, without))
        maps = (residuals - self.scales[0]) / self.scales[1] + evidence / self.scales[2]
        return scores, upsample_smooth(maps[:, None], size, self.sigma)

    def measured(self, features: Sequence[Tensor], without: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The measures (B, M) before they are standardised, the residuals of the finest grid's cells (B, h, w), and for each
        layer and grid of regions each cell's part in the squared distance, (B, h, w), which sum to 1."""
        standardised = self.standardised(features)
        shares = [words(layer) for words, layer in zip(self.vocabularies, standardised, strict=True)]
        beyond = [words.beyond(each) for words, each in zip(self.vocabularies, shares, strict=True)]
        measures, parts = [], []
        for (number, _), arrangement in self._each():
            distances, part = arrangement(beyond[number])
            parts.append(part / distances.clamp(min=1e-6)[:, None, None])
            if without:
                distances = arrangement.distances_without(arrangement.counted(shares[number])).float()
            measures.append(distances.sqrt())
        joined = self.joined(standardised)
        residuals = self.surface.without(joined) if without else self.surface(joined)
        odd = max(1, round(self.top * int(residuals.shape[-2]) * int(residuals.shape[-1])))
        measures.append(residuals.flatten(1).topk(odd, dim=1).values.mean(dim=1))
        return torch.stack(measures, dim=1), residuals, parts

    def combined(self, measures: Tensor, residuals: Tensor, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (B,), the residuals, and on their grid what each cell contributes to the squared score, (B, h, w)."""
        excess = F.softplus((measures - self.offsets) / self.spreads)  # nearly 0 below the mean, and no two are the same
        evidence = torch.zeros_like(residuals)
        grid = (int(residuals.shape[-2]), int(residuals.shape[-1]))
        for number, part in enumerate(parts):
            finer = grid[0] * grid[1] / (int(part.shape[-2]) * int(part.shape[-1]))
            whole = excess[:, number].square()[:, None, None] * part / finer
            evidence = evidence + upsample(whole[:, None], grid)[:, 0]
        return excess.square().sum(dim=1).sqrt(), residuals, evidence

    def standardised(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps of zero mean, and of the same variance in each layer."""
        return [words.standardised(layer.float()) for words, layer in zip(self.vocabularies, features, strict=True)]

    @staticmethod
    def joined(standardised: Sequence[Tensor]) -> Tensor:
        """All layers at the finest one's cells, (B, D, h, w)."""
        grid = max(((int(layer.shape[-2]), int(layer.shape[-1])) for layer in standardised), key=lambda size: size[0] * size[1])
        return torch.cat([layer if layer.shape[-2:] == grid else upsample(layer, grid) for layer in standardised], dim=1)

    @property
    def images(self) -> int:
        """How many it was fitted on."""
        (_, first), *_ = self._each()
        return int(first.images)

    @property
    def vocabularies(self) -> list[Words]:
        """The words of each layer."""
        return cast("list[Words]", list(self.words))

    def _each(self) -> Iterator[tuple[tuple[int, int], Arrangement]]:
        """The arrangements, each with the numbers of its layer and of its grid of regions."""
        for number, of_layer in enumerate(self.arrangements):
            for which, arrangement in enumerate(cast(nn.ModuleList, of_layer)):
                yield (number, which), cast(Arrangement, arrangement)
