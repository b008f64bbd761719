"""Random bytes and text where files and options are read: a clean result or an AnomalyError, never another exception.

``make soak`` tries 10,000 inputs of each kind, or as many as its time allows; SOAK_SEED repeats them.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from anomaly_core import RunConfig
from anomaly_core.config import parse_assignment
from anomaly_core.errors import AnomalyError
from anomaly_core.inputs import InputSpec, checked_size, image_size, read_image, read_mask
from anomaly_core.registry import registry

FEW, MANY = 40, 10_000
KINDS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")


def real_files() -> list[bytes]:
    """A small image in every format and mode that this Pillow writes: what random damage starts from."""
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8))
    found = []
    for kind in KINDS:
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"):
            buffer = io.BytesIO()
            try:
                colour.convert("L" if mode in ("I;16", "I", "F") else mode).convert(mode).save(buffer, kind)
            except (OSError, ValueError, KeyError):  # not every format holds every mode
                continue
            found.append(buffer.getvalue())
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    colour.save(buffer, "JPEG", exif=exif)
    return [*found, buffer.getvalue()]


FILES = real_files()


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """A real file with bytes changed, cut off, repeated or put in; or random bytes altogether."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    content = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.integers(0, 3)):
            case 0 if content:
                content[place] = draw(st.integers(0, 255))
            case 1:
                del content[place:]
            case 2:
                content[place:place] = draw(st.binary(max_size=8))
            case _:
                del content[place : place + draw(st.integers(1, 16))]
    return bytes(content)


words = st.text(max_size=12)
cell = st.one_of(
    words,
    st.sampled_from(["object", "split", "label", "image", "mask", "candle", "train", "test", "normal", "anomaly", "", "../x"]),
    st.floats().map(str),
)
tables = st.one_of(
    st.binary(max_size=300),
    st.tuples(
        st.sampled_from(["object,split,label,image,mask", "object,split,image", ""]), st.lists(st.lists(cell, max_size=6))
    ).map(lambda parts: "\n".join([parts[0], *(",".join(row) for row in parts[1])]).encode("utf-8", "surrogatepass")),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), words, st.dates())
option_names = st.sampled_from(
    [
        f"{section}.{name}"
        for section, part in RunConfig.create(model="patchcore", data="folder").to_dict().items()
        for name in part
    ]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)


@st.composite
def config_files(draw: st.DrawFn) -> bytes:
    """Bytes, text, or YAML that resembles a run's config."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1:
        return draw(st.text(alphabet=":-[]{}&*!|>'\"#%@,? \n\tabc019~.", max_size=120)).encode()
    sections: dict[Any, Any] = {"model": {"name": "patchcore"}, "data": {"name": "folder"}}
    for name in draw(st.lists(option_names, max_size=4)):
        section, _, option = name.partition(".")
        sections.setdefault(section, {})[option] = draw(values)
    if kind == 3:
        sections[draw(words)] = draw(values)
    return yaml.safe_dump(sections, allow_unicode=True).encode("utf-8", "surrogatepass")


assignments = st.one_of(
    st.text(max_size=40),
    st.tuples(option_names, st.one_of(words, st.text(alphabet="[]{},:&*!~'\" 019einfa.-", max_size=20), scalars.map(str))).map(
        "=".join
    ),
)


def image(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    sizes = []
    for reader in (image_size, checked_size):
        try:
            sizes.append(reader(path))
        except AnomalyError as error:
            assert path.name in str(error)
    try:
        found = read_image(path)
    except AnomalyError as error:
        assert path.name in str(error)
        return
    assert found.mode == "RGB"
    assert set(sizes) <= {(found.height, found.width)}
    if found.width * found.height < 10**6:
        for resize in ("stretch", "keep", "pad"):
            assert InputSpec((16, 24), resize).array(found).shape == (16, 24, 3)  # type: ignore[arg-type]


def mask(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        found = read_mask(path)
    except AnomalyError as error:
        assert path.name in str(error)
        return
    assert found.mode == "L"
    assert set(np.unique(np.asarray(found))) <= {0, 255}


def data_set(name: str, table: str) -> Callable[[Path, bytes], None]:
    chosen = RunConfig.create(model="patchcore", data=name).data

    def look(path: Path, content: bytes) -> None:
        root = path.parent / name
        (root / table).parent.mkdir(parents=True, exist_ok=True)
        (root / "candle").mkdir(exist_ok=True)
        (root / table).write_bytes(content)
        module = registry.datasets[name].build(replace(chosen, root=str(root)))
        try:
            for category in module.categories():
                for sample in (*module.split(category)[0], *module.test_samples(category)):
                    assert sample.label in (0, 1)
        except AnomalyError as error:
            assert str(error)

    return look


def config_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        found = RunConfig.create(model="patchcore", data="folder", config=path)
    except AnomalyError as error:
        assert str(error)
        return
    assert RunConfig.create(config=found.to_dict()).to_yaml() == found.to_yaml()


def assignment(path: Path, text: str) -> None:
    try:
        found = RunConfig.create(model="patchcore", data="folder", overrides=dict([parse_assignment(text)]))
    except AnomalyError as error:
        assert str(error)
        return
    path.write_text(found.to_yaml(), encoding="utf-8")
    assert RunConfig.create(config=path).to_yaml() == found.to_yaml()


CASES: dict[str, tuple[Any, Callable[[Path, Any], None]]] = {
    "image": (damaged_files(), image),
    "mask": (damaged_files(), mask),
    "visa": (tables, data_set("visa", "split_csv/1cls.csv")),
    "elpv": (
        st.one_of(
            st.binary(max_size=200),
            st.lists(st.lists(cell | st.sampled_from(["images/cell0001.png", "0.0", "1.0", "nan", "mono"]), max_size=4)).map(
                lambda rows: "\n".join(" ".join(row) for row in rows).encode("utf-8", "surrogatepass")
            ),
        ),
        data_set("elpv", "labels.csv"),
    ),
    "config": (config_files(), config_file),
    "set": (assignments, assignment),
}


WORDS = {
    "image": "damaged image files",
    "mask": "damaged mask files",
    "visa": "damaged split tables of VisA",
    "elpv": "damaged label tables of ELPV",
    "config": "damaged config files",
    "set": "random --set texts",
}


def attempt(name: str, folder: Path, count: int, start: int, seconds: float = 600) -> int:
    """Try as many inputs, fewer where the time runs out; how many it were."""
    strategy, check = CASES[name]
    tried, end = [0], time.monotonic() + seconds

    @seed(start)
    @settings(
        max_examples=count,
        deadline=None if count == FEW else 20_000,  # milliseconds: what takes longer hangs
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(content=strategy)
    def once(content: Any) -> None:
        if time.monotonic() > end:
            return
        tried[0] += 1
        check(folder / "input.png", content)

    once()
    assert tried[0] >= min(count, 20)
    return tried[0]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it finds in damaged files, before it refuses them or not
def test_a_few_damaged_inputs(name: str, tmp_path: Path) -> None:
    attempt(name, tmp_path, FEW, 0)


@pytest.mark.soak
@pytest.mark.reliability
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_ten_thousand_damaged_inputs(
    name: str, tmp_path: Path, soak_minutes: float, soak_seed: int, record: Callable[..., None]
) -> None:
    tried = attempt(name, tmp_path, MANY, soak_seed, 60 * soak_minutes * 0.06)
    record("input", f"{WORDS[name]}: a result or one of our errors", tried, seed=soak_seed)
