"""Randomly damaged tables of published data sets: samples, or one of our errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from anomaly_core import AnomalyError, RunConfig, registry
from fuzzing import FEW, MANY, attempt, words

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


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-3, 300) | cell,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


def objects(**likely: Any) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects of which each key is as it should be, or holds anything, or is missing."""
    return st.fixed_dictionaries({}, optional={key: st.one_of(*[good] * 4, values) for key, good in likely.items()})


def as_json(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return st.one_of(st.binary(max_size=200), strategy.map(lambda value: json.dumps(value).encode()))


images = st.lists(
    objects(
        image_path=st.sampled_from(["OK/S1/a_C1_0.jpg", "../x.jpg", "a"]), anomaly_class=st.just("OK"), mask_path=st.none()
    ),
    max_size=3,
)
defects = st.lists(
    objects(
        defect_name=words,
        pixel_value=st.integers(0, 70000),
        saturation_threshold=st.floats(),
        relative_saturation=st.booleans(),
    )
)


def data_set(name: str, table: str) -> Callable[[Path, bytes], None]:
    chosen = RunConfig.create(model="patchcore", data=name).data

    def look(path: Path, content: bytes) -> None:
        root = path.parent / name
        (root / table).parent.mkdir(parents=True, exist_ok=True)
        for folder in ("candle", "realiad_256/toy", "candle/train"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / table).write_bytes(content)
        module = registry.datasets[name].build(replace(chosen, root=str(root)))
        try:
            for category in module.categories():
                for sample in (*module.split(category)[0], *module.test_samples(category)):
                    assert sample.label in (0, 1)
        except AnomalyError as error:
            assert str(error)

    return look


CASES: dict[str, tuple[Any, Callable[[Path, Any], None]]] = {
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
    "real_iad": (
        as_json(objects(train=images, test=images, meta=objects(normal_class=st.just("OK"), prefix=st.just("toy/")))),
        data_set("real_iad", "realiad_jsons/toy.json"),
    ),
    "mvtec_loco": (as_json(defects), data_set("mvtec_loco", "candle/defects_config.json")),
}
WORDS = {"visa": "damaged split tables of VisA", "elpv": "damaged label tables of ELPV"}
WORDS |= {"real_iad": "damaged splits of Real-IAD", "mvtec_loco": "damaged lists of defects of MVTec LOCO AD"}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_a_few_damaged_inputs(name: str, tmp_path: Path) -> None:
    attempt(*CASES[name], tmp_path, FEW, 0)


@pytest.mark.soak
@pytest.mark.reliability
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_ten_thousand_damaged_inputs(
    name: str, tmp_path: Path, soak_minutes: float, soak_seed: int, record: Callable[..., None]
) -> None:
    tried = attempt(*CASES[name], tmp_path, MANY, soak_seed, 60 * soak_minutes * 0.06)
    record("input", f"{WORDS[name]}: a result or one of our errors", tried, seed=soak_seed)
