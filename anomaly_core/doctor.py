"""What a bug report needs: versions, plugins, devices, weights, folders and variables, and what of it is broken."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from anomaly_core.cores import cores
from anomaly_core.registry import CORE, registry

LIBRARIES = tuple(
    "torch torchvision timm numpy scipy scikit-learn pillow accelerate safetensors huggingface-hub pydantic pluggy".split()
)
REQUIRED = frozenset(LIBRARIES) - {"torchvision"}  # what the core cannot do without
# module -> the distributions that may hold it
EXTRAS = {
    "faiss": ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12"),
    "onnx": ("onnx",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "distributed": ("distributed",),
    "ray": ("ray",),
    "tensorboard": ("tensorboard",),
    "elpv_dataset": ("elpv-dataset",),
    "lpips": ("lpips",),
}
VARIABLES = ("CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "TORCH_HOME", "TMPDIR")
SECRET = re.compile(r"token|secret|passw|credential|(^|_)key(_|$)", re.IGNORECASE)
LITTLE = 1 << 30  # bytes of free space below which a run may fail


@dataclass
class Report:
    """What was found, by section; ``problems`` is what is broken, ``notes`` what only deserves a word."""

    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def examine(output: Path) -> Report:
    """Examine this installation; runs write under ``output``, where nothing is left behind."""
    report = Report()
    report.sections["system"] = _system()
    report.sections["libraries"] = _libraries(report)
    report.sections["extras"] = {module: _extra(module, EXTRAS[module]) for module in EXTRAS}
    report.sections["plugins"] = _plugins(report)
    report.sections["devices"] = _devices(report)
    report.sections["backbones"] = _backbones(report)
    report.sections["folders"] = _folders(output, report)
    report.sections["variables"] = _variables()
    return report


def _system() -> dict[str, str]:
    return {
        "anomaly-core": metadata.version(CORE),
        "python": f"{platform.python_version()} ({platform.python_implementation()}, {_brief(sys.executable)})",
        "system": platform.platform(),
        "machine": platform.machine(),
    }


def _libraries(report: Report) -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
            if name in REQUIRED:
                report.problems.append(f"{name} is not installed, and anomaly-core needs it: `pip install {name}`.")
    return found


def _extra(module: str, distributions: tuple[str, ...]) -> str:
    if find_spec(module) is None:
        return "not installed"
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "installed, version unknown"


def _plugins(report: Report) -> dict[str, str]:
    """A line a distribution; each of its components is imported in turn."""
    owners: dict[str, list[str]] = {}
    for component in registry.components():
        said = owners.setdefault(component.owner, [])
        label = f"{component.kind} {component.name}"
        if component.status == "blocked":
            said.append(f"{label}: {component.reason}")
            continue
        failure = component.check()
        if failure:
            status = "incompatible" if component.status == "incompatible" else "broken"
            said.append(f"{label}: {status}")
            known = component.status in ("incompatible", "broken")  # by metadata; else the message names all of it itself
            report.problems.append(_brief(f"{component.owner}: {label} is {status}: {failure}" if known else failure))
        elif component.status == "conflict":
            said.append(f"{label}: {component.reason}")
            report.problems.append(f"{component.owner}: {label} is in conflict: {component.reason}")
    for name in sorted(registry.blocked):
        report.notes.append(f"--no-plugin {name} was given: what it leaves out was not examined.")
    return {owner: "; ".join(said) or "ok" for owner, said in owners.items()}


def _devices(report: Report) -> dict[str, str]:
    found = {"cpu": f"{os.cpu_count()} cores, {cores()} usable"}
    if memory := _memory():
        found["memory"] = _gib(memory)
    try:
        torch = importlib.import_module("torch")
    except Exception as error:  # a torch that cannot be loaded is just what a report is for
        report.problems.append(f"torch cannot be imported: {type(error).__name__}: {_brief(error)}. Install it again.")
        return found
    found["cpu"] += f", {torch.get_num_threads()} threads of torch"
    found["torch"] = f"built for {'CUDA ' + torch.version.cuda if torch.version.cuda else 'the CPU'}"
    try:
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            free, total = torch.cuda.mem_get_info(index)
            found[f"cuda:{index}"] = f"{torch.cuda.get_device_name(index)}, {_gib(total)}, {_gib(free)} free"
    except RuntimeError as error:
        report.problems.append(f"the GPU cannot be used: {_brief(error)}. Use --device cpu, or mend the driver.")
    if torch.backends.mps.is_available():
        found["mps"] = "available"
    return found


def _backbones(report: Report) -> dict[str, str]:
    try:
        from anomaly_core.backbones import Backbones
        from anomaly_core.weights import needed

        needs = needed(Backbones())
    except Exception as error:  # torch, timm and torchvision may fail in any way where their builds do not match
        said = f"{type(error).__name__}: {_brief(error)}"
        report.problems.append(f"the backbones cannot be listed: {said}. Do torch and torchvision come from one place?")
        return {}
    for need in needs:
        if need.problem:
            report.problems.append(f"backbone {need.name}: {_brief(need.problem)}")
    absent = [need.name for need in needs if need.file is None and not need.problem]
    if absent:
        report.notes.append(
            f"no weights of {', '.join(absent)}: presets that need them need internet or `anomaly backbones fetch`."
        )
    return {need.name: f"{need.file.place}, {_brief(need.file.path)}" if need.file else "not found" for need in needs}


def _folders(output: Path, report: Report) -> dict[str, str]:
    cache = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub"
    found = {}
    for label, path in (("output", output), ("temporary", Path(tempfile.gettempdir())), ("hub cache", Path(cache))):
        path = path.expanduser().absolute()
        nearest = next(folder for folder in (path, *path.parents) if folder.exists())
        refused = _refused(nearest)
        free = shutil.disk_usage(nearest).free
        found[label] = f"{_brief(path)}, {f'cannot be written: {refused}' if refused else 'writable'}, {_gib(free)} free"
        if label == "hub cache":
            continue  # needed for downloads alone
        if refused:
            report.problems.append(f"the {label} folder {_brief(path)} cannot be written: {refused}. Choose another.")
        elif free < LITTLE:
            report.notes.append(f"the {label} folder {_brief(path)} has only {_gib(free)} free.")
    return found


def _refused(folder: Path) -> str:
    """Why no file can be made there, or nothing; tried, for permissions do not tell of a read-only file system."""
    if not folder.is_dir():
        return f"{_brief(folder)} is a file"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__


def _variables() -> dict[str, str]:
    """Those of this project and those that steer torch and the hub; never a secret's value."""
    chosen = {name for name in os.environ if name.startswith("ANOMALY_")} | {name for name in VARIABLES if name in os.environ}
    return {name: "(set, not shown)" if SECRET.search(name) else _brief(os.environ[name]) for name in sorted(chosen)}


def _brief(text: object) -> str:
    """Text for a report that is published: one line, the home folder as ``~``, no user or password in an address."""
    line = " ".join(str(text).split())
    line = re.sub(r"\w+://\S+", lambda found: _public(found[0]), line)
    home = str(Path.home())
    return line if len(home) < 2 else re.sub(re.escape(home) + r"(?=$|[/\\\s'\",.;:)])", "~", line)


def _public(address: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _memory() -> int | None:
    """Bytes of the machine's memory, where the system tells it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
