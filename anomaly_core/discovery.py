"""Registry: every installed component, by kind and name, discovered through entry points from metadata alone."""

from __future__ import annotations

import difflib
import importlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata, resources
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from packaging.requirements import InvalidRequirement, Requirement

from anomaly_core.component import ADDRESS, CORE, Component, normalise
from anomaly_core.errors import PluginError
from anomaly_core.specs import KINDS, ComponentSpec

log = logging.getLogger(__name__)
GROUPS = {f"anomaly_core.{kind}s": kind for kind in KINDS}


class Group(Mapping[str, Component]):
    """The components of one kind by name; a read-only view that lists only usable names."""

    def __init__(self, registry: Registry, kind: str) -> None:
        self._registry = registry
        self._kind = kind

    def __getitem__(self, name: str) -> Component:
        everything = self._components()
        if not (matches := [c for c in everything if c.answers_to(name)]):
            raise self._missing(name)
        # A component added by hand takes the bare name; a blocked one leaves it to the others.
        matches = [c for c in matches if c.added] or [c for c in matches if c.status != "blocked"] or matches[:1]
        if len(matches) > 1:
            raise PluginError(
                f"the {self._kind} {name!r} is provided by {' and by '.join(c.owner for c in matches)}. "
                f"Say which: {' or '.join(c.qualified for c in matches)}; or leave one out with --no-plugin."
            )
        matches[0].require_usable()
        return matches[0]

    def __iter__(self) -> Iterator[str]:
        everything = self._components()
        added = {c.name for c in everything if c.added}
        for c in everything:
            if c.status in ("ok", "conflict"):
                shared = c.status == "conflict" or (c.name in added and not c.added)
                yield c.qualified if shared else c.name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def get(self, name: str, default: Any = None) -> Any:
        """The component, or ``default`` if the name cannot be used."""
        try:
            return self[name]
        except PluginError:
            return default

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def _components(self) -> list[Component]:
        return [c for c in self._registry.components() if c.kind == self._kind]

    def _missing(self, name: str) -> PluginError:
        names = list(self)
        distribution = known_distributions().get((self._kind, name.rpartition(":")[2]))
        installed = {normalise(c.distribution): c.owner for c in self._registry.components()}
        if distribution in installed:
            other = f"It comes with another version of {distribution} than {installed[distribution]}"
            hint = f"{other}: `pip install --upgrade {distribution}`."
        elif distribution:
            hint = f"It comes with {distribution}, which is not installed: `pip install {distribution}`."
        elif close := difflib.get_close_matches(name, names):
            hint = f"Did you mean {' or '.join(map(repr, close))}?"
        else:
            hint = "`anomaly list-plugins` shows what is installed."
        return PluginError(f"no {self._kind} is called {name!r}. {hint} Installed: {', '.join(names) or 'none'}.")


class Registry:
    """Everything that the installed distributions provide, discovered through entry points."""

    def __init__(self) -> None:
        self._cache: list[Component] | None = None
        self._added: dict[tuple[str, str], Component] = {}
        self._blocked: set[str] = set()
        self.models, self.datasets, self.trainers = (Group(self, kind) for kind in ("model", "dataset", "trainer"))
        self.metrics, self.backbones, self.engines = (Group(self, kind) for kind in ("metric", "backbone", "engine"))
        self.commands, self.hooks, self.executors = (Group(self, kind) for kind in ("command", "hook", "executor"))

    def group(self, kind: str) -> Group:
        """The components of a kind: ``group("model")`` is ``models``."""
        if kind not in KINDS:
            raise PluginError(f"no kind of component is called {kind!r}. Kinds: {', '.join(KINDS)}.")
        return Group(self, kind)

    def components(self) -> list[Component]:
        """All components, usable or not, from metadata alone: no plugin is imported."""
        if self._cache is None:
            self._cache = _components(self._blocked)
        return [*self._cache, *self._added.values()]

    def add(self, name: str, spec: ComponentSpec) -> Component:
        """Register a component by hand, for notebooks and tests; its bare name then refers to it."""
        if type(spec) not in KINDS.values():
            kinds = ", ".join(kind.__name__ for kind in KINDS.values())
            raise PluginError(f"{name!r} was added with a {type(spec).__name__}; expected one of {kinds}.")
        component = Component(spec.kind, name, "(added)", "", "this process", spec.target, added=spec)
        self._added[spec.kind, name] = component
        return component

    def remove(self, name: str, kind: str) -> None:
        """Remove a component that :meth:`add` registered."""
        self._added.pop((kind, name), None)

    def block(self, *names: str) -> None:
        """Exclude distributions or components by name, as ``--no-plugin`` does; the core itself cannot be excluded."""
        self._blocked |= {canonical(name) for name in names}
        self._cache = None

    @property
    def blocked(self) -> frozenset[str]:
        """The names given to :meth:`block`."""
        return frozenset(self._blocked)

    def refresh(self) -> None:
        """Read the environment and ``sys.path`` again."""
        importlib.invalidate_caches()
        self._cache = None


def _components(blocked: set[str]) -> list[Component]:
    """The installed components, sorted by kind and name; components with the same name are marked as conflicts."""
    components = list(discover(blocked))
    owners: dict[tuple[str, str], list[Component]] = {}
    for component in components:
        if component.status != "blocked":
            owners.setdefault((component.kind, component.name), []).append(component)
    for rivals in owners.values():
        for component in rivals if len(rivals) > 1 else ():
            if component.status == "ok":
                others = ", ".join(rival.owner for rival in rivals if rival is not component)
                component.status, component.reason = "conflict", f"also provided by {others}; use {component.qualified}"
    order = list(KINDS)
    return sorted(components, key=lambda c: (order.index(c.kind), c.name, c.distribution))


def known_distributions() -> dict[tuple[str, str], str]:
    """(kind, name) -> which of our distributions provides it; used in messages only, never for discovery."""
    import yaml

    known = yaml.safe_load(resources.files("anomaly_core").joinpath("known_distributions.yaml").read_text(encoding="utf-8"))
    return {(kind, name): owner for owner, kinds in known.items() for kind, names in kinds.items() for name in names}


def discover(blocked: set[str]) -> Iterator[Component]:
    """Every entry point in the core's groups; ``blocked`` holds the canonical names to exclude."""
    seen: set[str] = set()
    for distribution in metadata.distributions():
        name = _name(distribution)
        if normalise(name) in seen:  # Python imports the first one on sys.path
            continue
        seen.add(normalise(name))
        points = _points(distribution)
        if not points:
            continue
        version, location = distribution.metadata["Version"] or "unknown", _location(distribution)
        unfit = _unfit(distribution)
        for point in points:
            value = re.sub(r"\s*\[.*\]$", "", point.value)  # drop the extras, which an entry point may name
            component = Component(GROUPS[point.group], point.name, name, version, location, value)
            if reason := _block_reason(component, blocked):
                component.status, component.reason = "blocked", reason
            elif unfit:
                component.status, component.reason = "incompatible", unfit
            elif not re.fullmatch(ADDRESS, value):
                component.status = "broken"
                component.reason = f"its entry point {value!r} is not of the form package.module:attribute"
            yield component


def _points(distribution: metadata.Distribution) -> list[metadata.EntryPoint]:
    """The entry points in the core's groups; none, with a warning, if the file that lists them is damaged."""
    try:
        return [point for point in distribution.entry_points if point.group in GROUPS]
    except TypeError:  # a line without "="
        if any(f"[{group}]" in (distribution.read_text("entry_points.txt") or "") for group in GROUPS):
            name = _name(distribution)
            log.warning("the entry points of %s (%s) cannot be read. Reinstall it.", name, _location(distribution))
        return []


def canonical(name: str) -> str:
    """``distribution``, ``component`` or ``distribution:component``, normalised for comparison."""
    distribution, colon, leaf = name.strip().partition(":")
    return normalise(distribution) + colon + normalise(leaf)


def _block_reason(component: Component, blocked: set[str]) -> str:
    if normalise(component.distribution) == CORE:
        return ""
    names = {canonical(name) for name in (component.distribution, component.name, component.qualified)}
    allowed, forbidden = (
        {canonical(name) for name in os.environ.get(variable, "").split(",") if name.strip()}
        for variable in ("ANOMALY_PLUGINS", "ANOMALY_BLOCK")
    )
    if names & blocked:
        return "blocked by --no-plugin"
    if names & forbidden:
        return "blocked by ANOMALY_BLOCK"
    return "blocked: it is not among ANOMALY_PLUGINS" if allowed and not names & allowed else ""


def _name(distribution: metadata.Distribution) -> str:
    """The distribution's name. Parsing all of its metadata would take longer than the rest of discovery."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    match = re.search(r"^Name:[ \t]*(\S+)", text, re.MULTILINE)
    return match[1] if match else f"unnamed ({distribution.locate_file('')})"


def _location(distribution: metadata.Distribution) -> str:
    """The source of an editable install, as given in ``direct_url.json`` (PEP 610); else the folder of the installation."""
    # The installer writes this file, so an invalid one is no reason to reject the plugin.
    with suppress(ValueError, LookupError, TypeError, AttributeError):
        direct = json.loads(distribution.read_text("direct_url.json") or "{}")
        if direct["dir_info"]["editable"]:
            from urllib.request import url2pathname  # slow to import, and only needed for editable installs

            return url2pathname(urlparse(direct["url"]).path)
    return str(Path(str(distribution.locate_file(""))).resolve())


def _unfit(distribution: metadata.Distribution) -> str:
    """Why the distribution does not fit the running core; empty if it fits."""
    for text in distribution.requires or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            if normalise(text).startswith(CORE):
                return f"its requirement {text!r} cannot be read: {error}"
            continue  # a requirement on another package is pip's concern
        if normalise(requirement.name) == CORE and (requirement.marker is None or requirement.marker.evaluate()):
            running = metadata.version(CORE)
            if not requirement.specifier.contains(running, prereleases=True):
                return f"it requires {CORE}{requirement.specifier}, and {CORE} {running} is running"
    return ""


registry = Registry()
