"""Randomly damaged config files and --set texts: a config, or one of our errors; malicious ones execute nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from anomaly_core import AnomalyError, BaseConfig, RunConfig, RunFolder, parse_assignment, run_experiment
from fuzzing import FEW, MANY, attempt, scalars, words
from poison import YAML
from tiny.config import OnePassConfig, PaletteConfig, TreeConfig
from tiny.runs import config

pytestmark = pytest.mark.usefixtures("tiny")


option_names = st.sampled_from(
    [
        f"{section}.{name}"
        for section, cls in {"base": BaseConfig, "data": TreeConfig, "model": PaletteConfig, "train": OnePassConfig}.items()
        for name in vars(cls())
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
    sections: dict[Any, Any] = {"model": {"name": "palette"}, "data": {"name": "tree"}}
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


def config_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        resolved = RunConfig.create(model="palette", data="tree", config=path)
    except AnomalyError as error:
        assert str(error)
        return
    assert RunConfig.create(config=resolved.to_dict()).to_yaml() == resolved.to_yaml()


def assignment(path: Path, text: str) -> None:
    try:
        resolved = RunConfig.create(model="palette", data="tree", overrides=dict([parse_assignment(text)]))
    except AnomalyError as error:
        assert str(error)
        return
    path.write_text(resolved.to_yaml(), encoding="utf-8")
    assert RunConfig.create(config=path).to_yaml() == resolved.to_yaml()


CASES: dict[str, tuple[Any, Callable[[Path, Any], None]]] = {
    "config": (config_files(), config_file),
    "set": (assignments, assignment),
}
WORDS = {"config": "damaged config files", "set": "random --set texts"}


@pytest.mark.parametrize("name", CASES)
def test_a_few_damaged_inputs(name: str, tmp_path: Path) -> None:
    attempt(*CASES[name], tmp_path, FEW, 0)


@pytest.mark.soak
@pytest.mark.reliability
@pytest.mark.parametrize("name", CASES)
def test_ten_thousand_damaged_inputs(
    name: str, tmp_path: Path, soak_minutes: float, soak_seed: int, record: Callable[..., None]
) -> None:
    tried = attempt(*CASES[name], tmp_path, MANY, soak_seed, 60 * soak_minutes * 0.06)
    record("input", f"{WORDS[name]}: a result or one of our errors", tried, seed=soak_seed)


@pytest.mark.reliability
@pytest.mark.parametrize("text", YAML)
def test_malicious_yaml_executes_nothing(
    canary: Path, tmp_path: Path, text: str, preset: Callable[[str, str], None], record: Callable[..., None]
) -> None:
    poison = text.format(canary)
    (tmp_path / "evil.yaml").write_text(poison)
    run = tmp_path / "run"
    shutil.copytree(run_experiment(config(tmp_path)).folder, run)
    (run / "config.yaml").write_text(poison)
    for attack in (
        lambda: RunConfig.create(config=tmp_path / "evil.yaml"),
        lambda: RunConfig.create(model="palette", data="tree", overrides=dict([parse_assignment(f"base.seed={poison}")])),
        RunFolder(run).config,
    ):
        with pytest.raises(AnomalyError):
            attack()
    preset("evil", poison)
    with pytest.raises(AnomalyError):
        RunConfig.create(model="palette", data="tree", preset="evil")
    record("security", "malicious YAML as a config, a run's config, a preset and a --set value", 4)
