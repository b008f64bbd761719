"""Exported files damaged at random: the verdicts of the sound file, or one AnomalyError, and no engine sees the damage."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from anomaly_core import AnomalyError, RunError
from anomaly_export import ExportedDetector, sessions
from anomaly_export.containers import open_container
from anomaly_export.metadata import SHA256, _digest
from fuzzing import FEW, MANY, attempt

FILES = {"model.onnx": "model.onnx", "model.xml": "model.xml", "model.bin": "model.xml", "model.pt": "model.pt"}
OPENERS = ("_open_onnx", "_open_openvino", "_open_torchscript")
IMAGES = list(np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))
places = st.one_of(
    st.floats(0, 1, exclude_max=True),  # anywhere, which is mostly in the weights
    st.integers(0, 4000),  # near the beginning: ONNX's header, the graph
    st.integers(-4000, -1),  # near the end: the metadata, the directory of a zip archive
)
edits = st.one_of(
    st.tuples(st.just("flip"), places, st.integers(0, 7)),
    st.tuples(st.just("cut"), places, st.just(0)),
    st.tuples(st.just("drop"), places, st.integers(1, 64)),
    st.tuples(st.just("insert"), places, st.integers(1, 64)),
    st.tuples(st.just("zero"), places, st.integers(1, 4096)),
)
damages = st.tuples(st.sampled_from(list(FILES)), st.lists(edits, min_size=1, max_size=3))
STRANGE = [
    None, True, -1, 0, 63, 10**9, 10**400, 1.5, 1e308, float("nan"), float("inf"), "", "64", "nan", [], {}, [[]], [1, 2],
    {"a": 1}, "9" * 5000, ["maps", "scores"], ["scores", "scores"], "x" * 100_000,
]  # fmt: skip
mutations = st.tuples(
    st.sampled_from(["model.onnx", "model.xml", "model.pt"]),
    st.lists(
        st.tuples(
            st.sampled_from(["put", "rename", "remove", "swap", "add"]),
            st.integers(0, 10**6),
            st.integers(0, 10**6),
            st.sampled_from(STRANGE),
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),  # whether the digest is made to fit, as if the writer were wrong
)


def damaged(content: bytes, steps: list[tuple[str, float, int]]) -> bytes:
    spoilt = bytearray(content)
    for kind, where, amount in steps:
        place = int(where * len(spoilt)) if isinstance(where, float) else where % max(1, len(spoilt))
        match kind:
            case "flip" if spoilt:
                spoilt[place] ^= 1 << amount
            case "cut":
                del spoilt[place:]
            case "drop":
                del spoilt[place : place + amount]
            case "insert":
                spoilt[place:place] = bytes(amount)
            case "zero":
                spoilt[place : place + amount] = bytes(len(spoilt[place : place + amount]))
    return bytes(spoilt)


def mutated(values: dict[str, Any], steps: list[tuple[str, int, int, Any]]) -> dict[str, Any]:
    for kind, one, other, value in steps:
        strange = copy.deepcopy(value)
        spots = [(inner, key) for inner in objects(values) for key in inner]
        if not spots:
            return values
        (inner, key), (second, another) = spots[one % len(spots)], spots[other % len(spots)]
        match kind:
            case "put":
                inner[key] = strange
            case "rename":
                inner[key + "x"] = inner.pop(key)
            case "remove":
                del inner[key]
            case "swap" if not isinstance(inner[key], dict) and not isinstance(second[another], dict):
                inner[key], second[another] = second[another], inner[key]
            case "add":
                inner["something"] = strange
    return values


def objects(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects in which a value decides something; the run's config is kept for people to read."""
    return [values, *(values[name] for name in ("input_spec", "calibration") if isinstance(values.get(name), dict))]


class Trial:
    """Damages copies of the files and asks them for verdicts, which are compared with those of the sound files."""

    def __init__(self, exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        self.sound = {path.name: path.read_bytes() for path in next(iter(exported.values())).parent.glob("model.*")}
        self.texts = {path.name: open_container(path).metadata for path in exported.values()}
        self.paths = {path.name: path for path in exported.values()}
        self.seen: list[Path] = []
        self.expected = {path.name: verdicts(path) for path in exported.values()}
        for name in OPENERS:
            monkeypatch.setattr(sessions, name, self.watched(getattr(sessions, name)))

    def watched(self, opener: Callable[..., Any]) -> Callable[..., Any]:
        def watching(path: Path, *arguments: Any) -> Any:
            self.seen.append(path)
            return opener(path, *arguments)

        return watching

    def bytes(self, path: Path, content: Any) -> None:
        name, steps = content
        for other, sound in self.sound.items():
            if FILES.get(other) == FILES[name]:
                (path.parent / other).write_bytes(sound if other != name else damaged(sound, steps))
        opened = path.parent / FILES[name]
        self.seen.clear()
        try:
            found = verdicts(opened)
        except AnomalyError as error:
            assert isinstance(error, RunError) and FILES[name] in str(error) and "\n" not in str(error), error
            return
        assert found == self.expected[opened.name]

    def metadata(self, path: Path, content: Any) -> None:
        name, steps, signed = content
        values = mutated(json.loads(self.texts[name] or ""), steps)
        if signed:
            values.pop(SHA256, None)
            try:
                values[SHA256] = _digest(values)
            except ValueError:
                signed = False  # NaN and infinity have no digest
        if name == "model.xml":
            (path.parent / "model.bin").write_bytes(self.sound["model.bin"])
        opened = path.parent / name
        open_container(self.paths[name]).write(opened, json.dumps(values))
        try:
            found = verdicts(opened)
        except AnomalyError as error:
            assert isinstance(error, RunError) and name in str(error) and "\n" not in str(error), error
            return
        if not signed:
            assert found == self.expected[name]
        assert all(verdict in (True, False, None) and 0 < p_value <= 1 for _, verdict, p_value in found)


def verdicts(path: Path) -> list[tuple[float, bool | None, float]]:
    detector = ExportedDetector(path, threads=1)
    scores = [one.score for one in detector.score(IMAGES)]
    return [(score, detector.calibration.is_anomalous(score), detector.calibration.p_value(score)) for score in scores]


CASES: dict[str, tuple[Any, str]] = {
    "bytes": (damages, "exported files (.onnx, .xml, .bin, .pt) with flipped bits, cut off, holes"),
    "metadata": (mutations, "exported files with other metadata: strings for numbers, NaN, huge, renamed, missing, swapped"),
}


@pytest.fixture
def trial(exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Trial:
    return Trial(exported, monkeypatch)


@pytest.mark.parametrize("name", CASES)
def test_a_few_damaged_exports(name: str, trial: Trial, tmp_path: Path) -> None:
    attempt(CASES[name][0], getattr(trial, name), tmp_path, FEW, 0)


@pytest.mark.soak
@pytest.mark.reliability
@pytest.mark.parametrize("name", CASES)
def test_many_damaged_exports(
    name: str, trial: Trial, tmp_path: Path, soak_minutes: float, soak_seed: int, record: Callable[..., None]
) -> None:
    tried = attempt(CASES[name][0], getattr(trial, name), tmp_path, MANY, soak_seed, 60 * soak_minutes * 0.06)
    record("input", f"{CASES[name][1]}: the same verdicts or one of our errors", tried, seed=soak_seed)


@pytest.mark.reliability("input")
@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_found_before_an_engine_sees_the_file(name: str, trial: Trial, tmp_path: Path) -> None:
    """An engine may crash on a damaged graph, and takes a damaged weight for another."""
    size = len(trial.sound[name])
    for place in np.random.default_rng(0).integers(size // 10, size // 2, 8):  # weights and graph; metadata is at the end
        with pytest.raises(RunError, match=r"SHA-256|cannot use"):
            trial.bytes(tmp_path / "input", (name, [("flip", int(place), 3)]))
            verdicts(tmp_path / FILES[name])
        assert not trial.seen


@pytest.mark.reliability("input")
@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.pt"])
@pytest.mark.parametrize("number", ["threshold", "scores"])
def test_a_flipped_bit_in_the_numbers_of_a_verdict_is_found(name: str, number: str, trial: Trial, tmp_path: Path) -> None:
    text = (trial.texts[name] or "").encode()
    digit = next(i for i in range(text.index(f'"{number}"'.encode()) + len(number) + 3, len(text)) if text[i : i + 1].isdigit())
    other = text[:digit] + bytes([text[digit] ^ 1]) + text[digit + 1 :]
    sound = trial.sound[name].replace(b"&quot;", b'"') if name == "model.xml" else trial.sound[name]
    assert sound.count(text) == 1, "the metadata is there as it is"
    if name == "model.xml":
        (tmp_path / "model.bin").write_bytes(trial.sound["model.bin"])
        text, other = (part.replace(b'"', b"&quot;") for part in (text, other))
    (tmp_path / name).write_bytes(trial.sound[name].replace(text, other))
    with pytest.raises(RunError, match=r"SHA-256|CRC"):
        verdicts(tmp_path / name)
    assert not trial.seen
