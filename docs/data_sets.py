"""The pages of the data sets, and the table in data-sets.md: from specs, published facts and the loaders' docstrings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prose import cell, method_docstring, sentence

from anomaly_core import Component, DataConfig
from anomaly_datasets.facts import FACTS, Facts

PLACE = "<!-- the data sets -->"  # in data-sets.md
PARTS = ("train", "normal test", "anomalous test")
OptionTable = Callable[[str, type[Any], type[Any] | None], list[str]]


def data_set_page(component: Component, option_table: OptionTable) -> str:
    """A data set from its spec, its loader's docstring, the published facts and its options."""
    spec, name = component.spec, component.name
    facts = FACTS.get(name)
    lines = [f"# {name}", "", sentence(spec.summary), "", f"- Distribution: `{component.distribution}` {component.version}"]
    if spec.homepage:
        lines.append(f"- Published at: <{spec.homepage}>")
    if spec.license:
        lines.append(f"- Licence: {licence(spec)}")
    lines += ["", "```sh", *example(name, facts), f"anomaly show {name}", "```", ""]
    if about := method_docstring(spec.target.partition(":")[0]):
        lines += ["## What it is", "", about, ""]
    if facts is not None:
        lines += ["## What a whole copy holds", "", f"Under the root: `{facts.layout}`.", ""]
        lines += [*count_table(facts), ""]
        lines += ["`anomaly data verify` compares a copy with these counts.", ""]
    if own := option_table("data", component.config_class(), DataConfig):
        lines += ["## Options", "", "Set one with `--set data.NAME=VALUE`, or in a config file.", "", *own, ""]
    lines += ["The other options of `data` are the same for all data sets: [options](../reference/options.md#data).", ""]
    return "\n".join(lines)


def data_set_table(components: Mapping[str, Component]) -> str:
    """One row a data set, in the order of their registration."""
    lines = ["| data set | what | train | test | masks | commercial use |", "|---|---|---|---|---|---|"]
    for name in sorted(components, key=lambda name: (name not in FACTS, name)):
        spec, facts = components[name].spec, FACTS.get(name)
        numbers = [""] * 3
        if facts is not None:
            train, good, bad = facts.totals
            masks = "yes" if facts.masked else "no"
            numbers = [f"{train:,}", f"{good:,} + {bad:,}", masks]
        use = "no" if spec.noncommercial else "see its licence" if spec.license and facts else ""
        lines.append(" | ".join([f"| [`{name}`](data-sets/{name}.md)", cell(spec.summary), *numbers, f"{use} |"]))
    return "\n".join(lines)


def licence(spec: Any) -> str:
    return f"{cell(spec.license)}, **not for commercial use**" if spec.noncommercial else cell(spec.license)


def example(name: str, facts: Facts | None) -> list[str]:
    """The commands from the archive to a run."""
    run = f"anomaly run --model patchcore --data {name} --preset edge"
    if facts is None:
        return [f"{run} --set data.root=DIR" if name == "folder" else run]
    if name == "elpv":  # a wheel
        return ['pip install "anomaly-datasets[elpv]"', f"anomaly data verify {name}", run]
    fetch = f"anomaly data prepare {name}"
    lines = [f"{fetch} --root DIR     # downloads it" if facts.archive else f"{fetch} --archive FILE --root DIR"]
    if name == "real_iad":  # an archive for each category
        lines = []
    return [*lines, f"anomaly data verify {name} --root DIR", f"{run} --set data.root=DIR"]


def count_table(facts: Facts) -> list[str]:
    """Images by category and part; one row where all categories have as many, or only the totals are published."""
    parts = [*PARTS, "validation"] if facts.validation else PARTS
    rows = {
        category: (*counts, *([facts.validation[category]] if facts.validation else []))
        for category, counts in facts.per_category.items()
    }
    totals = (*facts.totals, *([sum(facts.validation.values())] if facts.validation else []))
    lines = [f"| category | {' | '.join(parts)} |", "|---" * (len(parts) + 1) + "|"]
    counts = set(rows.values())
    if len(facts.categories) > 1 and len(counts) <= 1:
        lines += [f"| each of {len(facts.categories)} | {' | '.join(map(str, each))} |" for each in counts]
        names = ", ".join(f"`{category}`" for category in facts.categories)
        return [*lines, f"| all | {' | '.join(map(str, totals))} |", "", f"Categories: {names}."]
    lines += [f"| `{category}` | {' | '.join(map(str, each))} |" for category, each in rows.items()]
    return [*lines, f"| all | {' | '.join(map(str, totals))} |"] if len(facts.categories) > 1 else lines
