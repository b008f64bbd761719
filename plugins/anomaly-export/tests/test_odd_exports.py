"""Files that are no export: pipes, folders, absurd sizes, other formats; what cannot be written; and a fork."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import ConfigError, RunError, main
from anomaly_export import ExportedDetector, export_run
from anomaly_export.containers import open_container
from anomaly_export.metadata import FORMAT, SHA256, _digest, read_metadata

pytestmark = pytest.mark.reliability("input")
pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")


@pytest.fixture
def copies(exported: dict[str, Path], tmp_path: Path) -> Path:
    """A folder with the exported files, which a test may change."""
    for file in next(iter(exported.values())).parent.glob("model.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def resigned(path: Path, **changes: Any) -> Path:
    """The file with other metadata and a digest that fits, as a stranger may write it."""
    container = open_container(path)
    values = {**json.loads(container.metadata or ""), **changes}
    values.pop(SHA256)
    target = path.with_name(f"resigned{path.suffix}")
    container.write(target, json.dumps({**values, SHA256: _digest(values)}))
    return target.replace(path)


@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.pt", "model.bin"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "missing", "empty"])
def test_what_is_no_regular_file_is_an_error_at_once(copies: Path, name: str, kind: str) -> None:
    if kind == "pipe" and not hasattr(os, "mkfifo"):
        pytest.skip("Windows has no such files")
    path = copies / name
    path.unlink()
    if kind != "missing":
        {"pipe": getattr(os, "mkfifo", None), "folder": Path.mkdir, "empty": Path.touch}[kind](path)
    opened = copies / ("model.xml" if name == "model.bin" else name)
    program = f"from anomaly_export import ExportedDetector\nExportedDetector({str(opened)!r})"
    if kind == "pipe":  # whoever opens it waits for ever
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr.splitlines()[-1].startswith("anomaly_core.errors.RunError") and "a pipe" in done.stderr
        return
    with pytest.raises(RunError, match=r"there is no file|cannot (use|read)|was not written by") as caught:
        ExportedDetector(opened)
    assert str(opened) in str(caught.value)
    assert name != "model.bin" or "model.bin" in str(caught.value)


@pytest.mark.parametrize("verify", [True, False])
def test_an_xml_without_its_bin_names_it_and_the_copy_of_both_works(copies: Path, tmp_path: Path, verify: bool) -> None:
    (alone := tmp_path / "alone").mkdir()
    shutil.copy(copies / "model.xml", alone)
    with pytest.raises(RunError, match=r"its weights, model\.bin, are not beside it\. Copy both files to one folder\.$"):
        ExportedDetector(alone / "model.xml", verify=verify)
    shutil.copy(copies / "model.bin", alone)
    ExportedDetector(alone / "model.xml", verify=verify)


def test_weights_that_are_cut_short_are_named_even_without_verifying(copies: Path) -> None:
    weights = copies / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-100])
    for verify in (True, False):
        with pytest.raises(RunError, match=r"model\.bin has \d+ bytes, of \d+ that the \.xml names"):
            ExportedDetector(copies / "model.xml", verify=verify)


@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.pt"])
def test_the_format_number_says_who_must_be_updated(copies: Path, name: str) -> None:
    for number, match in (
        (FORMAT - 1, r"earlier anomaly-export, in format 2\. .* export the run again"),
        (FORMAT + 1, r"later anomaly-export, in format 4, .* Update anomaly-export here"),
        (True, "its format is no number"),
        ("2", "its format is no number"),
    ):
        with pytest.raises(RunError, match=match):
            ExportedDetector(resigned(copies / name, format=number), verify=False)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"outputs": ["maps", "scores"]}, "outputs: maps, scores; expected some of"),
        ({"outputs": []}, "outputs: none"),
        ({"outputs": ["scores", "heat"]}, r"outputs\.1"),
        ({"precision": "f16"}, "precision"),
        ({"method": 7}, "method"),
        ({"categories": "fabric"}, "categories"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"graph_sha256": "0" * 63}, "graph_sha256"),
        ({"graph_sha256": "0" * 64}, "graph or weights are not as they were written"),
        ({"calibration": None}, "calibration"),
        ({"input_spec": {"size": [64, 64]}}, r"input_spec\.resize"),
        ({"config": {"data": {"least_area": "much"}}}, r"config\.data\.least_area"),
        ({"config": {"data": {"mm_per_px": 0.0}}}, r"config\.data\.mm_per_px"),
        ({"config": {"data": [1]}}, r"config\.data"),
    ],
)
def test_metadata_with_a_digest_that_fits_is_validated_all_the_same(copies: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(RunError, match=match):
        ExportedDetector(resigned(copies / "model.onnx", **changes))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"size": [10**5, 10**4]}, r"input_spec\.size\.0"),
        ({"size": [31623, 31623]}, "input_spec.size: 31623 x 31623 pixels are more than"),
        ({"size": [0, 64]}, r"input_spec\.size\.0"),
        ({"size": ["64", 64]}, r"input_spec\.size\.0"),
        ({"size": [64.0, 64]}, r"input_spec\.size\.0"),
        ({"center_crop": [4096, 4096]}, r"input_spec\.center_crop: it is larger"),
        ({"std": [0, 1, 1]}, r"input_spec\.std\.0"),
        ({"mean": [1, 2]}, r"input_spec\.mean"),
        ({"size": [256, 256], "center_crop": None}, r"its graph takes images of the shape .* and its metadata says"),
    ],
)
def test_sizes_are_bounded_and_those_of_the_graph(copies: Path, changes: dict[str, Any], match: str) -> None:
    for name in ("model.onnx", "model.xml"):
        _, metadata = read_metadata(copies / name)
        spec = {**dataclasses.asdict(metadata.input_spec), **changes}
        with pytest.raises(RunError, match=match):
            ExportedDetector(resigned(copies / name, input_spec=spec), threads=1)


def test_absurd_claims_are_refused_before_they_are_allocated(copies: Path) -> None:
    claims = copies / "claims.onnx"
    with claims.open("wb") as file:  # a sparse file: metadata of 1 GB
        file.write(b"\x72\x80\x80\x80\x80\x04" + b"\x0a\x07anomaly\x12\xf1\xff\xff\xff\x03")
        file.truncate(2**30 + 6)
    with pytest.raises(RunError, match="metadata has more than"):
        ExportedDetector(claims)
    crowded = copies / "crowded.onnx"
    crowded.write_bytes(b"\x08\x01" * 200_000)
    with pytest.raises(RunError, match="no ONNX model"):
        ExportedDetector(crowded)
    deep = copies / "deep.onnx"
    open_container(copies / "model.onnx").write(deep, "[" * 100_000)
    with pytest.raises(RunError, match="nested too deeply"):
        ExportedDetector(deep)
    xml = copies / "deep.xml"
    (copies / "deep.bin").touch()
    for text, match in (
        ("<net>" * 1000, "nested more than"),
        ('<!DOCTYPE net [<!ENTITY a "aaaa">]><net>&a;</net>', "document type"),
        ('<net><data offset="1" size="' + "9" * 5000 + '"/></net>', "no place among the weights"),
        ('<net><data offset="999999999999999" size="4"/></net>', "of 1000000000000003 that"),
    ):
        xml.write_text(text)
        with pytest.raises(RunError, match=match):
            ExportedDetector(xml)
    bomb = copies / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb/code/x.py", "w") as record:
        for _ in range(257):
            record.write(bytes(1 << 20))
    with pytest.raises(RunError, match="unpack to more than"):
        ExportedDetector(bomb)


@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.pt"])
def test_another_threshold_is_signed_and_a_damaged_file_stays_damaged(
    copies: Path, name: str, call: Callable[..., Any]
) -> None:
    path = copies / name
    before = open_container(path).digest()
    assert call("export", str(path), "--threshold", "2.5")[0] == 0
    assert ExportedDetector(path, threads=1).calibration.threshold == 2.5
    assert open_container(path).digest() == before
    _, metadata = read_metadata(path)
    values = json.loads(metadata.to_json())
    values["calibration"]["false_alarm_rate"] = 0.5  # the digest is that of another rate
    spoilt = copies / f"spoilt{path.suffix}"
    open_container(path).write(spoilt, json.dumps(values))
    if name == "model.xml":
        (copies / "spoilt.bin").write_bytes((copies / "model.bin").read_bytes())
    code, text = call("export", str(spoilt), "--threshold", "3")
    assert code == 1 and "SHA-256" in text
    assert call("export", str(spoilt), "--threshold", "3", "--no-verify")[0] == 0
    assert ExportedDetector(spoilt, threads=1, verify=False).calibration.threshold == 3
    with pytest.raises(RunError, match="SHA-256"):
        ExportedDetector(spoilt, threads=1)


@pytest.mark.parametrize("threshold", ["nan", "inf"])
def test_a_threshold_must_be_finite(copies: Path, run: Path, threshold: str, call: Callable[..., Any]) -> None:
    for arguments in ((str(copies / "model.onnx"),), (str(run), "--format", "onnx", "--output", str(copies / "other.onnx"))):
        code, text = call("export", *arguments, "--threshold", threshold)
        assert code == 2 and "Give a finite number" in text
    with pytest.raises(ConfigError, match="finite"):
        ExportedDetector(copies / "model.onnx", threshold=float(threshold))


@pipes
def test_a_pipe_is_not_taken_for_a_run(tmp_path: Path, call: Callable[..., Any]) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    code, text = call("export", str(tmp_path / "model.onnx"), "--threshold", "1")
    assert code == 1 and "it is a pipe" in text


def test_a_folder_that_cannot_be_written_is_answered_with_what_works(
    run: Path, copies: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Any]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("anomaly_export.writers.tempfile.mkdtemp", refuse)
        code, text = call("export", str(run), "--format", "onnx")
        assert code == 1 and "Choose another file with --output" in text
        code, text = call("export", str(copies / "model.onnx"), "--threshold", "3")
        assert code == 1 and "Copy the file" in text and "--output" not in text
    assert call("export", str(run), "--format", "onnx", "--output", str(copies / "elsewhere.onnx"))[0] == 0


def test_an_export_writes_its_file_and_nothing_else(run: Path, tmp_path: Path) -> None:
    root = run.parents[3]
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    export_run(run, "onnx", tmp_path / "model.onnx")
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


FORKED = """
import os, signal, sys
import numpy as np
from anomaly_core import RunError
from anomaly_export import ExportedDetector

detector = ExportedDetector(sys.argv[1], threads=4)
images = [np.full((64, 64, 3), i, dtype=np.uint8) for i in range(8)]
expected = [one.score for one in detector.score(images)]
child = os.fork()
if child == 0:
    signal.alarm(40)
    try:
        os._exit(0 if [one.score for one in detector.score(images)] == expected else 1)
    except RunError as error:
        print(error, flush=True)
        os._exit(2)
_, status = os.waitpid(child, 0)
assert [one.score for one in detector.score(images)] == expected
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.reliability("fault")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.parametrize(("name", "code"), [("onnx", "0"), ("openvino", "2"), ("torchscript", "2")])
def test_a_forked_child_opens_the_file_again_or_says_that_it_cannot(exported: dict[str, Path], name: str, code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, str(exported[name])],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == code, done.stdout
    assert ("Open it in the process that uses it" in done.stdout) == (code == "2")


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str]]:
    """The exit code of a command, and what it says."""

    def called(*arguments: str) -> tuple[Any, str]:
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        printed = capfd.readouterr()
        return stop.value.code, " ".join((printed.out + printed.err).split())

    return called
