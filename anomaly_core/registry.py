"""Entry points -> named components, without importing them; who provides what, and why something is not usable."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from packaging.requirements import InvalidRequirement, Requirement

from anomaly_core.errors import PluginError
from anomaly_core.specs import KINDS, ComponentSpec

CORE = "anomaly-core"
GROUPS = {f"anomaly_core.{kind}s": kind for kind in KINDS}
CONFIG_BASES = {"model": "ModelConfig", "dataset": "DataConfig", "trainer": "TrainConfig"}

# What to install for a name that is not there: facts for an error message, never for a look-up.
KNOWN_DISTRIBUTIONS = {
    **dict.fromkeys([("model", "patchcore"), ("model", "padim")], "anomaly-patchcore"),
    ("model", "stfpm"): "anomaly-stfpm",
    ("model", "fastflow"): "anomaly-flow",
    ("model", "draem"): "anomaly-draem",
    **dict.fromkeys([("model", n) for n in ("vanilla_ae", "unet_ae", "vanilla_vae", "unet_vae")], "anomaly-autoencoder"),
    **dict.fromkeys([("metric", n) for n in ("psnr", "ssim", "lpips")], "anomaly-autoencoder"),
    **dict.fromkeys([("dataset", n) for n in ("mvtec", "visa", "btad", "elpv", "folder", "sample")], "anomaly-datasets"),
    ("command", "data"): "anomaly-datasets",
    ("command", "report"): "anomaly-report",
    ("command", "export"): "anomaly-export",
    ("backbone", "tf_efficientnet_lite0"): "anomaly-backbones",
}


def normalise(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclasses.dataclass
class Component:
    """One named thing that a distribution provides; nothing of it is imported until it is used.

    Attributes:
        status: ``ok``, ``blocked``, ``incompatible``, ``conflict`` or ``broken``; ``reason`` says why.
        location: the folder that the distribution lies in; for an editable install, its source.
    """

    kind: str
    name: str
    distribution: str
    version: str
    location: str
    value: str
    status: str = "ok"
    reason: str = ""
    added: ComponentSpec | None = None

    @property
    def qualified(self) -> str:
        """``distribution:name``, which always works."""
        return f"{self.distribution}:{self.name}"

    @cached_property
    def spec(self) -> Any:
        """The component's spec; imports the plugin's own module."""
        if self.added is not None:
            return self.added
        spec = self._import(self.value)
        if not isinstance(spec, KINDS[self.kind]):
            raise self._error(f"{self.value} is a {type(spec).__name__}, and the group asks for a {KINDS[self.kind].__name__}")
        return spec

    def load(self) -> Any:
        """The class or function that the spec names."""
        return self._import(self.spec.target)

    def config_class(self) -> type[Any]:
        """The config dataclass that the spec names."""
        from anomaly_core import options

        base = getattr(options, CONFIG_BASES[self.kind])
        found = self._import(self.spec.config)
        if not (isinstance(found, type) and dataclasses.is_dataclass(found) and issubclass(found, base)):
            raise self._error(f"{self.spec.config} is not a dataclass that extends anomaly_core.{base.__name__}")
        return found

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """An instance: ``load()(*args, **kwargs)``."""
        return self.load()(*args, **kwargs)

    def check(self) -> str:
        """Import everything that the component names; the reason why it cannot be used, or nothing."""
        if self.status not in ("ok", "conflict"):
            return self.reason
        try:
            self.load()
            if self.kind in CONFIG_BASES:
                self.config_class()
        except PluginError as error:
            return str(error)
        return ""

    def _import(self, address: str) -> Any:
        module, _, attribute = address.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except Exception as error:  # a plugin may fail in any way; the message says which
            raise self._error(f"{address}: {type(error).__name__}: {error}") from error
        return found

    def _error(self, cause: str) -> PluginError:
        return PluginError(
            f"the {self.kind} {self.name!r} of {self.distribution} {self.version} ({self.location}) is broken: {cause}. "
            f"Update or reinstall {self.distribution}, or leave it out with --no-plugin {self.distribution}."
        )


class Group(Mapping[str, Component]):
    """The components of one kind by name; a read-only view whose names are those that can be used."""

    def __init__(self, registry: Registry, kind: str) -> None:
        self._registry = registry
        self._kind = kind

    def __getitem__(self, name: str) -> Component:
        everything = [c for c in self._registry.components() if c.kind == self._kind]
        found = [c for c in everything if name in (c.name, c.qualified)]
        if len(found) > 1:  # one that was added, or the only one that is not blocked, speaks for the name
            found = [c for c in found if c.added] or [c for c in found if c.status != "blocked"] or found
        if not found:
            raise self._missing(name)
        if len(found) > 1:
            owners = " and ".join(f"{c.distribution} {c.version}" for c in found)
            raise PluginError(
                f"the {self._kind} {name!r} is provided by {owners}. "
                f"Say which: {' or '.join(c.qualified for c in found)}, or leave one out with --no-plugin."
            )
        component = found[0]
        if component.status == "blocked":
            raise PluginError(f"the {self._kind} {name!r} of {component.distribution} is {component.reason}. Lift that to use it.")
        if component.status in ("broken", "incompatible"):
            raise component._error(component.reason)
        return component

    def __iter__(self) -> Iterator[str]:
        usable = [c for c in self._registry.components() if c.kind == self._kind and c.status in ("ok", "conflict")]
        return iter([c.qualified if c.status == "conflict" else c.name for c in usable])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in list(self)

    def _missing(self, name: str) -> PluginError:
        names = list(self)
        distribution = KNOWN_DISTRIBUTIONS.get((self._kind, name))
        close = difflib.get_close_matches(name, names, n=1)
        if distribution:
            hint = f"It comes with {distribution}: install that with `pip install {distribution}`."
        else:
            hint = f"Did you mean {close[0]!r}?" if close else "`anomaly list-plugins` shows what is installed."
        return PluginError(f"no {self._kind} is called {name!r}. {hint} Installed: {', '.join(names) or 'none'}.")


class Registry:
    """Everything that the installed distributions provide, found by entry point."""

    def __init__(self) -> None:
        self._cache: list[Component] | None = None
        self._added: dict[tuple[str, str], Component] = {}
        self._blocked: set[str] = set()
        self.models = Group(self, "model")
        self.datasets = Group(self, "dataset")
        self.trainers = Group(self, "trainer")
        self.metrics = Group(self, "metric")
        self.backbones = Group(self, "backbone")
        self.commands = Group(self, "command")
        self.hooks = Group(self, "hook")

    def components(self) -> list[Component]:
        """All components, usable or not, from metadata alone: no plugin is imported."""
        if self._cache is None:
            self._cache = self._discover()
        hidden = {key for key, added in self._added.items()}
        return [c for c in self._cache if (c.kind, c.name) not in hidden] + list(self._added.values())

    def add(self, name: str, spec: ComponentSpec) -> Component:
        """Register a component by hand, for notebooks and tests; it hides installed ones of that kind and name."""
        component = Component(spec.kind, name, "(added)", "", "this process", spec.target, added=spec)
        self._added[spec.kind, name] = component
        return component

    def remove(self, name: str, kind: str) -> None:
        """Forget what :meth:`add` registered."""
        self._added.pop((kind, name), None)

    def block(self, *names: str) -> None:
        """Leave out distributions or components by name, as ``--no-plugin`` does."""
        self._blocked |= {_canonical(name) for name in names}
        self._cache = None

    def refresh(self) -> None:
        """Read the environment and ``sys.path`` again."""
        self._cache = None

    def _discover(self) -> list[Component]:
        found: list[Component] = []
        seen: set[str] = set()
        for distribution in metadata.distributions():
            name = distribution.metadata["Name"] if (points := _entry_points(distribution)) else ""
            if not name or normalise(name) in seen:
                continue
            seen.add(normalise(name))
            version, location = distribution.version, _location(distribution)
            unfit = _unfit(distribution)
            for kind, point in points:
                component = Component(kind, point.name, name, version, location, point.value)
                if reason := self._block_reason(component):
                    component.status, component.reason = "blocked", reason
                elif unfit:
                    component.status, component.reason = "incompatible", unfit
                elif not re.fullmatch(r"[\w.]+:[\w.]+", point.value):
                    component.status = "broken"
                    component.reason = f"its entry point {point.value!r} is not of the form package.module:attribute"
                found.append(component)
        self._mark_conflicts(found)
        order = list(KINDS)
        return sorted(found, key=lambda c: (order.index(c.kind), c.name, c.distribution))

    @staticmethod
    def _mark_conflicts(found: list[Component]) -> None:
        owners: dict[tuple[str, str], list[Component]] = {}
        for component in found:
            if component.status != "blocked":
                owners.setdefault((component.kind, component.name), []).append(component)
        for several in owners.values():
            for component in several if len(several) > 1 else ():
                if component.status == "ok":
                    others = ", ".join(f"{c.distribution} {c.version}" for c in several if c is not component)
                    component.status, component.reason = "conflict", f"also provided by {others}; use {component.qualified}"

    def _block_reason(self, component: Component) -> str:
        if normalise(component.distribution) == CORE:
            return ""
        names = {_canonical(name) for name in (component.distribution, component.name, component.qualified)}
        allowed = _listed("ANOMALY_PLUGINS")
        if names & self._blocked:
            return "blocked by --no-plugin"
        if names & (_listed("ANOMALY_BLOCK") or set()):
            return "blocked by ANOMALY_BLOCK"
        return "blocked: it is not among ANOMALY_PLUGINS" if allowed is not None and not names & allowed else ""


def _canonical(name: str) -> str:
    distribution, colon, leaf = name.strip().partition(":")
    return normalise(distribution) + colon + normalise(leaf)


def _listed(variable: str) -> set[str] | None:
    text = os.environ.get(variable, "").strip()
    return {_canonical(name) for name in text.split(",") if name.strip()} if text else None


def _entry_points(distribution: metadata.Distribution) -> list[tuple[str, metadata.EntryPoint]]:
    text = distribution.read_text("entry_points.txt")
    if not text or "anomaly_core." not in text:
        return []
    return [(GROUPS[point.group], point) for point in distribution.entry_points if point.group in GROUPS]


def _location(distribution: metadata.Distribution) -> str:
    try:
        direct = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        direct = {}
    if direct.get("dir_info", {}).get("editable"):
        return unquote(urlparse(direct["url"]).path)
    return str(Path(str(distribution.locate_file(""))).resolve())


def _unfit(distribution: metadata.Distribution) -> str:
    """Why the running core is not the one that the distribution was made for, or nothing."""
    for text in distribution.requires or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if normalise(requirement.name) == CORE and (requirement.marker is None or requirement.marker.evaluate()):
            running = metadata.version(CORE)
            if not requirement.specifier.contains(running, prereleases=True):
                return f"it requires {CORE}{requirement.specifier}, and {CORE} {running} is running"
    return ""


registry = Registry()
