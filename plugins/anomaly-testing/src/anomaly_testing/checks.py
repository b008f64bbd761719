"""A check, what may become of it, and the component that it looks at."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from anomaly_core import AnomalyError, Component, ComponentSpec, ConfigError, MissingLibrary, described, is_stop, registry

Status = Literal["passed", "failed", "expected", "skipped"]


class Broken(AssertionError):
    """A check's finding: what the component did, what was asked, and the next step."""


class Skip(Exception):
    """A check that cannot be made here; the message is the reason, and is shown."""


class ConformanceError(AnomalyError, AssertionError):
    """A component that failed some of its checks; the message lists them all."""


@dataclass
class Subject:
    """A component under test.

    Args:
        component: as the registry has it.
        overrides: options by ``section.key``, above everything that the kit chooses.
        preset: of a model; None takes ``edge`` where there is one.
    """

    component: Component
    overrides: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None

    @cached_property
    def folder(self) -> Path:
        """A folder of its own, gone with the subject."""
        path = tempfile.mkdtemp(prefix="anomaly-check-")
        weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        return Path(path)

    @property
    def name(self) -> str:
        """The name by which a config finds it."""
        return self.component.name if self.component.added else self.component.qualified


@dataclass(frozen=True)
class Check:
    """One requirement; its docstring's first line is what ``anomaly check`` shows."""

    name: str
    function: Callable[[Any], None]

    @property
    def meaning(self) -> str:
        """The requirement in a sentence."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    def __call__(self, subject: Any) -> None:
        self.function(subject)


@dataclass(frozen=True)
class Outcome:
    """What became of a check.

    Attributes:
        status: ``passed``, ``failed``, ``expected`` (it fails, and was expected to) or ``skipped``.
        reason: of a failure, an expectation or a skip.
    """

    check: str
    status: Status
    seconds: float
    reason: str = ""


def named(*functions: Callable[[Any], None]) -> tuple[Check, ...]:
    """Checks by their functions' names."""
    return tuple(Check(function.__name__, function) for function in functions)


def require(condition: object, text: str) -> None:
    """Raise :class:`Broken` with the text where the condition does not hold."""
    if not condition:
        raise Broken(text)


@contextmanager
def registered(name: str, spec: ComponentSpec) -> Iterator[None]:
    """A component that a config finds for a while."""
    before = {(c.kind, c.name): c for c in registry.components() if c.added}.get((spec.kind, name))
    registry.add(name, spec)
    try:
        yield
    finally:
        registry.remove(name, spec.kind)
        if before is not None and before.added is not None:
            registry.add(name, before.added)


def select(checks: Sequence[Check], names: Sequence[str] | None) -> list[Check]:
    """The checks of these names, or all.

    Raises:
        ConfigError: there is no check of such a name.
    """
    known = [check.name for check in checks]
    for name in names or ():
        if name not in known:
            raise ConfigError(f"no check is called {name!r}. Checks: {', '.join(known)}.")
    return [check for check in checks if names is None or check.name in names]


def run_check(check: Check, subject: Subject, expected: str | None = None) -> Outcome:
    """Run one check. A failure that was expected is ``expected``; an expected failure that passes is ``failed``.

    A library that is not installed is a reason to skip: the component may be sound.
    """
    start = time.perf_counter()
    status: Status = "passed"
    reason = ""
    try:
        with _silence():
            check(subject)
    except (Skip, MissingLibrary) as skip:
        status, reason = "skipped", str(skip)
    except Broken as broken:
        status, reason = "failed", str(broken)
    except AnomalyError as error:
        status, reason = "failed", f"{type(error).__name__}: {error}"
    except BaseException as error:  # a plugin may fail in any way, and the other checks go on
        if is_stop(error):
            raise
        status, reason = "failed", f"unexpected {described(error)}{_where(error)}"
    if expected is not None and status == "failed":
        status, reason = "expected", f"{expected} ({reason})"
    elif expected is not None and status == "passed":
        status, reason = "failed", f"it passes, and was expected to fail: {expected}. Take the expectation away."
    return Outcome(check.name, status, time.perf_counter() - start, reason)


@contextmanager
def _silence() -> Iterator[None]:
    """Warnings are a run's affair, and its log has them; pytest turns those of a plugin's own tests into errors."""
    logger = logging.getLogger("anomaly_core")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _where(error: BaseException) -> str:
    """The last place of the traceback that is not the kit's."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(str(Path(__file__).parent)):
            place = f" (in {code.co_name}, {code.co_filename}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place
