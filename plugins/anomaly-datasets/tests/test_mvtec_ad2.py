"""MVTec AD 2: the light of each image, private images without labels, and the folder for the evaluation server."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, TiffImagePlugin
from seams import added, config, run

from anomaly_core import ConfigError, DataError, InputSpec, RunError, RunResults, validate
from anomaly_datasets import facts, plugin, submission
from anomaly_datasets.config import MVTecAD2Config
from anomaly_datasets.mvtec_ad2 import MVTecAD2Data
from anomaly_datasets.submission import PARTS, float16_tiff
from anomaly_datasets.submit import submit
from anomaly_predict import load_run
from tiny.plugin import PALETTE


def ad2(root, **options):
    values = {"name": "mvtec_ad2", "root": str(root), "num_workers": 0, **options}
    return MVTecAD2Data(validate(MVTecAD2Config, values, "data"), 0, plugin.MVTEC_AD2)


def test_the_public_test_images_under_every_light(ad2_tree):
    data = ad2(ad2_tree)
    assert data.categories() == ["vial"]
    test = data.test_samples("vial")
    assert [sample.label for sample in test] == [0] * 6 + [1] * 6
    assert {sample.extra["lighting"] for sample in test} == {"regular", "overexposed", "shift_1"}
    assert all(sample.mask_path.name == f"{sample.path.stem}_mask.png" for sample in test if sample.label)
    (batch,) = data.loader(test, InputSpec((16, 24)))
    assert batch.masks.sum(dim=(1, 2, 3)).tolist() == [0] * 6 + [16] * 6
    fit, held_out = data.split("vial")
    assert (len(fit), len(held_out)) == (4, 3)


def test_lighting_filters_the_test_images_alone(ad2_tree):
    data = ad2(ad2_tree, lighting="regular,shift_1")
    assert {sample.extra["lighting"] for sample in data.test_samples("vial")} == {"regular", "shift_1"}
    assert len(data.train_samples("vial")) == 4
    with pytest.raises(ConfigError, match=r"data\.lighting=bright: no image .* There are: overexposed, regular, shift_1"):
        ad2(ad2_tree, lighting="regular,bright").test_samples("vial")


@pytest.mark.parametrize("part", PARTS)
def test_private_images_have_no_label(ad2_tree, part):
    data = ad2(ad2_tree, part=part)
    samples = data.test_samples("vial")
    assert len(samples) == 2 and {sample.label for sample in samples} == {None}
    (batch,) = data.loader(samples, InputSpec((16, 24)))
    assert batch.labels.tolist() == [-1, -1] and batch.masks is None


def test_the_published_counts():
    assert sum(facts.MVTEC_AD2.validation.values()) == 302 and len(facts.MVTEC_AD2.categories) == 8


def float16_of(content: bytes) -> np.ndarray:
    """The array in a TIFF of half-precision floats, which Pillow does not open: by its tags."""
    file = io.BytesIO(content)
    tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
    file.seek(tags.next)
    tags.load(file)
    assert tags[258] == (16,) and tags[submission.SAMPLE_FORMAT] in (3, (3,))
    (start,), (size,) = tags[273], tags[279]
    return np.frombuffer(content[start : start + size], dtype="<f2").reshape(tags[257], tags[256])


def test_a_tiff_of_half_precision_floats(tmp_path):
    values = np.array([[-1.5, 0.0, 1.0], [1e-3, 65504.0, -65504.0]], dtype=np.float32)
    np.testing.assert_array_equal(float16_of(float16_tiff(values)), values.astype(np.float16))
    tifffile = pytest.importorskip("tifffile")
    (tmp_path / "map.tiff").write_bytes(float16_tiff(values))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "map.tiff"), values.astype(np.float16))


@pytest.fixture
def finished(ad2_tree) -> RunResults:
    with added(mvtec_ad2=plugin.MVTEC_AD2, palette=PALETTE):
        options = {"train.name": "memory", "base.false_alarm_rate": 0.3, "data.holdout": None}
        yield run(config(ad2_tree.parent, "palette", "mvtec_ad2", **options))


def invoke(*arguments):
    return CliRunner().invoke(submit, [str(item) for item in arguments])


def test_submit_writes_maps_and_masks_of_the_private_images(finished, tmp_path):
    output = tmp_path / "out" / "submission"
    result = invoke(finished.folder, "--output", output)
    assert result.exit_code == 0, result.output
    assert "vial: 4 images" in result.output and "still missing: can, fabric" in result.output
    detector = load_run(finished.folder, device="cpu")
    low, threshold = detector.calibration.map_low, detector.calibration.map_threshold
    marked = 0
    for part, light in zip(PARTS, ("regular", "mixed"), strict=True):
        for index in range(2):
            name = f"vial/{part}/{index:03d}_{light}"
            raw = detector.predict(tmp_path / "mvtec_ad2" / f"{name}.png").maps[0]
            native = detector.modeler.input_spec.native_map(raw, 24, 16)[0].numpy()
            written = float16_of((output / "anomaly_images" / f"{name}.tiff").read_bytes())
            expected = ((native - low) / ((threshold - low) or 1.0)).astype(np.float16)
            np.testing.assert_allclose(written, expected, rtol=1e-3)
            with Image.open(output / "anomaly_images_thresholded" / f"{name}.png") as mask:
                np.testing.assert_array_equal(np.asarray(mask), (native > threshold) * 255)
            marked += int((native > threshold).sum())
    assert 0 < marked < 4 * 16 * 24
    again = invoke(finished.folder, "--output", output)
    assert isinstance(again.exception, RunError) and "nothing was changed" in str(again.exception)
    assert not list(output.glob(".*"))


def test_all_objects_make_an_archive(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "MVTEC_AD2", facts.Facts(("vial",), (0, 0, 0), ""))
    output = tmp_path / "submission"
    result = invoke(finished.folder, "--output", output)
    assert "Complete" in result.output, result.output
    with tarfile.open(output / "submission.tar.gz") as archive:
        files = {member.name for member in archive if member.isfile()}
    assert len(files) == 8 and {name.split("/")[0] for name in files} == {"anomaly_images", "anomaly_images_thresholded"}
    (output / "anomaly_images_thresholded/vial/test_private/000_regular.png").unlink()
    with pytest.raises(RunError, match=r"'vial' .* is not whole"):
        submission.missing_objects(output)


def test_an_image_that_cannot_be_scored_leaves_nothing(finished, tmp_path):
    bad = tmp_path / "mvtec_ad2" / "vial" / "test_private_mixed" / "001_mixed.png"
    bad.write_bytes(b"damaged")
    output = tmp_path / "submission"
    result = invoke(finished.folder, "--output", output)
    assert isinstance(result.exception, DataError) and "001_mixed" in str(result.exception)
    assert list(output.iterdir()) == []
    elsewhere = invoke(finished.folder, "--output", output, "--root", tmp_path / "nowhere")
    assert isinstance(elsewhere.exception, DataError) and "no mvtec_ad2 data set" in str(elsewhere.exception)


def test_a_run_that_sees_a_part_of_the_images_is_refused(ad2_tree, tmp_path):
    with added(mvtec_ad2=plugin.MVTEC_AD2, palette=PALETTE):
        options = {"train.name": "memory", "data.holdout": None, "data.roi": "0,0,12,12"}
        part = run(config(ad2_tree.parent, "palette", "mvtec_ad2", **options))
        result = invoke(part.folder, "--output", tmp_path / "submission")
    assert isinstance(result.exception, RunError) and "data.roi" in str(result.exception)
    assert not (tmp_path / "submission").exists()


def test_what_a_crop_hides_is_the_least_anomalous(finished):
    spec = InputSpec((16, 24), center_crop=(8, 12))
    seen = torch.rand(1, 8, 12, generator=torch.Generator().manual_seed(0)) + 1
    whole = submission._whole(spec, seen, 24, 16)
    assert whole.shape == (1, 16, 24)
    assert torch.equal(whole[:, 4:12, 6:18], spec.native_map(seen, 24, 16))
    assert whole[0, 0, 0] == seen.min()


def test_a_run_of_another_data_set_is_refused(tmp_path):
    with added(palette=PALETTE):
        other = run(config(tmp_path, "palette", **{"train.name": "memory"}))
        result = invoke(other.folder, "--output", Path(tmp_path / "submission"))
    assert isinstance(result.exception, RunError) and "--data mvtec_ad2" in str(result.exception)
