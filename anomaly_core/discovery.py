"""Registry: every component that is installed, by kind and name, found by entry point out of metadata alone."""

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

    def get(self, name: str, default: Any = None) -> Any:
        """The component, or ``default`` where the name cannot be used."""
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
    """Everything that the installed distributions provide, found by entry point."""

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
        """Register a component by hand, for notebooks and tests; its bare name then means this one."""
        if type(spec) not in KINDS.values():
            kinds = ", ".join(kind.__name__ for kind in KINDS.values())
            raise PluginError(f"{name!r} was added with a {type(spec).__name__}; expected one of {kinds}.")
        component = Component(spec.kind, name, "(added)", "", "this process", spec.target, added=spec)
        self._added[spec.kind, name] = component
        return component

    def remove(self, name: str, kind: str) -> None:
        """Forget what :meth:`add` registered."""
        self._added.pop((kind, name), None)

    def block(self, *names: str) -> None:
        """Leave out distributions or components by name, as ``--no-plugin`` does; the core itself stays."""
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
    """What is installed, in the order of kinds and names; those that share a name are marked."""
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
    """(kind, name) -> the distribution to install for it, of our own: for messages, never for a look-up."""
    import yaml

    known = yaml.safe_load(resources.files("anomaly_core").joinpath("known_distributions.yaml").read_text(encoding="utf-8"))
    return {(kind, name): owner for owner, kinds in known.items() for kind, names in kinds.items() for name in names}


def discover(blocked: set[str]) -> Iterator[Component]:
    """Every entry point of the core's groups; ``blocked`` are canonical names of what is left out."""
    seen: set[str] = set()
    for distribution in metadata.distributions():
        name = _name(distribution)
        if normalise(name) in seen:  # the first on sys.path is the one that Python imports
            continue
        seen.add(normalise(name))
        points = _points(distribution)
        if not points:
            continue
        version, location = distribution.metadata["Version"] or "unknown", _location(distribution)
        unfit = _unfit(distribution)
        for point in points:
            value = re.sub(r"\s*\[.*\]$", "", point.value)  # extras, which an entry point may name
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
    """Those of the core's groups; none, and a warning, where the file that lists them is damaged."""
    try:
        return [point for point in distribution.entry_points if point.group in GROUPS]
    except TypeError:  # a line without "="
        if any(f"[{group}]" in (distribution.read_text("entry_points.txt") or "") for group in GROUPS):
            name = _name(distribution)
            log.warning("the entry points of %s (%s) cannot be read. Reinstall it.", name, _location(distribution))
        return []


def canonical(name: str) -> str:
    """``distribution``, ``component`` or ``distribution:component`` as names are compared."""
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
    """The distribution's name without parsing all of its metadata, which would take longer than the rest of the search."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    match = re.search(r"^Name:[ \t]*(\S+)", text, re.MULTILINE)
    return match[1] if match else f"unnamed ({distribution.locate_file('')})"


def _location(distribution: metadata.Distribution) -> str:
    """The source of an editable install, as ``direct_url.json`` (PEP 610) names it; else the folder that it is installed in."""
    # written by an installer, not by the plugin: no reason to refuse it
    with suppress(ValueError, LookupError, TypeError, AttributeError):
        direct = json.loads(distribution.read_text("direct_url.json") or "{}")
        if direct["dir_info"]["editable"]:
            from urllib.request import url2pathname  # takes as long as the rest of the search, and developers alone need it

            return url2pathname(urlparse(direct["url"]).path)
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
