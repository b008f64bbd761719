"""The pretrained weights that installed methods need: listing, locating, fetching and verifying them."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import save_file

from anomaly_core import (
    AnomalyError,
    Component,
    ConfigError,
    MissingLibrary,
    open_untrusted,
    preset_layer,
    preset_names,
    registry,
    validate,
)
from anomaly_features.backbones import SUFFIXES, WELL_KNOWN_FILES, Backbones, WeightsFile, full_name, read_tensors
from anomaly_features.errors import BackboneError
from anomaly_features.timm_import import timm

# Published files end in the first digits of their own SHA-256: resnet18-f37072fd.pth.
DIGITS = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|safetensors)$")


@dataclass
class Need:
    """A backbone that presets of installed methods need.

    Attributes:
        name: timm's name, with its tag.
        presets: ``method/preset`` of each preset that needs it.
        file: the weights file, or None.
        problem: why the weights cannot be located, or empty.
    """

    name: str
    presets: list[str] = field(default_factory=list)
    file: WeightsFile | None = None
    problem: str = ""


@dataclass(frozen=True)
class Verdict:
    """The result of checking a weights file; ``problem`` is empty if it is complete and fits its model.

    Of a file that timm knows no model for, ``name`` is empty, and it has only been read: methods read files of their own.
    """

    path: Path
    name: str
    size: int
    sha256: str
    problem: str = ""


def needed(backbones: Backbones) -> list[Need]:
    """The backbones of all presets of the installed methods; missing ones come last."""
    needs: dict[str, Need] = {}
    for method in registry.models:
        for preset, name in _asked(registry.models[method]):
            try:
                full = full_name(name)
            except ConfigError:  # a method may have a backbone that is not from timm
                full = name
            needs.setdefault(full, Need(full)).presets.append(f"{method}/{preset}")
    for need in needs.values():
        try:
            need.file = backbones.find(need.name)
        except AnomalyError as error:
            need.problem = str(error)
    return sorted(needs.values(), key=lambda need: (need.file is None, need.name))


def fetch(name: str, folder: Path) -> WeightsFile:
    """Download a backbone through timm into a folder, as ``<model>.<tag>.safetensors``; an existing file is kept.

    Raises:
        ConfigError: timm has no such model.
        BackboneError: it cannot be downloaded or written, or an existing file does not fit.
    """
    full = full_name(name)
    target = Backbones(folder)
    file = target.find(full)
    if file is not None and file.place == "folder":
        file.load(full)
        return file
    if timm.get_pretrained_cfg(full) is None:
        raise BackboneError(f"timm has no weights of {full!r} to fetch. `timm.list_pretrained()` lists those that it has.")
    try:
        state = timm.create_model(full, pretrained=True).state_dict()
    except Exception as error:  # whatever fails (network, proxy, hub, cache), say what to copy instead
        reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0].rstrip(".")
        offline = " HF_HUB_OFFLINE is set." if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "false") else ""
        raise BackboneError(
            f"{full!r} cannot be downloaded: {reason}.{offline} Run the same command on a machine with internet, and carry "
            f"the file {full}.safetensors into the folder {str(target.folder.absolute())!r}."
        ) from error
    path = target.folder / f"{full}.safetensors"
    beside = path.with_name(f".{path.name}.part")
    try:
        target.folder.mkdir(parents=True, exist_ok=True)
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, beside)
        beside.replace(path)
    except OSError as error:
        raise BackboneError(f"cannot write {str(path)!r}: {error}. Choose another folder with --to DIR.") from error
    return WeightsFile(path, "folder")


def verify(folder: Path) -> list[Verdict]:
    """Check each weights file of a folder against its model and against the digits in its name.

    Raises:
        BackboneError: the folder does not exist.
    """
    if not folder.is_dir():
        raise BackboneError(
            f"there is no backbone folder {str(folder.absolute())!r}. Name it, or make one with `anomaly backbones fetch`."
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and not path.name.startswith("."))
    return [_verdict(WeightsFile(path, "folder")) for path in paths]


def verify_carried() -> list[Verdict]:
    """The same for the files in installed distributions."""
    verdicts = []
    for name in registry.backbones:
        component = registry.backbones[name]
        try:
            file = WeightsFile.carried(component)
        except MissingLibrary:  # of an extra that nobody asked for
            continue
        except AnomalyError as error:
            verdicts.append(Verdict(Path(component.location), name, 0, "", str(error)))
        else:
            verdicts.append(_verdict(file, component.name))
    return verdicts


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open_untrusted(path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _asked(component: Component) -> list[tuple[str, str]]:
    """(preset, backbone) pairs of a method; empty if it has no option ``model.backbone``."""
    config = component.config_class()
    asked = []
    for preset in preset_names(component):
        section = validate(config, preset_layer(component, preset).get("model", {}), "model")
        if isinstance(name := getattr(section, "backbone", None), str) and name:
            asked.append((preset, name))
    return asked


def _verdict(file: WeightsFile, name: str = "") -> Verdict:
    path = file.path
    try:
        size, digest = path.stat().st_size, sha256(path)
    except OSError as error:
        return Verdict(path, name, 0, "", f"cannot be read: {error}")
    published = {known: model for model, known in WELL_KNOWN_FILES.items()}
    try:
        full = full_name(name or published.get(path.name, path.stem))
    except ConfigError as error:
        if name:  # of a distribution, which says that it is a backbone
            return Verdict(path, name, size, digest, str(error))
        full = ""  # a method's own weights, which are only read
    digits = DIGITS.search(path.name)
    if digits and not digest.startswith(digits[1]):
        problem = (
            f"its SHA-256 does not begin with {digits[1]}, as its name promises: it was changed or cut short; copy it again"
        )
        return Verdict(path, full, size, digest, problem)
    try:
        file.load(full) if full else read_tensors(path)
    except BackboneError as error:
        return Verdict(path, full, size, digest, str(error) if full else f"timm has no model of this name, and {error}")
    return Verdict(path, full, size, digest)
