"""Files that cannot be used, masks that do not fit, and the same image in two parts of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_core import DataError, Sample, read_untrusted
from anomaly_core.imaging import screening
from anomaly_core.imaging.screening import duplicates, screen
from tiny.data import draw, write_image

pytestmark = pytest.mark.reliability("input")


def test_a_mask_that_cannot_be_read_or_does_not_fit_is_an_error_or_skips_its_image(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_image(tmp_path / f"{name}.png", draw(1, 48)[0])
    (tmp_path / "a_mask.png").write_bytes(b"")
    write_image(tmp_path / "b_mask.png", np.full((47, 48), 255, dtype=np.uint8))
    write_image(tmp_path / "c_mask.png", np.zeros((48, 48), dtype=np.uint8))
    samples = [Sample(tmp_path / f"{name}.png", 1, tmp_path / f"{name}_mask.png") for name in ("a", "b", "c")]
    with pytest.raises(DataError, match=r"mask .*a_mask\.png.*first of 2 of 3"):
        screen(samples, "error")
    screened = screen(samples, "skip")
    assert screened.kept == screened.empty_masks == samples[2:]
    assert "48x47" in screened.skipped[1].reason


def test_where_no_image_can_be_used_leaving_them_out_is_no_advice(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"first of 2 of 2 images that cannot be used\.$"):
        screen([Sample(tmp_path / f"{name}.png") for name in "ab"], "error")


def test_only_files_of_one_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in {"a": b"12345", "b": b"12346", "c": b"1234567", "d": b"12345", "e": b"1"}.items():
        (tmp_path / name).write_bytes(content)
    read: list[str] = []

    def noted(path: Path, *arguments: Any) -> Any:
        read.append(path.name)
        return read_untrusted(path, *arguments)

    monkeypatch.setattr(screening, "read_untrusted", noted)
    a, b, c, d, e = (Sample(tmp_path / name) for name in "abcde")
    assert duplicates([a, c], [b, d, e]) == [(a, d)]
    assert sorted(read) == ["a", "b", "d"]
