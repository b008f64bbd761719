"""MPDD (Jezek et al., ICUMT 2021): painted and bare metal parts in six categories, with pixel masks.

The layout is MVTec AD's. Parts lie as they fall, against varied backgrounds, so that position says little. The counts are those
of the paper; no copy was at hand to check them, nor the layout. The publisher's repository states no licence.
"""

from __future__ import annotations

from anomaly_datasets.facts import MPDD
from anomaly_datasets.files import MVTecTree


class MPDDData(MVTecTree):
    """The tree as it is published; a copy with some of the categories is accepted."""

    layout = MPDD.layout
