"""A hook of mkdocs: pages that are made from the code when the site is built, so that they cannot grow stale."""

from __future__ import annotations

import ast
import importlib.resources
import inspect
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import ByteSize

from anomaly_core.cli import cli
from anomaly_core.config import describe_options, preset_layer, preset_names
from anomaly_core.options import BaseConfig, DataConfig, ModelConfig, TrainConfig
from anomaly_core.registry import GROUPS, Component, registry
from anomaly_core.specs import KINDS

SECTIONS = {"model": "model", "dataset": "data", "trainer": "train"}
COMMON = {"base": BaseConfig, "data": DataConfig, "model": ModelConfig, "train": TrainConfig}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """One page a method, below `Methods`."""
    for entry in config.nav or []:
        if pages := entry.get("Methods"):
            pages.extend({name: f"methods/{name}.md"} for name in sorted(registry.models))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and nothing on disk."""
    pages = {f"methods/{name}.md": method_page(registry.models[name]) for name in registry.models}
    pages |= {"plugins.md": plugins_page(), "reference/cli.md": cli_page(), "reference/options.md": options_page()}
    pages["reference/specs.md"] = specs_page()
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def method_page(component: Component) -> str:
    """A method from its spec, its module's docstring, its presets and its options."""
    spec = component.spec
    trainer = registry.trainers[spec.trainer]
    lines = [f"# {component.name}", "", sentence(spec.summary), ""]
    lines += [f"- Distribution: `{component.distribution}` {component.version}"]
    lines += [f"- Trainer: `{spec.trainer}`, {trainer.spec.summary}"]
    lines += [f"- {label}: <{value}>" for label, value in (("Paper", spec.paper), ("Code", spec.code)) if value]
    names = preset_names(component)
    example = "edge" if "edge" in names else names[0] if names else ""
    lines += [
        "",
        "```sh",
        f"anomaly run --model {component.name} --data sample{f' --preset {example}' if example else ''}",
    ]
    lines += [f"anomaly show {component.name}", "```", ""]
    if about := module_docstring(spec.target.partition(":")[0].rpartition(".")[0] + ".model"):
        lines += ["## How it works here", "", formatted(about), ""]
    if names:
        lines += ["## Presets", ""]
        for name in names:
            lines += [f"### `{name}`", "", f"{preset_comment(component, name)}", ""]
            lines += [*preset_table(preset_layer(component, name)), ""]
    lines += ["## Options", "", "Set one with `--set model.NAME=VALUE`, in a preset or in a config file.", ""]
    lines += option_table("model", component.config_class())
    lines += ["", f"The section `train` is that of the trainer `{spec.trainer}`:", ""]
    lines += option_table("train", trainer.config_class())
    lines += ["", "The sections `base` and `data` are the same for all methods: [options](../reference/options.md).", ""]
    return "\n".join(lines)


def plugins_page() -> str:
    """What is installed where the site is built: every distribution and what it provides."""
    lines = ["# Known plugins", "", "Each is a distribution of its own, found by entry point once it is installed.", ""]
    lines += ["`anomaly list-plugins` shows those on your machine, and where they come from.", ""]
    owners: dict[str, list[Component]] = {}
    for component in registry.components():
        owners.setdefault(component.distribution, []).append(component)
    for name in sorted(owners, key=lambda name: (name != "anomaly-core", name)):
        lines += [f"## {name}", "", "| kind | name | what it is |", "|---|---|---|"]
        for component in owners[name]:
            shown = f"[`{component.name}`](methods/{component.name}.md)" if component.kind == "model" else f"`{component.name}`"
            terms = getattr(component.spec, "license", "")
            lines.append(f"| {component.kind} | {shown} | {cell(component.spec.summary)}{f' ({terms})' if terms else ''} |")
        lines.append("")
    return "\n".join(lines)


def cli_page() -> str:
    """Each command's own help."""
    lines = ["# Command line", "", "What `anomaly COMMAND --help` prints. `-h` works as well.", ""]
    root = click.Context(cli, info_name="anomaly", terminal_width=78, **cli.context_settings)
    lines += ["```text", cli.get_help(root), "```", ""]
    for name in registry.commands:
        command = cli.get_command(root, name)
        assert command is not None
        for context in commands(command, root, name):
            lines += [f"{'##' if context.parent is root else '###'} {context.command_path}", ""]
            lines += ["```text", context.command.get_help(context), "```", ""]
            owner = registry.commands[name].distribution
            if context.parent is root and owner != "anomaly-core":
                lines += [f"From `{owner}`.", ""]
    return "\n".join(lines)


def commands(command: click.Command, parent: click.Context, name: str) -> Iterator[click.Context]:
    """The context of a command and of all below it."""
    context = click.Context(command, parent=parent, info_name=name, max_content_width=78, terminal_width=78)
    yield context
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            if (found := command.get_command(context, child)) is not None:
                yield from commands(found, context, child)


def options_page() -> str:
    """The four sections, and what each data set and trainer adds."""
    lines = ["# Options", "", "A run has four sections. Options rise in this order: defaults, preset, `--config FILE`,"]
    lines += ["`--set section.key=value`, the flags of a command. `anomaly show NAME` prints the same tables.", ""]
    lines += ["Lists are written with commas (`--set model.layers=layer2,layer3`), none as `null`.", ""]
    for section, base in COMMON.items():
        lines += [f"## {section}", "", sentence(summary_of(base)), "", *option_table(section, base), ""]
        for kind, name in SECTIONS.items():
            if name != section or kind == "model":
                continue
            for component in registry.group(kind).values():
                if own := option_table(section, component.config_class(), without=base):
                    lines += [f"### {section}: {component.name}", "", f"{sentence(component.spec.summary)}", "", *own, ""]
        if section == "model":
            lines += ["Each method adds its own:", ""]
            lines += [f"- [{name}](../methods/{name}.md#options)" for name in sorted(registry.models)] + [""]
    return "\n".join(lines)


def specs_page() -> str:
    """Kinds, their groups and specs; mkdocstrings writes what each spec holds."""
    lines = ["# Specs", "", "| kind | entry-point group | spec |", "|---|---|---|"]
    lines += [f"| {kind} | `{group}` | `{KINDS[kind].__name__}` |" for group, kind in GROUPS.items()]
    lines += [
        "",
        "::: anomaly_core.specs",
        "    options:",
        "      show_root_heading: false",
        "      show_root_toc_entry: false",
        "",
    ]
    return "\n".join(lines)


def option_table(section: str, config: type[Any], without: type[Any] | None = None) -> list[str]:
    """A table of the options of a config dataclass; only those that ``without`` does not have or has otherwise."""
    known = describe_options(without) if without else []
    rows = [row for row in describe_options(config) if row not in known]
    if not rows:
        return []
    lines = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for name, kind, default, meaning in rows:
        shown = ",".join(map(str, default)) if isinstance(default, list | tuple) else default
        if isinstance(default, ByteSize):
            shown = default.human_readable(separator="")
        value = "none" if shown is None or shown == "" else f"`{shown}`"
        lines.append(f"| `{section}.{name}` | {cell(kind)} | {value} | {cell(meaning)} |")
    return lines


def preset_table(layer: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| option | value |", "|---|---|"]
    for section, values in layer.items():
        for key, value in values.items():
            shown = ",".join(map(str, value)) if isinstance(value, list) else "none" if value is None else value
            lines.append(f"| `{section}.{key}` | `{shown}` |")
    return lines


def preset_comment(component: Component, name: str) -> str:
    """What the file of a preset says of itself before its first section."""
    package, _, folder = component.spec.presets.partition(":")
    file = importlib.resources.files(package) / (folder or "presets") / f"{name}.yaml"
    said = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        said.append(line.lstrip("# "))
    return markdown(" ".join(said))


def module_docstring(module: str) -> str:
    """The docstring of a module as markdown; the module is read, not imported."""
    try:
        found = find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None:
        return ""
    text = ast.get_docstring(ast.parse(Path(found.origin).read_text("utf-8"))) or ""
    return markdown(text)


def formatted(text: str) -> str:
    """A module's docstring as paragraphs: bare addresses become links, its headings bold, its list a list."""
    text = re.sub(r"(?<![<(\"])https?://[^\s)>,]+[^\s)>,.]", lambda found: f"<{found[0]}>", text)
    text = re.sub(r"^(Paper|Code|Deviations|Original[^:\n]*):", r"**\1**:", text, flags=re.MULTILINE)
    text = re.sub(r"\n(?=\*\*[A-Z])", "\n\n", text)
    return re.sub(r"\n(- )", r"\n\n\1", text, count=1)


def summary_of(thing: Any) -> str:
    return markdown((inspect.getdoc(thing) or "").partition("\n\n")[0])


def markdown(text: str) -> str:
    """Docstrings' roles and double quotes as markdown's code."""
    text = re.sub(r":[a-z]+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


def sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def cell(text: str) -> str:
    """Text that keeps within a table's cell."""
    return markdown(str(text)).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


class PlainRoles(griffe.Extension):
    """Turns the docstrings' roles into markdown's code before mkdocstrings renders them."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
