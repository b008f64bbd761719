"""Runs that tests write or change themselves: their manifests, with the SHA-256 of the files as they are now."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from anomaly_core import MANIFEST
from anomaly_core.run.folder import RECORDED


def seal(folder: Path, **facts: Any) -> Path:
    """Write the manifest of a complete run, whose other facts are those of the manifest that is there, and ``facts``."""
    before = json.loads((folder / MANIFEST).read_text("utf-8")) if (folder / MANIFEST).is_file() else {}
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in RECORDED if (folder / name).is_file()}
    values = {"format": 1, "status": "complete", **before, **facts, "files": files}
    (folder / MANIFEST).write_text(json.dumps(values), "utf-8")
    return folder
