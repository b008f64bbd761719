"""The documentation shows only commands that the command line accepts, and names that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from anomaly_core import BaseConfig, known_distributions, normalise, preset_names, registry
from anomaly_core.cli import cli
from anomaly_doctor import describe_options

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
]
SHELL = {"", "sh", "bash", "console", "powershell"}
# What a reader puts a name of her own in place of.
PLACEHOLDERS = re.compile(r"[A-Z_]+|my.*")
# What the plugins are called that the tutorial and the example make.
TAUGHT = {"patch_pca", "blind_spot", "global_knn"}


@dataclass(frozen=True)
class Line:
    """A command in a code block."""

    page: Path
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.number}"


def shell_lines(page: Path) -> Iterator[Line]:
    """The lines of the shell's blocks, continued ones joined, without prompt and comment."""
    language: str | None = None
    text, start = "", 0
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        if fence := re.match(r"\s*(```+)(.*)", line):
            language = fence[2].strip().partition(" ")[0] if language is None else None
            continue
        if language is None or language not in SHELL:
            continue
        start = start if text else number
        text += line.strip().replace("\\", "/") if language == "powershell" else line.strip()
        if text.endswith("\\"):
            text = text[:-1]
            continue
        yield Line(page, start, text.removeprefix("$ "))
        text = ""


LINES = [line for page in PAGES for line in shell_lines(page)]
COMMANDS = [line for line in LINES if re.match(r"(\.venv/bin/)?anomaly\s", line.text)]


def words(text: str) -> list[str]:
    """The arguments of a line, up to a pipe, a redirection or a second command."""
    split = shlex.split(text, comments=True)[1:]
    end = next((i for i, word in enumerate(split) if word in ("|", ">", ">>", "&&", ";")), len(split))
    return split[:end]


def names_in(kind: str) -> set[str]:
    return {name for key in registry.group(kind) for name in (key, registry.group(kind)[key].qualified)}


def check(line: Line) -> None:
    """Take the line apart as click would, without running it; fails where it would be refused."""
    command: click.Command = cli
    context = click.Context(cli, info_name="anomaly")
    arguments = words(line.text)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        owner = known_distributions().get(("command", name)) if command is cli else None
        if owner and normalise(owner) not in {normalise(c.distribution) for c in registry.components()}:
            return  # the command of a plugin that is not installed here
        subcommand = command.get_command(context, name)
        assert subcommand is not None, f"no command {name!r}"
        command = subcommand
        context = click.Context(command, parent=context, info_name=name)
    try:
        values, left, _ = command.make_parser(context).parse_args(arguments)
    except click.UsageError as error:
        pytest.fail(f"{line.text}: {error.format_message()}")
    if isinstance(command, click.Group):
        assert not left
        return
    assert not left, f"{line.text}: too many arguments {left}"
    if "--help" in arguments:
        return
    for parameter in command.params:
        given = values.get(parameter.name)
        there = isinstance(given, str | list | tuple) and len(given) > 0
        assert there or not parameter.required, f"{line.text}: {parameter.name} is missing"
        if isinstance(parameter.type, click.Choice | click.types.IntParamType) and given is not None:
            several = given if isinstance(given, list | tuple) else [given]
            for one in several:
                if not (isinstance(one, str) and PLACEHOLDERS.fullmatch(one)):
                    parameter.type.convert(one, parameter, context)
    check_names(line, values)


def check_names(line: Line, values: dict[str, object]) -> None:
    """Names of components, presets and options."""

    def given(*parameters: str) -> list[str]:
        chosen = [values[name] for name in parameters if values.get(name)]
        flat = [one for item in chosen for one in (item if isinstance(item, list | tuple) else [item])]
        return [str(one) for one in flat if not PLACEHOLDERS.fullmatch(str(one))]

    models = [name for name in given("model", "models") if name not in TAUGHT]
    datasets, trainers = given("data", "datasets"), given("trainer")
    for kind, names in (("model", models), ("dataset", datasets), ("trainer", trainers), ("metric", given("metrics"))):
        unknown = set(names) - names_in(kind) - {"all"}
        assert not unknown, f"{line.text}: no {kind} {unknown}"
    chosen = [name for name in models if name != "all"] or list(registry.models)
    for preset in given("preset"):
        assert any(preset in preset_names(registry.models[name]) for name in chosen), f"{line.text}: no preset {preset!r}"
    for assignment in given("assignments"):
        key, equals, _ = assignment.partition("=")
        assert equals, f"{line.text}: --set {assignment}"
        assert key in known_options(chosen, datasets), f"{line.text}: no option {key!r}"


def known_options(models: list[str], datasets: list[str]) -> set[str]:
    """``section.key`` of the sections that these models and data sets, or all, have with their trainers."""
    base = {f"base.{name}" for name, *_ in describe_options(BaseConfig)}
    components = [("model", registry.models[name]) for name in models]
    components += [("data", registry.datasets[name]) for name in datasets or registry.datasets]
    components += [("train", registry.trainers[name]) for name in registry.trainers]
    return base | {f"{section}.{name}" for section, c in components for name, *_ in describe_options(c.config_class())}


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) > 50
    assert {line.page.name for line in COMMANDS} >= {"README.md", "first-steps.md", "offline.md", "own-images.md", "grids.md"}


@pytest.mark.parametrize("line", COMMANDS, ids=str)
def test_the_command_line_accepts(line: Line) -> None:
    check(line)


@pytest.mark.parametrize(
    "text",
    [
        "anomaly runn --model patchcore",
        "anomaly run --modell patchcore",
        "anomaly run --model patchcore extra",
        "anomaly run --model patchcoer --data sample",
        "anomaly run --model patchcore --preset edgy",
        "anomaly run --model patchcore --data sample --set data.nromal=good/",
        "anomaly run --model padim --data sample --set model.coreset_ratio=0.1",
        "anomaly run --devices two",
        "anomaly backbones lsit",
        "anomaly completion tcsh",
        "anomaly compare",
    ],
)
def test_the_check_refuses(text: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception, click.UsageError)):
        check(Line(ROOT / "README.md", 1, text))


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {word for line in LINES if line.text.startswith("make ") for word in words(line.text)[:1]}
    assert named, "the README names some"
    assert named <= targets
