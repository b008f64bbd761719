"""The limits of a service, and how it opens detectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anomaly_core import Detector
from anomaly_serve.incoming import MOST_PIXELS
from anomaly_serve.products import Opener


@dataclass(frozen=True)
class ServiceOptions:
    """The limits of a service.

    Attributes:
        queue: images that may be in work at once, of all products; more are refused with :class:`Busy`.
        max_bytes, max_pixels: of one image.
        threads: that an engine computes with; None: one per core.
        device: of runs that need torch.
        decoders: threads that decode, judge, and score where a detector takes several callers; None: one per core.
        opener: opens a version's path; None: ``open_detector``, without torch where it can be.
        teach_from: folders below which images to teach from may be watched.
        teach_quota: bytes that all images to teach from may take.
        keep_versions: of each product, the last that were taught, that keep their files.
    """

    queue: int = 256
    max_bytes: int = 32 << 20
    max_pixels: int = MOST_PIXELS
    threads: int | None = None
    device: str = "auto"
    decoders: int | None = None
    opener: Opener | None = None
    teach_from: tuple[Path, ...] = ()
    teach_quota: int = 5 << 30
    keep_versions: int = 10

    def open(self, path: Path) -> Detector:
        """The detector at a path."""
        if self.opener is not None:
            return self.opener(path)
        from anomaly_predict import open_detector

        return open_detector(path, self.device, threads=self.threads, quick=True)
