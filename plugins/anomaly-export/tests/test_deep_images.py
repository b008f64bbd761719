"""Images of 10 bits: an exported detector reads them as the run did, and tells what it was not fitted on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from deep_images import png16
from PIL import Image

from anomaly_core import DataError, RunConfig, run_experiment
from anomaly_export import ExportedDetector, export_run
from anomaly_predict import load_run, verdicts

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on grey images of 10 bits."""
    root = tmp_path_factory.mktemp("deep")
    (root / "good").mkdir()
    for path in (images / "good").glob("*.png"):
        grey = np.asarray(Image.open(path).convert("L"), dtype=np.float64)
        (root / "good" / path.name).write_bytes(png16(np.round(grey * (1023 / 255)).astype(np.uint16)))
    options = {
        "data.normal": str(root / "good"),
        "model.image_size": 64,
        "model.coreset_ratio": 0.1,
        "base.output": str(root / "runs"),
        "base.pictures": 0,
    }
    return run_experiment(RunConfig.create(model="patchcore", data="folder", preset="edge", overrides=options)).runs[0].folder


def test_the_scores_are_the_runs_and_what_is_new_is_told(run: Path, tmp_path: Path) -> None:
    exported = ExportedDetector(export_run(run, "onnx", tmp_path / "model.onnx").path, threads=1)
    detector = load_run(run, device="cpu")
    assert exported.reader == detector.reader
    assert exported.reader.range == (0, 1023)
    paths = sorted((run.parents[4] / "good").iterdir())
    for path in paths[:3]:
        assert np.array_equal(exported.decode(path), detector.decode(path))
        assert len(np.unique(exported.decode(path))) > 40
    np.testing.assert_allclose(exported(paths)[0], detector.predict(paths).scores, rtol=1e-4)
    bright = [tmp_path / f"{number}.png" for number in range(3)]
    for path in bright:
        path.write_bytes(png16(np.full((80, 96), 4000, dtype=np.uint16)))
    with pytest.warns(UserWarning) as told:
        assert len(list(verdicts(exported, bright))) == 3
    assert [str(item.message).partition(" has ")[2][:37] or str(item.message) for item in told] == [
        "values outside the range of 0 to 1023",
        "3 images have values outside the range of 0 to 1023 that is read as black to white.",
    ]


def test_a_file_that_the_range_does_not_fit_is_named(run: Path, tmp_path: Path) -> None:
    alpha = np.full((80, 96, 2), 500, dtype=np.uint16)
    (tmp_path / "alpha.png").write_bytes(png16(alpha))
    with pytest.raises(DataError, match=r"alpha\.png.*only the high bytes"):
        load_run(run, device="cpu").decode(tmp_path / "alpha.png")
