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
ADDRESS = r"\w+(\.\w+)*:\w+(\.\w+)*"  # package.module:attribute
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
    ("command", "new-plugin"): "anomaly-scaffold",
    ("hook", "tensorboard"): "anomaly-tensorboard",
    ("backbone", "tf_efficientnet_lite0"): "anomaly-backbones",
    **dict.fromkeys([("engine", n) for n in ("onnx", "openvino", "torchscript")], "anomaly-export"),
}


def normalise(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclasses.dataclass(eq=False)
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

    @property
    def owner(self) -> str:
        """The distribution and its version, for messages."""
        return f"{self.distribution} {self.version}".rstrip()

    def answers_to(self, name: str) -> bool:
        """Whether ``name`` is the bare or the qualified name; distributions compare as PEP 503 does."""
        distribution, _, leaf = name.rpartition(":")
        return leaf == self.name and (not distribution or normalise(distribution) == normalise(self.distribution))

    def require_usable(self) -> None:
        """Raise where metadata alone says that the component cannot be used.

        Raises:
            PluginError: it is blocked, incompatible or broken; the message says by what and the next step.
        """
        if self.status == "blocked":
            raise PluginError(f"the {self.kind} {self.name!r} of {self.owner} is {self.reason}. Lift that to use it.")
        if self.status in ("broken", "incompatible"):
            raise self._error(self.reason)

    @cached_property
    def spec(self) -> Any:
        """The component's spec; imports the plugin's own module.

        Raises:
            PluginError: the component cannot be used, its module fails to import, or it is no spec of its kind.
        """
        if self.added is not None:
            return self.added
        self.require_usable()
        spec = self._import(self.value)
        if not isinstance(spec, KINDS[self.kind]):
            raise self._error(f"{self.value} is a {type(spec).__name__}, and the group asks for a {KINDS[self.kind].__name__}")
        return spec

    def load(self) -> Any:
        """The class or function that the spec names.

        Raises:
            PluginError: it cannot be imported; the cause is chained.
        """
        return self._import(self.spec.target)

    def reader(self) -> Any:
        """The function that opens files of an engine.

        Raises:
            PluginError: it cannot be imported, or the component opens none.
        """
        if not getattr(self.spec, "reader", ""):
            raise PluginError(f"the {self.kind} {self.name!r} opens no file.")
        return self._import(self.spec.reader)

    def config_class(self) -> type[Any]:
        """The config dataclass that the spec of a model, data set or trainer names.

        Raises:
            PluginError: it cannot be imported, or does not extend the base of its kind.
        """
        from anomaly_core import options

        if self.kind not in CONFIG_BASES:
            raise PluginError(f"the {self.kind} {self.name!r} has no config; only a {', '.join(CONFIG_BASES)} has one.")
        base = getattr(options, CONFIG_BASES[self.kind])
        found = self._import(self.spec.config)
        if not (isinstance(found, type) and dataclasses.is_dataclass(found) and issubclass(found, base)):
            raise self._error(f"{self.spec.config} is not a dataclass that extends anomaly_core.{base.__name__}")
        return found

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """An instance: ``load()(*args, **kwargs)``."""
        return self.load()(*args, **kwargs)

    def check(self) -> str | None:
        """Import everything that the component names; the reason why it cannot be used, or None."""
        if self.status not in ("ok", "conflict"):
            return self.reason
        try:
            self.load()
            if self.kind in CONFIG_BASES:
                self.config_class()
        except PluginError as error:
            return str(error)
        return None

    def _import(self, address: str) -> Any:
        if not re.fullmatch(ADDRESS, str(address)):
            raise self._error(f"the address {address!r} is not of the form package.module:attribute")
        module, _, attribute = address.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (Exception, SystemExit) as error:  # a plugin may fail in any way; the message says which
            raise self._error(f"{address}: {type(error).__name__}: {error}") from error
        return found

    def _error(self, cause: str) -> PluginError:
        if self.added is not None:
            return PluginError(
                f"the {self.kind} {self.name!r}, added by hand, is broken: {cause}. "
                f"Correct the spec and add it again, or take it away with registry.remove({self.name!r}, {self.kind!r})."
            )
        return PluginError(
            f"the {self.kind} {self.name!r} of {self.owner} ({self.location}) is broken: {cause}. "
            f"Update or reinstall {self.distribution}, or leave it out with --no-plugin {self.distribution}."
        )


class Group(Mapping[str, Component]):
    """The components of one kind by name; a read-only view whose names are those that can be used."""

    def __init__(self, registry: Registry, kind: str) -> None:
        self._registry = registry
        self._kind = kind

    def __getitem__(self, name: str) -> Component:
        everything = self._components()
        if not (found := [c for c in everything if c.answers_to(name)]):
            raise self._missing(name)
        # One that was added speaks for the bare name; one that is blocked leaves it to the others.
        found = [c for c in found if c.added] or [c for c in found if c.status != "blocked"] or found[:1]
        if len(found) > 1:
            raise PluginError(
                f"the {self._kind} {name!r} is provided by {' and by '.join(c.owner for c in found)}. "
                f"Say which: {' or '.join(c.qualified for c in found)}; or leave one out with --no-plugin."
            )
        found[0].require_usable()
        return found[0]

    def __iter__(self) -> Iterator[str]:
        everything = self._components()
        added = {c.name for c in everything if c.added}
        for c in everything:
            if c.status in ("ok", "conflict"):
                shared = c.status == "conflict" or (c.name in added and not c.added)
                yield c.qualified if shared else c.name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and bool(self[name])
        except PluginError:
            return False

    def get(self, name: str, default: Any = None) -> Any:
        """The component, or ``default`` where the name cannot be used."""
        if name not in self:
            return default
        return self[name]

    def _components(self) -> list[Component]:
        return [c for c in self._registry.components() if c.kind == self._kind]

    def _missing(self, name: str) -> PluginError:
        names = list(self)
        distribution = KNOWN_DISTRIBUTIONS.get((self._kind, name.rpartition(":")[2]))
        installed = {normalise(c.distribution): c.owner for c in self._registry.components()}
        if distribution in installed:
            hint = f"It comes with another version of {distribution} than {installed[distribution]}: "
            hint += f"`pip install --upgrade {distribution}`."
        elif distribution:
            hint = f"It comes with {distribution}, which is not installed: `pip install {distribution}`."
        elif close := difflib.get_close_matches(name, names):
            hint = f"Did you mean {' or '.join(map(repr, close))}?"
        else:
            hint = "`anomaly list-plugins` shows what is installed."
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
        self.engines = Group(self, "engine")

    def group(self, kind: str) -> Group:
        """The components of a kind: ``group("model")`` is ``models``."""
        if kind not in KINDS:
            raise PluginError(f"no kind of component is called {kind!r}. Kinds: {', '.join(KINDS)}.")
        return Group(self, kind)

    def components(self) -> list[Component]:
        """All components, usable or not, from metadata alone: no plugin is imported."""
        if self._cache is None:
            self._cache = self._discover()
        return [*self._cache, *self._added.values()]

    def add(self, name: str, spec: ComponentSpec) -> Component:
        """Register a component by hand, for notebooks and tests; its bare name then means this one.

        Raises:
            PluginError: ``spec`` is not one of :mod:`anomaly_core.specs`.
        """
        if type(spec) not in KINDS.values():
            kinds = ", ".join(found.__name__ for found in KINDS.values())
            raise PluginError(f"{name!r} was added with a {type(spec).__name__}; expected one of {kinds}.")
        component = Component(spec.kind, name, "(added)", "", "this process", spec.target, added=spec)
        self._added[spec.kind, name] = component
        return component

    def remove(self, name: str, kind: str) -> None:
        """Forget what :meth:`add` registered."""
        self._added.pop((kind, name), None)

    def block(self, *names: str) -> None:
        """Leave out distributions or components by name, as ``--no-plugin`` does; the core itself stays."""
        self._blocked |= {_canonical(name) for name in names}
        self._cache = None

    @property
    def blocked(self) -> frozenset[str]:
        """The names given to :meth:`block`."""
        return frozenset(self._blocked)

    def refresh(self) -> None:
        """Read the environment and ``sys.path`` again."""
        importlib.invalidate_caches()
        self._cache = None

    def _discover(self) -> list[Component]:
        found: list[Component] = []
        seen: set[str] = set()
        for distribution in metadata.distributions():
            name = _name(distribution)
            if normalise(name) in seen:  # the first on sys.path is the one that Python imports
                continue
            seen.add(normalise(name))
            if not (points := _entry_points(distribution)):
                continue
            version, location = distribution.metadata["Version"] or "unknown", _location(distribution)
            unfit = _unfit(distribution)
            for (kind, leaf), value in points.items():
                component = Component(kind, leaf, name, version, location, value)
                if reason := self._block_reason(component):
                    component.status, component.reason = "blocked", reason
                elif unfit:
                    component.status, component.reason = "incompatible", unfit
                elif not re.fullmatch(ADDRESS, value):
                    component.status = "broken"
                    component.reason = f"its entry point {value!r} is not of the form package.module:attribute"
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
                    others = ", ".join(c.owner for c in several if c is not component)
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


def _name(distribution: metadata.Distribution) -> str:
    """The distribution's name without parsing all of its metadata, which would take longer than the rest of the search."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    found = re.search(r"^Name:[ \t]*(\S+)", text, re.MULTILINE)
    return found[1] if found else f"unnamed ({distribution.locate_file('')})"


def _entry_points(distribution: metadata.Distribution) -> dict[tuple[str, str], str]:
    """Kind and name -> value. A line that is no assignment has an empty value: the standard library would fail on it."""
    points = {}
    kind = None
    for line in map(str.strip, (distribution.read_text("entry_points.txt") or "").splitlines()):
        if line.startswith("["):
            kind = GROUPS.get(line.strip("[] "))
        elif kind and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            points[kind, name.strip()] = value.partition("[")[0].strip()
    return points


def _location(distribution: metadata.Distribution) -> str:
    """The source of an editable install, as ``direct_url.json`` (PEP 610) names it; else the folder that it is installed in."""
    try:
        direct = json.loads(distribution.read_text("direct_url.json") or "{}")
        editable = direct["url"] if direct.get("dir_info", {}).get("editable") else ""
    except (ValueError, KeyError, AttributeError):  # written by an installer, not by the plugin: no reason to refuse it
        editable = ""
    if editable:
        path = unquote(urlparse(editable).path)
        return path[1:] if re.match(r"/[A-Za-z]:", path) else path  # file:///C:/source is C:/source
    return str(Path(str(distribution.locate_file(""))).resolve())


def _unfit(distribution: metadata.Distribution) -> str:
    """Why the running core is not the one that the distribution was made for, or nothing."""
    for text in distribution.requires or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            if normalise(text).startswith(CORE):
                return f"its requirement {text!r} cannot be read: {error}"
            continue  # another package's: pip's affair
        if normalise(requirement.name) == CORE and (requirement.marker is None or requirement.marker.evaluate()):
            running = metadata.version(CORE)
            if not requirement.specifier.contains(running, prereleases=True):
                return f"it requires {CORE}{requirement.specifier}, and {CORE} {running} is running"
    return ""


registry = Registry()
