"""Metadata that is damaged, stale or in the way costs its own distribution alone, and is named with the next step."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import VERSION, Component, Registry
from glow import component
from harness import Distributions

pytestmark = pytest.mark.usefixtures("core_alone")
FAULT = pytest.mark.reliability("fault")
COMMANDS = {"run"}
POINTS = "[anomaly_core.models]\nharm = os:path\n"


def _write(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda info: (info / name).write_bytes(content)


def _replace(name: str, make: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def damage(info: Path) -> None:
        (info / name).unlink()
        make(info / name)

    return damage


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 << 20)


DAMAGES = {
    "a byte in METADATA": (_write("METADATA", b"Name: anomaly-harm\nAuthor: \xff\n"), "its METADATA is not valid UTF-8"),
    "a byte in entry_points": (
        _write("entry_points.txt", b"[x]\na\xff = b:c\n"),
        "its entry_points.txt is not valid UTF-8",
    ),
    "a byte in direct_url": (_write("direct_url.json", b'"\xff"'), "its direct_url.json is not valid UTF-8"),
    "METADATA is a folder": (_replace("METADATA", Path.mkdir), "its METADATA cannot be read: it is a folder"),
    "METADATA is huge": (_replace("METADATA", _huge), "its METADATA cannot be read: its 104857600 bytes"),
    "a line of others": (_write("entry_points.txt", b"[console_scripts]\ntorn\n"), "has the line 'torn'"),
    "a name twice": (
        _write("entry_points.txt", POINTS.encode() + b"harm = os:sep\n"),
        "lists 'harm' of anomaly_core.models twice",
    ),
}
if hasattr(os, "mkfifo"):
    for file in ("METADATA", "entry_points.txt", "direct_url.json"):
        DAMAGES[f"{file} is a pipe"] = (
            lambda info, name=file: ((info / name).unlink(missing_ok=True), os.mkfifo(info / name)),  # type: ignore[misc]
            f"its {file} cannot be read: it is a pipe",
        )


def only(registry: Registry) -> Component:
    """The one distribution that is damaged."""
    (found,) = registry.damaged()
    return found


@FAULT
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_metadata_costs_its_distribution_alone(damage: str, glow: Distributions) -> None:
    work, words = DAMAGES[damage]
    info = glow.install("anomaly-harm", entry_points=POINTS)
    work(info)
    registry = Registry()
    assert registry.models["glow"].check() is None and set(registry.commands) == COMMANDS
    found = only(registry)
    assert (found.kind, found.name, found.status) == ("distribution", "anomaly-harm", "damaged")
    assert words in found.reason and f"Remove {str(info)!r}" in found.reason and found.location == str(glow.site.resolve())


@FAULT
def test_a_command_goes_on(glow: Distributions, process: Callable[..., Any]) -> None:
    for index, (work, _) in enumerate(DAMAGES.values()):
        work(glow.install(f"harm{index}", entry_points=POINTS.replace("harm", f"harm{index}")))
    done = process("--help", timeout=30, PYTHONPATH=f"{glow.site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert done.code == 0 and done.err == "" and " run " in done.out


@FAULT
def test_libraries_that_read_the_entry_points_of_all_are_spared(glow: Distributions, process: Callable[..., Any]) -> None:
    """pydantic does so for every config, torch while it is imported; a pipe would hold them up for ever."""
    for index, (work, _) in enumerate(DAMAGES.values()):
        work(glow.install(f"harm{index}"))
    arguments = ("run", "--model", "glow", "--data", "nothing", "--seed", "x")
    done = process(*arguments, timeout=30, PYTHONPATH=f"{glow.site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert "base.seed='x'" in done.err, "pydantic has looked at the options"


@FAULT
@pytest.mark.parametrize(
    ("entry_points", "metadata", "version", "words"),
    [
        ("", None, "0.0.1", "its metadata is that of 0.0.1"),
        ("[anomaly_core.commands]\nrun = anomaly_core.old:RUN\n", None, "0.0.1", "its metadata is that of 0.0.1"),
        ("", b"", VERSION, "its metadata is that of unknown"),
        ("", b"Name: anomaly-core\nAuthor: \xff\n", VERSION, "its METADATA is not valid UTF-8"),
    ],
)
def test_the_core_has_its_commands_whatever_its_own_metadata_says(
    entry_points: str, metadata: bytes | None, version: str, words: str, glow: Distributions
) -> None:
    info = glow.install("anomaly-core", version, entry_points=entry_points, requires=())
    if metadata is not None:
        (info / "METADATA").write_bytes(metadata)
    registry = Registry()
    assert set(registry.commands) == COMMANDS and registry.commands["run"].check() is None
    assert registry.commands["run"].version == VERSION and registry.models["glow"].check() is None
    assert words in only(registry).reason and f"Remove {str(info)!r}" in only(registry).reason


@FAULT
def test_the_core_has_its_commands_without_any_metadata(glow: Distributions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(glow.site)])
    registry = Registry()
    assert set(registry.commands) == COMMANDS and registry.models["glow"].status == "ok"
    assert only(registry).reason == "it has no metadata. `pip install anomaly-core`."


def test_the_version_of_the_code_is_that_of_the_project() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    assert f'\nversion = "{VERSION}"\n' in text


@FAULT
@pytest.mark.parametrize("empty", [True, False])
def test_a_stale_distribution_that_hides_another_is_named(empty: bool, glow: Distributions, tmp_path: Path) -> None:
    info = glow.install("anomaly-glow", "9.0", into=glow.folder(tmp_path / "first"))
    if empty:
        (info / "METADATA").unlink()
    registry = Registry()
    assert "glow" not in registry.models
    found = only(registry)
    assert f"it hides glow of anomaly-glow 1.2.3 in {str(glow.site.resolve())!r}" in found.reason
    assert f"Remove {str(info)!r}" in found.reason


@FAULT
def test_what_a_broken_update_left_beside_a_distribution_hides_nothing(glow: Distributions) -> None:
    for version in ("0.9", "9.0"):  # whatever the order in which a folder lists them
        (glow.site / f"anomaly_glow-{version}.dist-info").mkdir()
    registry = Registry()
    assert registry.models["glow"].version == "1.2.3"


def test_a_distribution_that_stands_on_the_path_twice_is_sound(glow: Distributions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(f"{glow.site}/../{glow.site.name}")
    monkeypatch.syspath_prepend(str(glow.site))
    registry = Registry()
    assert registry.models["glow"].status == "ok" and registry.damaged() == []


def test_an_egg_info_that_is_a_file_is_read(glow: Distributions) -> None:
    (glow.site / "old.egg-info").write_text("Metadata-Version: 1.0\nName: old\nVersion: 3\n")
    registry = Registry()
    assert "glow" in registry.models and registry.damaged() == []


@pytest.mark.reliability("security")
def test_names_that_would_act_on_a_terminal_are_shown_and_not_usable(distributions: Distributions) -> None:
    distributions.install("anomaly-odd", entry_points="[anomaly_core.models]\nre\x1b[31md = os:path\nfine = os:path\n")
    registry = Registry()
    odd = component(registry, "anomaly-odd:re\ufffd[31md")
    assert odd.status == "broken" and "fine" in registry.models


@FAULT
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_metadata_that_may_not_be_read_is_named(glow: Distributions) -> None:
    info = glow.install("anomaly-harm", entry_points=POINTS)
    (info / "METADATA").chmod(0)
    assert "its METADATA cannot be read" in only(Registry()).reason


@FAULT
def test_requirements_that_cannot_be_read_are_passed_over_or_named(distributions: Distributions) -> None:
    for name, text in (("a", "??? x"), ("b", "anomaly-core; nonsense_marker < 3"), ("c", "click; extra ~= 'x'")):
        distributions.install(f"anomaly-{name}", points={"models": {name: "os:path"}}, requires=[text])
    registry = Registry()
    assert [component(registry, f"anomaly-{name}:{name}").status for name in "abc"] == ["ok", "incompatible", "ok"]
    assert "cannot be read" in component(registry, "anomaly-b:b").reason
