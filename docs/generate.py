"""A hook of mkdocs: pages that are made from the code when the site is built, so that they cannot grow stale."""

from __future__ import annotations

import ast
import importlib
import importlib.resources
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from data_sets import PLACE, data_set_page, data_set_table
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from prose import cell, markdown, method_docstring, sentence
from pydantic import ByteSize

from anomaly_core import (
    CORE,
    GROUPS,
    KINDS,
    BaseConfig,
    Component,
    DataConfig,
    ModelConfig,
    TrainConfig,
    preset_layer,
    preset_names,
    registry,
)
from anomaly_core.cli import cli  # the group: in the front door its package has the name
from anomaly_doctor import describe_options
from anomaly_features import ExtractorOptions

COMMON = {"base": BaseConfig, "data": DataConfig, "model": ModelConfig, "train": TrainConfig}
OWNERS = {spec.section: kind for kind, spec in KINDS.items() if spec.section}  # the kind that owns a section
PACKAGES = {
    "anomaly_doctor": "What `anomaly show` and `anomaly list-plugins` tell, from Python.",
    "anomaly_drift": "Whether a detector's threshold still holds.",
    "anomaly_features": "What a method with a frozen extractor imports.",
    "anomaly_metrics": "The metrics as pure functions of raw scores and maps. The classes that a run feeds are found by name.",
    "anomaly_predict": "Finished runs and exported detectors in use.",
    "anomaly_serve": "Detectors on the line: what the service knows and keeps, and how to make one from Python.",
    "anomaly_teach": "Decisions about a finished run: more images, and synthetic defects to try it on.",
    "anomaly_trainers": "The trainers are found by name. A trainer of your own may extend them.",
    "anomaly_benchmark": "Grids of runs and comparisons of finished runs, from Python.",
    "anomaly_export": "Exported detectors, written and used.",
    "anomaly_testing": "The conformance kit, for the tests of a plugin.",
}
# The page of the core: headings, and the modules whose names stand below each.
CORE_PARTS = {
    "Run, and use a run": ("run",),
    "What flows": ("types",),
    "What plugins extend": ("base",),
    "Options": ("config",),
    "Images and maps": ("imaging",),
    "Components": ("component", "discovery", "installed"),
    "Hooks": ("hooks",),
    "For commands": ("cli", "process", "threads", "untrusted"),
    "Errors": ("errors",),
}
FIRST = ("run_experiment", "RunResults", "RunResult", "Measure", "TestedImage", "RunFolder", "RunConfig")  # of their part


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """One page a method, below `Methods`, and one a data set, below `Data sets`."""
    for entry in config.nav or []:
        if pages := entry.get("Methods"):
            pages.extend({name: f"methods/{name}.md"} for name in sorted(registry.models))
        if pages := entry.get("Data sets"):
            pages.extend({name: f"data-sets/{name}.md"} for name in sorted(registry.datasets))
    return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The table of the data sets, on their page."""
    return markdown.replace(PLACE, data_set_table(registry.datasets))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and nothing on disk."""
    pages = {f"methods/{name}.md": method_page(registry.models[name]) for name in registry.models}
    pages |= {f"data-sets/{name}.md": data_set_page(each, option_table) for name, each in registry.datasets.items()}
    pages |= {"plugins.md": plugins_page(), "reference/cli.md": cli_page(), "reference/options.md": options_page()}
    pages |= {"reference/specs.md": specs_page(), "reference/anomaly_core.md": core_page()}
    pages |= {f"reference/{name}.md": package_page(name, intro) for name, intro in PACKAGES.items()}
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
    if about := method_docstring(spec.target.partition(":")[0]):
        lines += ["## How it works here", "", about, ""]
    if names:
        lines += ["## Presets", ""]
        for name in names:
            lines += [f"### `{name}`", "", f"{preset_comment(component, name)}", ""]
            lines += [*preset_table(preset_layer(component, name)), ""]
    lines += ["## Options", "", "Set one with `--set model.NAME=VALUE`, in a preset or in a config file.", ""]
    lines += option_table("model", component.config_class())
    lines += ["", f"The section `train` is that of the trainer `{spec.trainer}`:", ""]
    lines += option_table("train", trainer.config_class())
    if spec.train:
        values = ", ".join(f"`train.{name}={value}`" for name, value in spec.train.items())
        lines += ["", f"This method sets {values}, beneath every preset."]
    lines += ["", "The sections `base` and `data` are the same for all methods: [options](../reference/options.md).", ""]
    return "\n".join(lines)


def plugins_page() -> str:
    """What is installed where the site is built: every distribution and what it provides."""
    lines = ["# Known plugins", "", "Each is a distribution of its own, found by entry point once it is installed.", ""]
    lines += ["`pip install anomaly` brings the usual set. `anomaly list-plugins` shows those on your machine, and where they"]
    lines += ["come from.", ""]
    owners: dict[str, list[Component]] = {}
    for component in registry.components():
        owners.setdefault(component.distribution, []).append(component)
    for name in sorted(owners, key=lambda name: (name != CORE, name)):
        lines += [f"## {name}", "", "| kind | name | what it is |", "|---|---|---|"]
        for component in owners[name]:
            folder = {"model": "methods", "dataset": "data-sets"}.get(component.kind)
            shown = f"[`{component.name}`]({folder}/{component.name}.md)" if folder else f"`{component.name}`"
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
            if context.parent is root and owner != CORE:
                lines += [f"From `{owner}`.", ""]
    return "\n".join(lines)


def commands(command: click.Command, parent: click.Context, name: str) -> Iterator[click.Context]:
    """The context of a command and of all below it."""
    context = click.Context(command, parent=parent, info_name=name, max_content_width=78, terminal_width=78)
    yield context
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            if (subcommand := command.get_command(context, child)) is not None:
                yield from commands(subcommand, context, child)


def options_page() -> str:
    """The four sections, and what each data set and trainer adds."""
    lines = ["# Options", "", "A run has four sections. Options rise in this order: defaults, preset, `--config FILE`,"]
    lines += ["`--set section.key=value`, the flags of a command. `anomaly show NAME` prints the same tables.", ""]
    lines += ["Lists are written with commas (`--set model.layers=layer2,layer3`), none as `null`.", ""]
    for section, base in COMMON.items():
        lines += [f"## {section}", "", sentence(summary_of(base)), "", *option_table(section, base), ""]
        if section == "model":
            lines += ["### model: methods with a frozen extractor", "", sentence(summary_of(ExtractorOptions)), ""]
            lines += [*option_table(section, ExtractorOptions), "", "Each method adds its own:", ""]
            lines += [f"- [{name}](../methods/{name}.md#options)" for name in sorted(registry.models)] + [""]
        elif section in OWNERS:
            for component in registry.group(OWNERS[section]).values():
                if own := option_table(section, component.config_class(), without=base):
                    lines += [f"### {section}: {component.name}", "", f"{sentence(component.spec.summary)}", "", *own, ""]
    return "\n".join(lines)


def specs_page() -> str:
    """Kinds, their groups and specs; mkdocstrings writes what each spec holds."""
    lines = [
        "# Specs",
        "",
        "What a plugin says of a component: a frozen description with the addresses of the real thing. An address is",
    ]
    lines += ['`"package.module:attribute"`. It is imported when the component is built, not before.', ""]
    lines += ["| kind | entry-point group | spec |", "|---|---|---|"]
    lines += [f"| {kind} | `{group}` | `{KINDS[kind].__name__}` |" for group, kind in GROUPS.items()]
    lines += ["", "`anomaly_core.KINDS` is this table in Python: a kind and its spec.", ""]
    for name in ("ComponentSpec", *(spec.__name__ for spec in KINDS.values())):
        lines += [f"::: anomaly_core.{name}", ""]
    return "\n".join(lines)


def core_page() -> str:
    """The core's public names, by what they are for."""
    lines = [
        "# anomaly_core",
        "",
        "Everything here is imported from the package itself: `from anomaly_core import run_experiment`.",
    ]
    lines += ["The specs have [a page of their own](specs.md), and so have [the hooks of a run](hooks.md).", ""]
    names = public_names("anomaly_core")
    placed = {module for modules in CORE_PARTS.values() for module in modules} | {"specs"}
    homeless = {name for name, module in names.items() if module.partition(".")[0] not in placed}
    assert not homeless, f"no part of the page for {homeless}: name their modules in CORE_PARTS"
    for title, modules in CORE_PARTS.items():
        part = [name for name, module in names.items() if module.partition(".")[0] in modules]
        part.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
        lines += [f"## {title}", "", *members("anomaly_core", part, 3)]
    return "\n".join(lines)


def package_page(package: str, intro: str) -> str:
    """The public names of another package."""
    names = list(public_names(package))
    lines = [f"# {package}", "", f"{intro} `from {package} import {names[0]}`.", "", *members(package, names, 2)]
    return "\n".join(lines)


def public_names(package: str) -> dict[str, str]:
    """Public name -> the package's module that it comes from, in the order of the front door."""
    folder = Path(importlib.import_module(package).__path__[0])
    door = folder / "__init__.pyi"
    tree = ast.parse((door if door.is_file() else folder / "__init__.py").read_text("utf-8"))
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or str(node.module).startswith(package)):
            module = str(node.module).removeprefix(f"{package}.")
            names |= {alias.asname or alias.name: module for alias in node.names if not alias.name.startswith("_")}
    return names


def members(package: str, names: list[str], level: int) -> list[str]:
    """mkdocstrings' block for each class and function, then a table of what has no docstring."""
    values = {name: getattr(importlib.import_module(package), name) for name in names}
    plain = {name: value for name, value in values.items() if not (inspect.isclass(value) or inspect.isroutine(value))}
    lines = []
    for name in names:
        if name not in plain:
            lines += [f"::: {package}.{name}", f"    options: {{heading_level: {level}}}", ""]
    if plain:
        lines += ["| name | value |", "|---|---|"]
        lines += [f"| `{name}` | {shown(value)} |" for name, value in plain.items()] + [""]
    return lines


def shown(value: object) -> str:
    """A constant as it is; of another object, its type."""
    if isinstance(value, click.Command):
        return f"the command `{value.name}`"
    if isinstance(value, str | int):
        return f"`{value}`"
    if isinstance(value, tuple | list | set | frozenset):
        return ", ".join(f"`{item}`" for item in (sorted(value) if isinstance(value, set | frozenset) else value))
    text, kind = repr(value), type(value).__name__
    if " at 0x" not in text and len(text) < 80:
        return f"`{cell(text)}`"
    return "a type" if kind.startswith("_") else f"a `{kind}`"


def option_table(section: str, config: type[Any], without: type[Any] | None = None) -> list[str]:
    """A table of the options of a config dataclass; only those that ``without`` does not have or has otherwise."""
    known = describe_options(without) if without else []
    rows = [row for row in describe_options(config) if row not in known]
    if not rows:
        return []
    lines = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for name, kind, default, meaning in rows:
        text = ",".join(map(str, default)) if isinstance(default, list | tuple) else default
        if isinstance(default, ByteSize):
            text = default.human_readable(separator="")
        value = "none" if text is None or text == "" else f"`{text}`"
        lines.append(f"| `{section}.{name}` | {cell(kind)} | {value} | {cell(meaning)} |")
    return lines


def preset_table(layer: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| option | value |", "|---|---|"]
    for section, values in layer.items():
        for key, value in values.items():
            text = ",".join(map(str, value)) if isinstance(value, list) else "none" if value is None else value
            lines.append(f"| `{section}.{key}` | `{text}` |")
    return lines


def preset_comment(component: Component, name: str) -> str:
    """What the file of a preset says of itself before its first section."""
    package, _, folder = component.spec.presets.partition(":")
    file = importlib.resources.files(package) / (folder or "presets") / f"{name}.yaml"
    comment = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return markdown(" ".join(comment))


def summary_of(thing: Any) -> str:
    return markdown((inspect.getdoc(thing) or "").partition("\n\n")[0])
