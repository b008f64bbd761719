"""Names made of a name, and the files of a new distribution, written whole or not at all."""

from __future__ import annotations

import datetime
import keyword
import os
import re
import shutil
import sys
from importlib.resources import files
from pathlib import Path, PurePosixPath

from jinja2 import DictLoader, Environment, StrictUndefined

from anomaly_core.errors import ConfigError, RunError
from anomaly_core.registry import registry

LONGEST = 40
GROUPS = {
    "model": "models",
    "dataset": "datasets",
    "metric": "metrics",
    "trainer": "trainers",
    "backbone": "backbones",
    "command": "commands",
    "hooks": "hooks",
}


def write_plugin(name: str, kind: str, output: Path, licence: str, author: str) -> tuple[Path, str]:
    """Write a distribution from the templates.

    Args:
        name: of the component, such as ``my-method``; a leading ``anomaly-`` is the distribution's and is left out.
        kind: one of GROUPS.
        output: the folder that the new one is written into.
        licence: an SPDX identifier, or ``Proprietary``.
        author: who holds the copyright.

    Returns:
        the new folder, and the component's name.

    Raises:
        ConfigError: a name that cannot be used, or a folder that is there.
        RunError: the folder cannot be written.
    """
    words = names(name, kind, licence, author)
    folder = output / words["distribution"]
    if folder.exists() or folder.is_symlink():
        raise ConfigError(f"{str(folder)!r} is there already, and nothing is overwritten. Choose another name or --output.")
    rendered = render(kind, words)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        for path, text in rendered.items():
            target = temporary / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunError(f"cannot write {str(folder)!r}: {error}. Choose another folder with --output.") from error
    return folder, words["component"]


def names(name: str, kind: str, licence: str, author: str) -> dict[str, str]:
    """All names that the templates need; ConfigError where one cannot be made."""
    given = name.strip()
    stem = re.sub(r"^anomaly[-_]", "", given)
    pattern = r"[a-z][a-z0-9]*([-_.][a-z0-9]+)*" if kind == "backbone" else r"[a-z][a-z0-9]*([-_][a-z0-9]+)*"
    if not re.fullmatch(pattern, stem):
        raise ConfigError(f"{name!r} is no name for a plugin: use lower-case letters, digits and hyphens, such as my-method.")
    if len(stem) > LONGEST:
        raise ConfigError(f"{name!r} has {len(stem)} characters; {LONGEST} are allowed. Choose a shorter name.")
    snake = re.sub(r"[-.]", "_", stem)
    package, distribution = f"anomaly_{snake}", f"anomaly-{re.sub(r'[_.]', '-', stem)}"
    if keyword.iskeyword(snake) or snake in sys.stdlib_module_names or snake in ("core", "torch", "plugin"):
        raise ConfigError(f"{name!r} is a word of Python or of ours, and would be confused with it. Choose another name.")
    component = stem if kind in ("backbone", "command") else snake
    taken = [found for found in registry.components() if found.kind == kind.removesuffix("s") and found.name == component]
    if taken:
        raise ConfigError(f"the {kind} {component!r} is taken by {taken[0].owner}. Choose another name.")
    if any(found.distribution == distribution for found in registry.components()):
        raise ConfigError(f"the distribution {distribution!r} is installed already. Choose another name.")
    return {
        "component": component,
        "distribution": distribution,
        "package": package,
        "kind": kind,
        "registered": kind.removesuffix("s"),
        "group": GROUPS[kind],
        "pascal": "".join(part.capitalize() for part in re.split(r"[-_.]", stem)),
        "constant": snake.upper(),
        "title": stem.replace("-", " ").replace("_", " "),
        "license": licence,
        "spdx": "LicenseRef-Proprietary" if licence == "Proprietary" else licence,
        "author": author.strip() or f"the {distribution} contributors",
        "year": str(datetime.date.today().year),
    }


def render(kind: str, words: dict[str, str]) -> dict[str, str]:
    """Path -> text of every file: those of every kind and those of this one; a name that no one fills in is an error."""
    templates: dict[str, str] = {}
    root = files("anomaly_scaffold") / "templates"
    for part in ("common", kind):
        for path, text in _read(root / part, PurePosixPath()):
            templates[path] = text
    environment = Environment(
        loader=DictLoader(
            {**templates, **{f"license/{path}": text for path, text in _read(root / "license", PurePosixPath())}}
        ),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Python and TOML, not HTML
        variable_start_string="<<",
        variable_end_string=">>",
    )
    out = {}
    for path in templates:
        target = path.removesuffix(".j2").replace("PACKAGE", words["package"])
        out[target] = environment.get_template(path).render(words)
    out["LICENSE"] = environment.get_template(f"license/{words['license']}.j2").render(words)
    return out


def _read(folder: object, below: PurePosixPath) -> list[tuple[str, str]]:
    """(path, text) of the templates below a folder."""
    found = []
    for item in folder.iterdir():  # type: ignore[attr-defined]  # a Traversable, which Python 3.10 and 3.14 keep in other modules
        if item.is_dir():
            found += _read(item, below / item.name)
        elif item.name.endswith(".j2"):
            found.append((str(below / item.name), item.read_text(encoding="utf-8")))
    return found
