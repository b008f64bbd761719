"""Backbones: the sources of pretrained weights, also on a machine without internet."""

from __future__ import annotations

import difflib
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from anomaly_core import Component, ConfigError, PluginError, expanded, open_untrusted, registry
from anomaly_features.errors import BackboneError
from anomaly_features.timm_import import outline, timm

# The well-known file names of these weights, as published.
WELL_KNOWN_FILES = {
    "resnet18.tv_in1k": "resnet18-f37072fd.pth",
    "resnet50.tv_in1k": "resnet50-0676ba61.pth",
    "wide_resnet50_2.tv_in1k": "wide_resnet50_2-95faca4d.pth",
    "efficientnet_b0.ra_in1k": "efficientnet_b0_ra-3dd342df.pth",
}
SUFFIXES = (".safetensors", ".pth")
# The files that timm requests from the hub, in its order.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class WeightsFile:
    """A file of pretrained weights on this machine.

    Attributes:
        place: ``folder``, ``hub cache``, or the distribution that contains it.
        by_position: its tensors are in timm's order but have other names.
        reader: reads a file that is neither ``.safetensors`` nor ``.pth``.
    """

    path: Path
    place: str
    by_position: bool = False
    reader: Callable[[Path], dict[str, Tensor]] | None = None

    @classmethod
    def carried(cls, component: Component) -> WeightsFile:
        """The file of an installed distribution; BackboneError where the distribution that holds it lacks it."""
        spec = component.spec
        reader = component.load("reader") if spec.reader else None
        return cls(Path(component.load()()), component.distribution, spec.by_position, reader)

    def load(self, full: str) -> dict[str, Tensor]:
        """Its tensors under timm's names; BackboneError if it cannot be read or does not fit the model ``full``."""
        where = str(self.path) if self.place in ("folder", "hub cache") else f"{self.path} of {self.place}"
        return fitted((self.reader or read_tensors)(self.path), full, where, self.by_position)


class Backbones:
    """The sources of pretrained weights: the backbone folder, installed distributions, then timm's hub cache or a download.

    Args:
        folder: the backbone folder; None means ``$ANOMALY_BACKBONES``, else ``backbones`` in the working directory.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = expanded(folder or os.environ.get("ANOMALY_BACKBONES") or "backbones")

    def load(self, name: str) -> dict[str, Tensor]:
        """The state dict of a timm model, on the CPU, under timm's names.

        A name without a tag means timm's default tag: ``resnet18`` is ``resnet18.a1_in1k``, which are not the weights of the
        papers, ``resnet18.tv_in1k``.

        Raises:
            ConfigError: timm has no such model.
            BackboneError: no source has the weights (the message names every source), or a file does not fit.
        """
        full = full_name(name)
        file, no_distribution = self._folder_or_distribution(full)
        if file is not None:
            return file.load(full)
        try:
            network = timm.create_model(full, pretrained=True)
        except Exception as error:  # whatever fails (network, cache, proxy, hub), the message names all three sources
            reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
            raise BackboneError(
                f"no weights of the backbone {name!r} were found. Looked for (1) {', '.join(self._candidates(full))} in the "
                f"backbone folder {str(self.folder.absolute())!r}; (2) an installed distribution: {no_distribution}; "
                f"(3) timm's hub cache and download: {reason}. Next step: put one of these files into the folder, or name "
                "another folder with $ANOMALY_BACKBONES (for a method's extractor also --set model.backbones=DIR), or install "
                f"a distribution that carries it, or run `anomaly backbones fetch {full}` once with internet."
            ) from error
        return dict(network.state_dict())

    def find(self, name: str) -> WeightsFile | None:
        """The file that :meth:`load` would read, without reading it; None if it would have to be downloaded.

        Raises:
            ConfigError: timm has no such model.
            BackboneError: two distributions provide it, or the file of the one that does is missing.
        """
        full = full_name(name)
        return self._folder_or_distribution(full)[0] or _cached(full)

    def _candidates(self, full: str) -> list[str]:
        """Possible file names of this model, the well-known one first; also without the tag if it is timm's default."""
        architecture = full.partition(".")[0]
        names = [full, architecture] if full_name(architecture) == full else [full]
        known = [WELL_KNOWN_FILES[full]] if full in WELL_KNOWN_FILES else []
        return known + [name + suffix for name in names for suffix in SUFFIXES]

    def _folder_or_distribution(self, full: str) -> tuple[WeightsFile | None, str]:
        """The file in the folder, else the file of an installed distribution; or None and the reason."""
        for name in self._candidates(full):
            if os.path.lexists(path := self.folder / name):  # what is no file is an error when it is read
                return WeightsFile(path, "folder"), ""
        carriers = [key for key in registry.backbones if _same_model(key.rpartition(":")[2], full)]
        if len(carriers) > 1:
            raise BackboneError(
                f"the backbone {full!r} is carried by {' and '.join(carriers)}. Leave one distribution out with --no-plugin."
            )
        if not carriers:
            try:
                registry.backbones[full.partition(".")[0]]
            except PluginError as error:
                return None, str(error).rstrip(".")
            return None, "none carries it"
        return WeightsFile.carried(registry.backbones[carriers[0]]), ""


def full_name(name: str) -> str:
    """A timm name with its tag: ``tf_efficientnet_lite0`` is ``tf_efficientnet_lite0.in1k``.

    Raises:
        ConfigError: timm has no such model, or no such weights for it, nor does an installed distribution carry them.
    """
    if "." in name and name in {key.rpartition(":")[2] for key in registry.backbones}:
        _add_tag(name)
    try:
        cfg = timm.get_pretrained_cfg(name)
    except RuntimeError:  # the model exists, the tag does not
        cfg = None
    if cfg is None and "." not in name and timm.is_model(name):  # a model without published weights
        return name
    if cfg is None:
        architecture = name.partition(".")[0]
        known = timm.list_pretrained(f"{architecture}.*") or timm.list_pretrained()
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
        raise ConfigError(
            f"timm {timm.__version__} has no pretrained model {name!r}. Did you mean {' or '.join(close) or 'another'}? "
            "`timm.list_pretrained()` lists all of them."
        )
    return f"{cfg.architecture}.{cfg.tag}" if cfg.tag else str(cfg.architecture)


def _add_tag(name: str) -> None:
    """Tell timm of weights that a distribution carries for one of its architectures, unless they are timm's own."""
    architecture, _, tag = name.partition(".")
    known: dict[str, Any] = timm.models._registry._model_pretrained_cfgs  # timm has no function that adds a tag
    if name not in known and (cfg := timm.is_model(architecture) and timm.get_pretrained_cfg(architecture)):
        known[name] = replace(cfg, tag=tag, url="", file=None, hf_hub_id=None)


def _cached(full: str) -> WeightsFile | None:
    """A file that timm has already downloaded, from its hub or from the file's URL."""
    cfg = timm.get_pretrained_cfg(full)
    if cfg is None:  # a model without published weights
        return None
    if cfg.hf_hub_id:
        repository, _, revision = cfg.hf_hub_id.partition("@")
        for name in (cfg.hf_hub_filename,) if cfg.hf_hub_filename else HUB_FILES:
            if isinstance(path := try_to_load_from_cache(repository, name, revision=revision or None), str):
                return WeightsFile(Path(path), "hub cache")
        return None
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(cfg.url or "").path).name
    return WeightsFile(path, "hub cache") if path.is_file() else None


def _same_model(name: str, full: str) -> bool:
    try:
        return full_name(name) == full
    except ConfigError:  # a backbone that is not from timm, or from another version of timm
        return False


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file; no code in it is executed. BackboneError if it cannot be read or holds no state dict."""
    try:
        open_untrusted(path).close()  # a pipe would block for ever
        loaded: Any = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (OSError, pickle.UnpicklingError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise BackboneError(
            f"the weights file {str(path)!r} cannot be read: {type(error).__name__}: {reason} "
            "Only tensors are loaded, never code. Download the file again, or convert it to .safetensors."
        ) from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise BackboneError(
            f"the weights file {str(path)!r} holds no state dict of tensors. Save `model.state_dict()` instead."
        )
    return dict(loaded)


def fitted(state: dict[str, Tensor], full: str, source: str, by_position: bool = False) -> dict[str, Tensor]:
    """The state under timm's names; BackboneError if tensors are missing or have the wrong shape."""
    expected = outline(full).state_dict()
    if by_position:
        if len(state) != len(expected):
            raise BackboneError(
                f"{source} has {len(state)} tensors, and timm's {full} has {len(expected)}. Update either of them."
            )
        state = dict(zip(expected, state.values(), strict=True))
    # older files lack the batch counters, which eval mode does not use
    counters = [key for key in expected if key.endswith("num_batches_tracked")]
    state = {**state, **{key: torch.tensor(0) for key in counters if key not in state}}
    head = timm.get_pretrained_cfg(full).classifier or ()
    heads = (head,) if isinstance(head, str) else tuple(head)
    for key, tensor in expected.items():
        if key.rpartition(".")[0] in heads:  # features do not need the classifier
            continue
        if key not in state or state[key].shape != tensor.shape:
            fault = "is missing" if key not in state else f"has shape {tuple(state[key].shape)}"
            raise BackboneError(
                f"{source} does not fit timm's {full}: {key!r} {fault}, expected {tuple(tensor.shape)}. "
                "Give a state dict of this very model, under timm's names."
            )
    return state
