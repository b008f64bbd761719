"""Every name on the architecture page, and in its drawings, exists."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

from anomaly_core import GROUPS, HOOKS, BaseConfig, DataConfig, ModelConfig, TrainConfig, registry
from anomaly_core.run import folder
from anomaly_doctor import describe_options

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
DRAWINGS = [ROOT / "docs" / name for name in ("tiers.svg", "one-run.svg")]
SECTIONS = {"base": BaseConfig, "data": DataConfig, "model": ModelConfig, "train": TrainConfig}
FILE = re.compile(r"[\w./-]+\.(py|pyi|toml|yaml|json|csv|md|safetensors)")
FILES_OF_A_RUN = {value for value in vars(folder).values() if isinstance(value, str)}
WORDS = re.compile(r"[A-Za-z_]\w*(\.\w+)*(\(\))?")


def in_backticks(text: str) -> list[str]:
    """What stands in backticks outside of code blocks, in the order of the page."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return list(dict.fromkeys(re.findall(r"`([^`\n]+)`", prose)))


def in_drawing(path: Path) -> list[str]:
    """The names in a drawing: its monospaced texts, and the paths of modules among the others."""
    texts = [node for node in ElementTree.parse(path).iter() if node.tag.endswith("}text")]
    words = [word for node in texts for word in re.split(r",?\s+|: ", node.text or "") if word]
    marked = {node.text for node in texts if node.get("class") == "name"}
    return [word for word in words if FILE.fullmatch(word) or word in marked]


@cache
def defined() -> set[str]:
    """Every class, function and constant at the top of a module of ours."""
    names: set[str] = set()
    for path in [*ROOT.glob("anomaly_core/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Assign):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def exists(name: str) -> bool:
    """Whether a name of the page can be found: a file, a module's attribute, an option, a component, a distribution."""
    if (ROOT / name).exists() or (ROOT / "anomaly_core" / name).exists():
        return True
    if FILE.fullmatch(name):
        return name in FILES_OF_A_RUN or (name.startswith("test_") and any(ROOT.glob(f"tests/**/{name}")))
    if name == "anomaly" or name.startswith(("anomaly-", "-")):
        distribution = re.sub(r"\[\w+\]$", "", f"anomaly{name}" if name.startswith("-") else name)
        return distribution == "anomaly-core" or (ROOT / "plugins" / distribution / "pyproject.toml").is_file()
    first, _, rest = name.removesuffix("()").partition(".")
    if first in SECTIONS and rest:
        return rest in {option for option, *_ in describe_options(SECTIONS[first])}
    if name in GROUPS or name in HOOKS:
        return True
    if first.startswith("anomaly_") and rest:
        return resolves(name.removesuffix("()"))
    if rest:
        return any(resolves(f"{package}.{name}") for package in ("anomaly_core", "anomaly_features", "anomaly_trainers"))
    return name in defined() | {component.name for component in registry.components()}


def resolves(path: str) -> bool:
    """Whether a dotted path can be imported, or is an attribute of what can be; a field of a dataclass counts."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(value, part) and part not in getattr(value, "__dataclass_fields__", {}):
                return False
            value = getattr(value, part, None)
        return True
    return False


NAMES = [name for name in in_backticks(PAGE.read_text("utf-8")) if WORDS.fullmatch(name) or FILE.fullmatch(name) or "/" in name]
DRAWN = [name for path in DRAWINGS for name in in_drawing(path)]
# Words in backticks that are no names of ours.
ORDINARY = {"running", "complete", "failed", "interrupted", "map", "experiments/<dataset>/<category>/<method>/<run-id>"}


@pytest.mark.parametrize("name", sorted({*NAMES, *DRAWN} - ORDINARY))
def test_the_name_exists(name: str) -> None:
    assert exists(name), f"docs/architecture.md names {name}, which is not there"


MISTAKEN = (
    "run/walker.py RunFolder.finish anomaly_core.run.runner.walk data.tiles Judge -leaf anomaly_begun metric.json test_walls.py"
)


@pytest.mark.parametrize("name", MISTAKEN.split())
def test_a_name_that_is_not_there_is_seen(name: str) -> None:
    assert not exists(name)


def test_there_is_something_to_check() -> None:
    assert len(NAMES) > 80
    assert {"run/runner.py", "RunFolder.recording", "anomaly_scored", "metrics.json"} <= set(DRAWN)
