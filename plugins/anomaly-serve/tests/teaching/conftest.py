"""Files with images of a part."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from anomaly_serve.testing import as_file, disc_image


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    """A part, or with ``empty`` a picture without one, as the bytes of a PNG file."""

    def drawn(seed: int, *, defect: bool = False, size: tuple[int, int] = (64, 48), empty: bool = False) -> bytes:
        noise = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
        return as_file(noise if empty else disc_image(seed, defect=defect, size=size), compress_level=1)

    return drawn
