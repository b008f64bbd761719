"""``anomaly doctor``: what is installed and works, and what is broken, ready to be put into a bug report."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import psutil
from packaging.requirements import Requirement

from anomaly_core import (
    CORE,
    VERSION,
    Hooks,
    PluginError,
    core_count,
    distributions,
    expanded,
    normalise,
    refuse_ignored,
    registry,
)
from anomaly_doctor.list_plugins import examined
from anomaly_doctor.runs import examine_run

VARIABLES = ("CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "TORCH_HOME", "TMPDIR")
SECRET = re.compile(r"token|secret|passw|credential|(^|_)key(_|$)", re.IGNORECASE)
LITTLE = 1 << 30  # bytes of free space below which a run may fail


@dataclass
class Report:
    """The state of an installation, by section; ``problems`` lists what is broken, ``notes`` minor findings."""

    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def examine(output: Path) -> Report:
    """Examine this installation; ``output`` is the folder for runs, in which no files are left behind."""
    report = Report()
    report.sections["system"] = {
        "anomaly-core": VERSION,
        "python": f"{platform.python_version()} ({platform.python_implementation()}, {brief(sys.executable)})",
        "system": platform.platform(),
        "machine": platform.machine(),
    }
    report.sections["libraries"], report.sections["extras"] = _libraries(report)
    report.sections["plugins"] = _plugins(report)
    report.sections["devices"] = _devices(report)
    report.sections["folders"] = _folders(output, report)
    variables = sorted(name for name in os.environ if name.startswith("ANOMALY_") or name in VARIABLES)
    report.sections["variables"] = {
        name: "(set, not shown)" if SECRET.search(name) else brief(os.environ[name]) for name in variables
    }
    try:
        Hooks(registry, report.notes.append).call("anomaly_doctor", report=report)
    except PluginError as error:  # hooks that no run can use
        report.problems.append(brief(error))
    return report


def _libraries(report: Report) -> tuple[dict[str, str], dict[str, str]]:
    """The versions of the requirements of our distributions and their extras."""
    owners = dict.fromkeys([CORE, *(component.distribution for component in registry.components())])
    libraries: dict[str, str] = {}
    extras: dict[str, str] = {}
    for owner in owners:
        with suppress(ValueError):  # a requirement that cannot be read: `plugins` reports it
            for requirement in map(Requirement, _requires(owner)):
                name, marker = requirement.name, requirement.marker
                version = next((found.version for found in distributions(name)), "not installed")
                if "extra" in str(marker):
                    extras[name] = version
                elif name not in owners and (marker is None or marker.evaluate()):
                    libraries[name] = version
                    if owner == CORE and version == "not installed":
                        report.problems.append(f"{name} is not installed, and {CORE} needs it: `pip install {name}`.")
    return libraries, {name: version for name, version in extras.items() if name not in {*libraries, *owners}}


def _requires(distribution: str) -> list[str]:
    found = next(distributions(distribution), None)
    return list(map(str, found.facts.get_all("Requires-Dist") or [])) if found else []


def _plugins(report: Report) -> dict[str, str]:
    """One line per distribution; imports each of its components."""
    owners: dict[str, list[str]] = {}
    missing: dict[tuple[str, str], list[str]] = {}
    for component in registry.components():
        remarks = owners.setdefault(component.owner, [])
        label = f"{component.kind} {component.name}"
        status, reason = examined(component)
        if status == "ok":
            continue
        remarks.append(f"{label}: {reason if status in ('blocked', 'conflict') else status}")
        if status == "unavailable":
            need = reason.partition(f" of {component.owner} ")[2]
            missing.setdefault((component.owner, need), []).append(label)
        elif status != "blocked":
            trouble = "in conflict" if status == "conflict" else status
            by_metadata = component.status == status  # if so, the reason does not name the component
            report.problems.append(brief(f"{component.owner}: {label} is {trouble}: {reason}" if by_metadata else reason))
    for damaged in registry.damaged():
        owners.setdefault(damaged.owner, []).append(damaged.status)
        report.problems.append(brief(f"{damaged.owner} in {damaged.location} is damaged: {damaged.reason}"))
    for (owner, need), labels in missing.items():
        report.notes.append(brief(f"{owner}: {', '.join(labels)}: {need}"))
    known = {normalise(name) for c in registry.components() for name in (c.distribution, c.name, c.qualified)}
    for variable in ("ANOMALY_PLUGINS", "ANOMALY_BLOCK"):
        for name in filter(str.strip, os.environ.get(variable, "").split(",")):
            if normalise(name.strip()) not in known:
                report.notes.append(f"{variable} names {name.strip()}, and nothing that is installed has that name.")
    for name in sorted(registry.blocked):
        report.notes.append(f"--no-plugin {name} was given: what it leaves out was not examined.")
    return {owner: "; ".join(remarks) or "ok" for owner, remarks in owners.items()}


def _devices(report: Report) -> dict[str, str]:
    devices = {"cpu": f"{os.cpu_count()} cores, {core_count()} usable", "memory": _gib(psutil.virtual_memory().total)}
    try:
        torch = importlib.import_module("torch")
    except ModuleNotFoundError:
        report.notes.append(f'torch is not installed: exported detectors can be used; to fit, `pip install "{CORE}[train]"`.')
        return devices
    except Exception as error:  # report a torch that cannot be loaded
        report.problems.append(f"torch cannot be imported: {type(error).__name__}: {brief(error)}. Install it again.")
        return devices
    devices["cpu"] += f", {torch.get_num_threads()} threads of torch"
    devices["torch"] = f"built for {'CUDA ' + torch.version.cuda if torch.version.cuda else 'the CPU'}"
    try:
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            free, total = torch.cuda.mem_get_info(index)
            devices[f"cuda:{index}"] = f"{torch.cuda.get_device_name(index)}, {_gib(total)}, {_gib(free)} free"
    except RuntimeError as error:
        report.problems.append(f"the GPU cannot be used: {brief(error)}. Use --device cpu, or mend the driver.")
    if torch.backends.mps.is_available():
        devices["mps"] = "available"
    return devices


def _folders(output: Path, report: Report) -> dict[str, str]:
    folders = {}
    for label, folder in (("output", output), ("temporary", Path(tempfile.gettempdir()))):
        path = expanded(folder).absolute()
        nearest = next(parent for parent in (path, *path.parents) if parent.exists())
        free = shutil.disk_usage(nearest).free
        state = "writable"
        try:
            with tempfile.TemporaryFile(dir=nearest):  # permissions do not show a read-only file system
                pass
        except OSError as error:
            state = f"cannot be written: {brief(nearest)}: {error.strerror or type(error).__name__}"
            report.problems.append(f"the {label} folder {brief(path)} {state}. Choose another.")
        if free < LITTLE:
            report.notes.append(f"the {label} folder {brief(path)} has only {_gib(free)} free.")
        folders[label] = f"{brief(path)}, {state}, {_gib(free)} free"
    return folders


def brief(text: object) -> str:
    """Text that is safe in a public report: one line, the home folder as ``~``, no user or password in a URL."""
    line = re.sub(r"(\w+://)[^\s/?#]*@", r"\1", " ".join(str(text).split()))
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises an error for a user without one
    return line if len(home) < 2 else re.sub(re.escape(home) + r"(?=$|[/\\\s'\",.;:)])", "~", line)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


@click.command("doctor")
@click.argument("run", metavar="[RUN|FILE]", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option("--output", type=Path, default="experiments", show_default=True, metavar="DIR", help="The folder of the runs.")
def doctor(run: Path | None, as_json: bool, output: Path) -> None:
    """Say what is installed and works: versions, plugins, devices, backbones, folders, variables.

    With the folder RUN of a finished run: which of its files are not as the run wrote them. With a FILE that `anomaly export`
    wrote: whether it can be opened.

    Imports every plugin. The exit code is 1 if something is broken. Prints no secrets: its output can go into a bug report.
    """
    report = Report()
    refuse_ignored(output=run is not None and "it is for the installation, and RUN is examined alone. Leave one of them out.")
    if run is None:
        report = examine(output)
    else:
        examine_run(run, report)
    if as_json:
        click.echo(json.dumps({"healthy": not report.problems, **dataclasses.asdict(report)}, indent=2))
    else:
        for title, rows in report.sections.items():
            width = max(map(len, rows), default=0)
            lines = [f"  {name:<{width}}  {value}" for name, value in rows.items()]
            click.echo("\n".join([title, *(lines or ["  none"])]))
        for title, items in (("notes", report.notes), ("problems", report.problems)):
            if items:
                click.echo("\n".join([title, *(f"  - {item}" for item in items)]))
        click.echo("broken" if report.problems else "healthy")
    if report.problems:
        raise SystemExit(1)
