"""MVTec AD (Bergmann et al., CVPR 2019): 15 categories of textures and objects, three of them grey-scale.

The published split: normal images train, and normal and defective ones of 73 kinds of defect test, with a pixel mask each. A
copy with some of the categories is accepted.
"""

from __future__ import annotations

from anomaly_datasets.facts import MVTEC
from anomaly_datasets.files import MVTecTree


class MVTecData(MVTecTree):
    """The tree as it is published; a copy with some of the categories is accepted."""

    layout = MVTEC.layout
