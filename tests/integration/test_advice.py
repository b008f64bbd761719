"""Every next step that a message names exists: flags, options, commands and packages, read from the sources of all messages."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from packaging.requirements import Requirement

from anomaly_core import BaseConfig, DataConfig, TrainConfig, registry
from anomaly_core.cli import SHARED_OPTIONS

HERE = Path(__file__).parents[2]
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
OPTION = re.compile(r"(?<![\w./$<-])(base|data|model|train)\.([a-z_]+)\b(?![./(])")
COMMAND = re.compile(r"(?:`|^  )anomaly ([a-z-]+)((?: [a-z-]+)?)")  # in prose, or indented for copying
PACKAGE = re.compile(r"pip install (?:--upgrade )?\"?([a-z][\w-]*(?:\[[\w,-]+\])?)")
# flags of other programs
FOREIGN = re.compile(r"pip install [^.`]*|docker run [^.)`]*|\b(?:curl|pg_dump|pg_restore|tritonserver)\b[^`]*")
FILES = {"safetensors", "onnx", "yaml", "xml", "csv", "json", "py", "pt", "ts"}  # model.onnx is a file's name


class Text(NamedTuple):
    """A text of the sources that is no docstring; what is filled in is ``{}``."""

    distribution: str
    place: str
    text: str


def _joined(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_joined(part) for part in node.values)
    return "{}"


def _texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of every string below a node but docstrings; the parts of one string are joined."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Constant | ast.JoinedStr):
        yield getattr(node, "lineno", 0), _joined(node)
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):
            yield from _texts(child)


@cache
def texts() -> list[Text]:
    """All of them, of all distributions."""
    sources = [("anomaly-core", path) for path in (HERE / "anomaly_core").rglob("*.py")]
    for plugin in (HERE / "plugins").iterdir():
        sources += [(plugin.name, path) for path in (plugin / "src").rglob("*.py") if "templates" not in path.parts]
    return [
        Text(distribution, f"{path.relative_to(HERE)}:{line}", text)
        for distribution, path in sorted(sources)
        for line, text in _texts(ast.parse(path.read_text(encoding="utf-8")))
        if " " in text
    ]


def _flags(command: click.Command) -> set[str]:
    own = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union(*map(_flags, inner)) | {"--help", "--version"}


@cache
def flags() -> dict[str, set[str]]:
    """The flags of each distribution's commands."""
    shared = {flag for parameter in SHARED_OPTIONS for flag in parameter.opts}
    answer: dict[str, set[str]] = {}
    for name in registry.commands:
        component = registry.commands[name]
        answer.setdefault(component.distribution, set(shared)).update(_flags(component.load()))
    return answer


@cache
def options() -> dict[str, set[str]]:
    """The options of each distribution's components, as ``section.key``."""
    answer: dict[str, set[str]] = {"anomaly-core": set()}
    for section, kind in (("data", "dataset"), ("model", "model"), ("train", "trainer")):
        for name in registry.group(kind):
            component = registry.group(kind)[name]
            fields = {f"{section}.{field.name}" for field in dataclasses.fields(component.config_class())}
            answer.setdefault(component.distribution, set()).update(fields)
    for section, shared in (("base", BaseConfig), ("data", DataConfig), ("train", TrainConfig)):
        answer["anomaly-core"] |= {f"{section}.{field.name}" for field in dataclasses.fields(shared)}
    return answer


def missing_flags(text: Text) -> list[str]:
    """A command names flags of its distribution, another module those of `run` too; or those of a command named beside them."""
    own = flags().get(text.distribution, set())
    named = [name for name, _ in COMMAND.findall(text.text) if name in registry.commands]
    known = own.union(*(_flags(registry.commands[name].load()) for name in named))
    if "/command" not in text.place:
        known = known | flags()["anomaly-core"]
    if not own or text.distribution == "anomaly-core":  # any command may use it
        known = known.union(*flags().values())
    return [flag for flag in FLAG.findall(FOREIGN.sub("", text.text)) if flag.rstrip("-") not in known]


def missing_options(text: Text) -> list[str]:
    """A leaf names options of its own components, of the core, and of what all runs have; what others build on, of any."""
    known = set.union(*options().values())
    if any(option.startswith("model.") for option in options().get(text.distribution, ())):
        known = {name for name in known if not name.startswith("model.")} | options()[text.distribution]
    names = {f"{section}.{key}" for section, key in OPTION.findall(text.text) if key not in FILES}
    return sorted(names - known)


def missing_commands(text: Text) -> list[str]:
    wrong = []
    for name, inner in COMMAND.findall(text.text):
        command = registry.commands[name].load() if name in registry.commands else None
        if command is None or (inner and isinstance(command, click.Group) and inner.strip() not in command.commands):
            wrong.append(f"{name}{inner}")
    return wrong


def missing_packages(text: Text) -> list[str]:
    wrong = []
    for package in PACKAGE.findall(text.text):
        requirement = Requirement(package)
        try:
            extras = set(metadata.metadata(requirement.name).get_all("Provides-Extra") or ())
        except metadata.PackageNotFoundError:
            wrong.append(package)
        else:
            wrong += [package] if requirement.extras - extras else []
    return wrong


@pytest.mark.reliability("fault")
@pytest.mark.parametrize("check", [missing_flags, missing_options, missing_commands, missing_packages])
def test_what_messages_name_is_there(check, record) -> None:
    wrong = [f"{text.place} {name}: {text.text}" for text in texts() for name in check(text)]
    assert not wrong, "\n".join(wrong)
    record("fault", check.__name__.replace("_", " ") + " in the messages of all distributions", len(texts()))


def test_the_check_sees_what_is_wrong() -> None:
    def said(text: str, by: str = "anomaly-patchcore") -> Text:
        return Text(by, "src/commands.py:1", text)

    assert missing_flags(said("go on with --resum, or `pip install --upgrade x`.", "anomaly-core")) == ["--resum"]
    assert missing_flags(said("choose another with --preset.", "anomaly-datasets")) == ["--preset"]
    assert missing_flags(said("`anomaly run --output DIR`", "anomaly-datasets")) == []
    assert missing_options(said("lower model.corset, train.epoch or data.tile; see model.onnx")) == [
        "model.corset",
        "train.epoch",
    ]
    assert missing_options(said("lower model.sampling_ratio or model.coreset_ratio")) == ["model.sampling_ratio"]
    assert missing_commands(said("`anomaly trian`, `anomaly data fetch`, `anomaly run --resume`")) == ["trian", "data fetch"]
    assert missing_packages(said('pip install "anomaly-core[trian]" or pip install anomaly-core')) == ["anomaly-core[trian]"]
    assert len(texts()) > 1000
