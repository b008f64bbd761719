"""Docstrings as markdown: their roles and headings, for the pages of docs/generate.py and for mkdocstrings."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import griffe


class PlainRoles(griffe.Extension):
    """Turns the docstrings' roles into markdown's code before mkdocstrings renders them."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """Docstrings' roles and double quotes as markdown's code."""
    text = re.sub(r":[a-z]+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    text = re.sub(r"^::\n", "", text, flags=re.MULTILINE)  # before a block of code, which markdown knows by its indent
    return text.replace("``", "`")


def sentence(text: str) -> str:
    """With a capital first letter and a full stop."""
    text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def cell(text: str) -> str:
    """Text that keeps within a table's cell."""
    return markdown(str(text)).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def method_docstring(modeler: str) -> str:
    """The docstring of a method's network, ``model.py`` beside its modeler, else of the modeler's module; as markdown."""
    for module in (modeler.rpartition(".")[0] + ".model", modeler):
        try:
            spec = find_spec(module)
        except ModuleNotFoundError:
            continue
        if spec is not None and spec.origin is not None:  # read, not imported
            return _formatted(markdown(ast.get_docstring(ast.parse(Path(spec.origin).read_text("utf-8"))) or ""))
    return ""


def _formatted(text: str) -> str:
    """A module's docstring as paragraphs: bare addresses become links, its headings bold, its list a list."""
    text = re.sub(r"(?<![<(\"])https?://[^\s)>,]+[^\s)>,.]", lambda match: f"<{match[0]}>", text)
    text = re.sub(r"^(Paper|Code|Deviations|Original[^:\n]*):", r"**\1**:", text, flags=re.MULTILINE)
    text = re.sub(r"\n(?=\*\*[A-Z])", "\n\n", text)
    return re.sub(r"\n(- )", r"\n\n\1", text, count=1)
