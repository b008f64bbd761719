"""Pictures of the oddest normal images, drawn while they are scored by detectors that did not see them."""

from __future__ import annotations


class Normals:
    """Observes the calibration of a run."""


OBSERVER = Normals()
