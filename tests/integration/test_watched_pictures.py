"""A watched folder into which the report draws: no picture of ours is taken for an image, whatever folder is named."""

from __future__ import annotations

from pathlib import Path

from anomaly_predict import Watch
from anomaly_report.pictures import save_panel
from tiny.data import draw, write_image


def test_the_report_marks_what_it_draws(tmp_path: Path) -> None:
    image = draw(1)[0].transpose(2, 0, 1) / 255
    save_panel(tmp_path / "00000-a.png", image, None, None, None)
    write_image(tmp_path / "00001-a.png", draw(1)[0])
    watch = Watch(tmp_path, settled=0)
    assert [*watch.poll(), *watch.poll()] == [tmp_path / "00001-a.png"]
