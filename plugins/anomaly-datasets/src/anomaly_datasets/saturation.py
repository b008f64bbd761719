"""How much of a defect is enough: ``defects_config.json``, as MVTec LOCO AD is published with it and ``sample`` writes it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from anomaly_core import DataError, fault, read_untrusted

DEFECTS_CONFIG = "defects_config.json"


@dataclass(frozen=True)
class Saturation:
    """An entry of ``defects_config.json``: how much of a defect must be marked before all of it counts as found.

    Attributes:
        defect_name: the defect, in words.
        pixel_value: the value of its pixels in a mask.
        saturation_threshold: pixels, or with ``relative_saturation`` a share of the mask.
    """

    defect_name: str
    pixel_value: Annotated[int, Field(ge=1, le=65535)]
    saturation_threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    relative_saturation: bool

    def pixels(self, area: int) -> float:
        """How many of the ``area`` pixels of a mask are enough."""
        return min(self.saturation_threshold * (area if self.relative_saturation else 1), area)


_TABLE = TypeAdapter(list[Saturation])


def saturation_of(file: Path) -> dict[str, dict[int, Saturation]]:
    """What ``Sample.extra`` holds of a category with this file: each value that a mask may hold, and its :class:`Saturation`.

    Nothing, with a warning, where there is no such file.

    Raises:
        DataError: it cannot be read, or does not list defects.
    """
    if not file.exists():
        warnings.warn(
            f"there is no {str(file)!r}: from how much on a defect counts as found is not known, and metrics that "
            "need it have no value. The published archive has this file.",
            stacklevel=2,
        )
        return {}
    try:
        entries = _TABLE.validate_json(read_untrusted(file))
    except (OSError, ValidationError) as error:
        raise DataError(
            f"{str(file)!r} must list the defects with defect_name, pixel_value, saturation_threshold and "
            f"relative_saturation: {fault(error)}. Unpack the data set again."
        ) from error
    return {"saturation": {entry.pixel_value: entry for entry in entries}}
