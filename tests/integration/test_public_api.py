"""The public names and their signatures are those of tests/public_api.txt, and each change of it is told in CHANGELOG.md.

The first line of that file holds the API revision. To change the public API on purpose: ``python
tests/integration/test_public_api.py`` writes the file with the next revision; then add a line that holds "API revision N" to
CHANGELOG.md, saying what changes for plugin authors. With ``--same-revision`` it keeps the number: one that is not released yet
may hold several changes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import re
import sys
import typing
from pathlib import Path

from anomaly_core import GROUPS, KINDS
from anomaly_core.hooks import RunHooks

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = ROOT / "tests" / "public_api.txt"
# The core, the foundations and the kit: what plugins import.
MODULES = tuple(f"anomaly_{name}" for name in "core doctor features metrics predict trainers benchmark export testing".split())


def described(module: str, name: str, value: object) -> list[str]:
    """A name's signature, and for a class those of its public methods and its fields."""
    qualified = f"{module}.{name}"
    if typing.get_origin(value) is not None:  # an alias of a type
        return [f"{qualified} = {value}"]
    if not inspect.isclass(value):
        return [f"{qualified}{_signature(value)}" if inspect.isroutine(value) else f"{qualified}: {type(value).__name__}"]
    bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
    lines = [f"class {qualified}({bases})"]
    if dataclasses.is_dataclass(value):
        lines += [f"    {item.name}: {item.type}{_default(item)}" for item in dataclasses.fields(value)]
    elif "__init__" in vars(value):
        lines.append(f"    __init__{_signature(value.__init__)}")
    for inner, member in sorted(vars(value).items()):
        if inner.startswith("_"):
            continue
        if isinstance(member, property):
            lines.append(f"    {inner}: property")
        elif inspect.isfunction(inspect.unwrap(getattr(member, "__func__", member))):
            abstract = "abstract " if getattr(member, "__isabstractmethod__", False) else ""
            lines.append(f"    {abstract}{inner}{_signature(getattr(member, '__func__', member))}")
    return lines


def current() -> str:
    """Everything that the promise of docs/compatibility.md covers, as text."""
    lines: list[str] = []
    for module in map(importlib.import_module, MODULES):
        for name in sorted(module.__all__):
            lines += described(module.__name__, name, getattr(module, name))
    lines += [f"entry-point group {group}: {KINDS[kind].__name__}" for group, kind in GROUPS.items()]
    lines += [f"hook {name}{_signature(hook)}" for name, hook in vars(RunHooks).items() if name.startswith("anomaly_")]
    return "\n".join(lines) + "\n"


def recorded() -> tuple[int, str, str]:
    """(revision, digest, text) of the snapshot."""
    head, _, text = SNAPSHOT.read_text(encoding="utf-8").partition("\n\n")
    match = re.fullmatch(r"API revision (\d+), sha256 (\w+)", head)
    assert match, f"{SNAPSHOT} begins with {head!r}"
    return int(match[1]), match[2], text


def _signature(function: object) -> str:
    return _nowhere(str(inspect.signature(function)))  # type: ignore[arg-type]


def _nowhere(text: str) -> str:
    """Without the places in memory at which functions lie."""
    return re.sub(r" at 0x\w+", "", text)


def _default(item: dataclasses.Field[object]) -> str:
    if item.default is not dataclasses.MISSING:
        return _nowhere(f" = {item.default!r}")
    return " = ..." if item.default_factory is not dataclasses.MISSING else ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_public_api_is_as_recorded() -> None:
    _, digest, text = recorded()
    assert current() == text, f"the public API has changed. {__doc__}"
    assert _digest(text) == digest, f"{SNAPSHOT.name} was edited by hand. {__doc__}"


def test_the_changelog_names_the_revision() -> None:
    revision, _, _ = recorded()
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"\bAPI revision {revision}\b", changelog), f"CHANGELOG.md has no 'API revision {revision}'. {__doc__}"


def test_a_changed_signature_would_be_seen() -> None:
    text = current()
    for part in ("def run_experiment", "hook anomaly_run_end(self, run", "entry-point group anomaly_core.models: ModelSpec"):
        assert part.removeprefix("def ") in text
    assert re.search(r"class anomaly_core\.ModelSpec\(ComponentSpec\)\n(    .*\n)*    trainer: str\n", text)
    assert "    abstract predict_step(self, images: 'Tensor') -> 'Prediction'" in text


if __name__ == "__main__":
    now = current()
    number, _, before = recorded() if SNAPSHOT.is_file() else (0, "", "")
    if now != before:
        number += "--same-revision" not in sys.argv
        SNAPSHOT.write_text(f"API revision {number}, sha256 {_digest(now)}\n\n{now}", encoding="utf-8")
        print(f"wrote API revision {number}; now name it in CHANGELOG.md, with what changes for plugin authors")
