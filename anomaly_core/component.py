"""Component: one named thing that a distribution provides, imported on first use, or the reason why it cannot be used."""

from __future__ import annotations

import dataclasses
import importlib
import re
from contextlib import suppress
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from packaging.requirements import Requirement

from anomaly_core.errors import MissingLibrary, PluginError, PluginFailure, described, is_stop
from anomaly_core.installed import CORE, distributions, normalise
from anomaly_core.process import importing
from anomaly_core.specs import KINDS, ComponentSpec

ADDRESS = r"\w+(\.\w+)*:\w+(\.\w+)*"  # package.module:attribute


def require_training(what: str) -> None:
    """Raise MissingLibrary, which says that ``what`` needs torch, if torch is not installed; exported detectors need none."""
    if find_spec("torch") is None:
        raise MissingLibrary(f'{what} needs torch, which is not installed: pip install "{CORE}[train]"')


@dataclasses.dataclass(eq=False)
class Component:
    """One named thing that a distribution provides; none of its code is imported until it is used.

    Attributes:
        status: ``ok``, ``blocked``, ``incompatible``, ``conflict`` or ``broken``; ``reason`` says why.
        location: the folder that contains the distribution; for an editable install, its source.
        about: what the distribution's metadata says it is for.
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
    about: str = ""

    @property
    def qualified(self) -> str:
        """``distribution:name``, which is never ambiguous."""
        return f"{self.distribution}:{self.name}"

    @property
    def owner(self) -> str:
        """The distribution and its version, for messages."""
        return f"{self.distribution} {self.version}".rstrip()

    @property
    def section(self) -> str:
        """The section of a run's config that holds its options; empty for a kind without options."""
        return KINDS[self.kind].section

    def answers_to(self, name: str) -> bool:
        """Whether ``name`` is the bare or the qualified name."""
        distribution, _, leaf = name.rpartition(":")
        return leaf == self.name and (not distribution or normalise(distribution) == normalise(self.distribution))

    def require_usable(self) -> None:
        """Raise PluginError if metadata alone shows that the component is blocked, incompatible or broken."""
        if self.status == "blocked":
            raise PluginError(f"the {self.kind} {self.name!r} of {self.owner} is {self.reason}. Lift that to use it.")
        if self.status in ("broken", "incompatible"):
            raise self._error(self.reason)

    @cached_property
    def spec(self) -> Any:
        """The component's spec; PluginError if the plugin's module cannot be imported, or the spec is not of its kind."""
        if self.added is not None:
            return self.added
        self.require_usable()
        spec = self._import(self.value)
        if not isinstance(spec, KINDS[self.kind]):
            raise self._error(f"{self.value} is a {type(spec).__name__}, and the group asks for a {KINDS[self.kind].__name__}")
        return spec

    def load(self, field: str = "target") -> Any:
        """The object whose address the spec has in ``field``; PluginError if the field is empty or the import fails."""
        if not getattr(self.spec, field, ""):
            raise PluginError(f"the {self.kind} {self.name!r} of {self.owner} has no {field}.")
        return self._import(getattr(self.spec, field))

    def config_class(self) -> type[Any]:
        """The config dataclass of a model, data set or trainer; PluginError if it does not extend its kind's base."""
        if not self.section:
            configured = ", ".join(kind for kind, spec in KINDS.items() if spec.section)
            raise PluginError(f"the {self.kind} {self.name!r} has no config; only a {configured} has one.")
        base, config = self._import(KINDS[self.kind].config_base), self._import(self.spec.config)
        if not (isinstance(config, type) and dataclasses.is_dataclass(config) and issubclass(config, base)):
            raise self._error(f"{self.spec.config} is not a dataclass that extends anomaly_core.{base.__name__}")
        return config

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """An instance: ``load()(*args, **kwargs)``."""
        return self.load()(*args, **kwargs)

    def require_library(self) -> None:
        """Raise MissingLibrary, with the install command, if the library that an engine needs is not installed."""
        module = getattr(self.spec, "module", "")
        if module and find_spec(module) is None:
            raise self._missing(module, self.spec.install or f"pip install {module}")

    def check(self) -> PluginError | None:
        """Import everything that the component names; the reason why it cannot be used, or None."""
        if self.status not in ("ok", "conflict"):
            return PluginError(self.reason)
        try:
            self.require_library()
            for field in ("reader", "rewriter", "opener", "keeper", "calibrator"):
                if getattr(self.spec, field, ""):
                    self.load(field)
            self.load()
            if self.section:
                self.config_class()
        except PluginError as error:
            return error
        except Exception as error:  # of a spec that holds anything
            return self._error(described(error))
        return None

    def failure(self, error: BaseException | str) -> PluginFailure:
        """What to raise when its code raised an error of its own, or returned something wrong."""
        cause = error if isinstance(error, str) else f"unexpected {described(error)}"
        return PluginFailure(
            f"{cause}, in {self.owner} ({self.location}). Run again with --debug and report what it shows to those who wrote "
            f"{self.distribution}, or do without it: --no-plugin {self.distribution}."
        )

    def _import(self, address: str) -> Any:
        if not re.fullmatch(ADDRESS, str(address)):
            raise self._error(f"the address {address!r} is not of the form package.module:attribute")
        module, _, attribute = address.partition(":")
        try:
            with importing():
                value: Any = importlib.import_module(module)
            for part in attribute.split("."):
                value = getattr(value, part)
        except ModuleNotFoundError as error:
            library = (error.name or "").partition(".")[0]
            extra = self._extra(library)
            if not extra or find_spec(library) is not None:
                raise self._error(f"{address}: {described(error)}") from error
            opens = getattr(self.spec, "reader", "") and address == self.spec.target
            needs = "opens exported detectors; to compute the networks of a run it needs" if opens else "needs"
            raise self._missing(library, f'pip install "{extra}"', needs) from error
        except BaseException as error:  # a plugin may fail in any way; the message says which
            if is_stop(error):
                raise
            raise self._error(f"{address}: {described(error)}") from error
        return value

    def _extra(self, library: str) -> str:
        """``distribution[extra]`` that installs a library, from its own distribution or the core; empty if there is none."""
        for found in (*distributions(self.distribution), *distributions(CORE)):
            for text in map(str, found.facts.get_all("Requires-Dist") or []):
                with suppress(ValueError):  # one that cannot be parsed
                    requirement = Requirement(text)
                    if normalise(requirement.name) == normalise(library) and requirement.marker:
                        for extra in map(str, found.facts.get_all("Provides-Extra") or []):
                            if requirement.marker.evaluate({"extra": extra}):
                                return f"{found.name}[{extra}]"
        return ""

    def _missing(self, library: str, install: str, needs: str = "needs") -> MissingLibrary:
        needed = f"the {self.kind} {self.name!r} of {self.owner} {needs} {library}"
        return MissingLibrary(f"{needed}, which is not installed: {install}")

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
