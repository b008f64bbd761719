"""MVTec AD (Bergmann et al., CVPR 2019): 15 categories, three of them grey-scale."""

from __future__ import annotations

from anomaly_datasets.facts import MVTEC
from anomaly_datasets.files import MVTecTree


class MVTecData(MVTecTree):
    """The tree as it is published; a copy with some of the categories is accepted."""

    layout = MVTEC.layout
