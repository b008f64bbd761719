"""The names that follow from a plugin's name, and the files of its distribution, written whole or not at all."""

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

from anomaly_core import ConfigError, RunError, registry

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


def write_plugin(name: str, kind: str, output: Path, licence: str, author: str, trainer: str = "memory") -> tuple[Path, str]:
    """Write a distribution from the templates.

    Args:
        name: of the component, such as ``my-method``; a leading ``anomaly-`` is the distribution's and is left out.
        kind: one of GROUPS.
        output: the folder that the new one is written into.
        licence: an SPDX identifier, or ``Proprietary``.
        author: who holds the copyright.
        trainer: that fits a model: ``memory`` or ``gradient``.

    Returns:
        The new folder, and the component's name.

    Raises:
        ConfigError: a name that cannot be used, or a folder that is there.
        RunError: the folder cannot be written.
    """
    words = names(name, kind, licence, author, trainer)
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


def names(name: str, kind: str, licence: str, author: str, trainer: str = "memory") -> dict[str, str]:
    """All names that the templates need; ConfigError where the plugin cannot have such a name."""
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
    registered = kind.removesuffix("s")
    taken = [other for other in registry.components() if other.kind == registered and other.name == component]
    if taken:
        raise ConfigError(f"the {kind} {component!r} is taken by {taken[0].owner}. Choose another name.")
    if any(other.distribution == distribution for other in registry.components()):
        raise ConfigError(f"the distribution {distribution!r} is installed already. Choose another name.")
    return {
        "component": component,
        "distribution": distribution,
        "package": package,
        "kind": kind,
        "trainer": trainer,
        "registered": registered,
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
    """Path -> text of every file: those of every kind and those of this one; a name that nobody fills in is an error."""
    templates: dict[str, str] = {}
    root = files("anomaly_testing") / "templates"
    for part in ("common", f"model-{words['trainer']}" if kind == "model" else kind):
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
    texts = []
    for item in folder.iterdir():  # type: ignore[attr-defined]  # a Traversable, which Python 3.10 and 3.14 keep in other modules
        if item.is_dir():
            texts += _read(item, below / item.name)
        elif item.name.endswith(".j2"):
            texts.append((str(below / item.name), item.read_text(encoding="utf-8")))
    return texts
