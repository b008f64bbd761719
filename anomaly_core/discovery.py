"""Registry: every installed component, by kind and name, discovered through entry points from metadata alone."""

from __future__ import annotations

import difflib
import importlib
import json
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from packaging.requirements import Requirement

from anomaly_core.component import ADDRESS, Component
from anomaly_core.errors import AnomalyError, PluginError, PluginFailure, described, is_stop, printable
from anomaly_core.installed import CORE, PREFIX, UNREADABLE, VERSION, Installed, normalise, one_of_each
from anomaly_core.plugin import RUN
from anomaly_core.specs import KINDS, ComponentSpec

GROUPS = {f"{PREFIX}{kind}s": kind for kind in KINDS}
DISTRIBUTION = "distribution"  # the kind of what is no component, but damaged


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
        return [*(c for c in self._discovered() if c.kind != DISTRIBUTION), *self._added.values()]

    def damaged(self) -> list[Component]:
        """The distributions whose metadata is damaged, stale or hides another's: ``reason`` says what, and the next step."""
        return [c for c in self._discovered() if c.kind == DISTRIBUTION]

    def owner(self, module: str) -> Component | None:
        """A component of the distribution, other than the core, whose package a module belongs to."""
        for component in self.components():
            target = getattr(component.__dict__.get("spec"), "target", "")  # of a spec that is imported already
            packages = {re.split("[.:]", address)[0] for address in (component.value, target)}
            if component.distribution != CORE and module.partition(".")[0] in packages - {"anomaly_core", ""}:
                return component
        return None

    def culprit(self, error: BaseException) -> Component | None:
        """A component of the distribution in whose code an error arose; None if that is no plugin's."""
        cause: BaseException | None = error
        while cause is not None:
            for frame, _ in reversed(list(traceback.walk_tb(cause.__traceback__))):  # from where it was raised outward
                built = frame.f_locals["self"] if frame.f_code is Component.build.__code__ else None
                if component := built or self.owner(str(frame.f_globals.get("__name__", ""))):
                    return component
            cause = cause.__cause__
        return None

    def attributed(self, error: BaseException) -> BaseException:
        """The error, as a PluginFailure that names the plugin if it arose in one's code and does not speak for itself."""
        if isinstance(error, AnomalyError | OSError) or is_stop(error):
            return error
        culprit = self.culprit(error)
        return error if culprit is None else culprit.failure(error)

    def failed(self, thing: object, cause: str) -> PluginFailure:
        """What to raise when an object of a plugin's class did something wrong."""
        owner = self.owner(type(thing).__module__)
        return PluginFailure(f"{cause}.") if owner is None else owner.failure(cause)

    def _discovered(self) -> list[Component]:
        if self._cache is None:
            self._cache = _components(self._blocked)
        return self._cache

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
    order = [*KINDS, DISTRIBUTION]
    return sorted(components, key=lambda c: (order.index(c.kind), c.name, c.distribution))


def known_distributions() -> dict[tuple[str, str], str]:
    """(kind, name) -> which of our distributions provides it; used in messages only, never for discovery."""
    return {(kind, name): owner for owner, kinds in _known().items() for kind, names in kinds.items() for name in names}


def known_summary(command: Component) -> str:
    """What a command does, without importing it: of ours from a table, of others from their distribution's metadata."""
    own = _known().get(normalise(command.distribution), {}).get("command", {})
    return str(own.get(command.name) or command.about)


def _known() -> dict[str, Any]:
    import yaml

    text = resources.files("anomaly_core").joinpath("known_distributions.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def discover(blocked: set[str]) -> Iterator[Component]:
    """Every entry point in the core's groups, and every damaged distribution; ``blocked`` holds canonical names to exclude."""
    counting = one_of_each()
    location = str(Path(__file__).resolve().parents[1])
    # The core's own command is not read from its metadata, which may be stale or missing.
    yield Component("command", "run", CORE, VERSION, location, "anomaly_core.plugin:RUN", about=RUN.summary)
    if CORE not in counting:
        reason = f"it has no metadata. `pip install {CORE}`."
        yield Component(DISTRIBUTION, CORE, CORE, VERSION, location, "", "damaged", reason)
    for name, one in counting.items():
        if name == CORE and one.version != VERSION:
            one.faults.append(f"its metadata is that of {one.version}, and {VERSION} is running")
        elif name != CORE:
            yield from _components_of(one, blocked)
        if one.faults:
            remedy = f"Remove {one.place!r}, and `pip install --force-reinstall {one.name}` if you need it"
            reason = printable(f"{'; '.join(one.faults)}. {remedy}.")
            yield Component(DISTRIBUTION, one.name, one.name, one.version, one.folder, one.place, "damaged", reason)


def _components_of(one: Installed, blocked: set[str]) -> Iterator[Component]:
    """What a distribution provides; entry points that cannot be used are broken, with the reason."""
    values: dict[tuple[str, str], str] = {}
    for group, name, value in one.points:
        if group in GROUPS and values.setdefault((group, name), value) != value:
            one.faults.append(f"its entry_points.txt lists {name!r} of {group} twice: {value!r} is passed over")
    if not values:
        return
    location, unfit, about = _location(one), _unfit(one), " ".join(str(one.facts["Summary"] or "").split())
    for (group, name), text in values.items():
        value = re.sub(r"\s*\[.*\]$", "", text)  # drop the extras, which an entry point may name
        component = Component(GROUPS[group], name, one.name, one.version, location, value, about=about)
        if reason := _block_reason(component, blocked):
            component.status, component.reason = "blocked", reason
        elif unfit:
            component.status, component.reason = "incompatible", unfit
        elif UNREADABLE in f"{name}{value}" or not re.fullmatch(ADDRESS, value):
            component.status = "broken"
            component.reason = f"its entry point {text or name!r} is not of the form package.module:attribute"
        yield component


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


def _location(one: Installed) -> str:
    """The source of an editable install, as given in ``direct_url.json`` (PEP 610); else the folder of the installation."""
    # The installer writes this file, so an invalid one is no reason to reject the plugin.
    with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        direct = json.loads(one.text("direct_url.json") or "{}")
        if direct["dir_info"]["editable"]:
            from urllib.request import url2pathname  # slow to import, and only needed for editable installs

            return printable(url2pathname(urlparse(direct["url"]).path))
    return one.folder


def _unfit(one: Installed) -> str:
    """Why the distribution does not fit the running core; empty if it fits."""
    for text in map(str, one.facts.get_all("Requires-Dist") or []):
        try:
            requirement = Requirement(text)
            applies = normalise(requirement.name) == CORE and (requirement.marker is None or requirement.marker.evaluate())
        except ValueError as error:  # of the requirement or of its marker
            if normalise(text).startswith(CORE):
                return f"its requirement {printable(text)!r} cannot be read: {described(error)}"
            continue  # a requirement on another package is pip's concern
        if applies and not requirement.specifier.contains(VERSION, prereleases=True):
            return f"it requires {CORE}{requirement.specifier}, and {CORE} {VERSION} is running"
    return ""


registry = Registry()
