"""Trees whose publisher set normal images aside: these are held out for the threshold, not a share of the training images."""

from __future__ import annotations

from typing import cast

from anomaly_core import NORMAL, DataError, Sample
from anomaly_datasets.config import ValidationConfig
from anomaly_datasets.files import MVTecTree, samples_in


class ValidatedTree(MVTecTree):
    """MVTec AD's layout with ``<category>/validation/good`` beside ``train``; ``data.validation`` says whether it is used."""

    def split(self, category: str, fewest: int = 1) -> tuple[list[Sample], list[Sample]]:
        parts = super().split(category, fewest)  # and its errors, where there are too few images
        if not cast(ValidationConfig, self.config).validation:
            return parts
        return self.train_samples(category), self.validation_samples(category)

    def validation_samples(self, category: str) -> list[Sample]:
        """The normal images that the publisher set aside; DataError where there are none."""
        try:
            return samples_in(self.folder(category) / "validation" / self.good, NORMAL, category, "good")
        except DataError as error:
            raise DataError(
                f"{error} Or hold a share of the training images out instead, with --set data.validation=false."
            ) from error
