"""What a plugin's author calls: ``check_model`` and its siblings, and their pytest form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anomaly_core.errors import ConfigError, PluginError
from anomaly_core.registry import Component, registry
from anomaly_core.specs import KINDS, ComponentSpec
from anomaly_core.testing.checks import Check, ConformanceError, Outcome, Subject, run_check, select
from anomaly_core.testing.datasets import DATASET, DatasetSubject
from anomaly_core.testing.engines import ENGINE, EngineSubject
from anomaly_core.testing.metrics import METRIC, MetricSubject
from anomaly_core.testing.models import MODEL, ModelSubject
from anomaly_core.testing.others import BACKBONE, COMMAND, HOOK, HookSubject
from anomaly_core.testing.trainers import TRAINER, TrainerSubject

SUITES: dict[str, tuple[type[Subject], tuple[Check, ...]]] = {
    "model": (ModelSubject, MODEL),
    "dataset": (DatasetSubject, DATASET),
    "trainer": (TrainerSubject, TRAINER),
    "metric": (MetricSubject, METRIC),
    "backbone": (Subject, BACKBONE),
    "command": (Subject, COMMAND),
    "hook": (HookSubject, HOOK),
    "engine": (EngineSubject, ENGINE),
}


def checks_of(kind: str) -> dict[str, str]:
    """The checks of a kind of component: name -> what is asked."""
    return {check.name: check.meaning for check in SUITES[kind][1]}


def outcomes(
    component: Component,
    *,
    expected_failures: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    preset: str | None = None,
    only: Sequence[str] | None = None,
) -> Iterator[Outcome]:
    """Run the checks of a component one after the other, each outcome as it comes.

    Raises:
        ConfigError: no check is called as ``only`` or ``expected_failures`` say.
    """
    subject_class, checks = SUITES[component.kind]
    expected = dict(expected_failures or {})
    select(checks, list(expected))
    subject = subject_class(component, dict(overrides or {}), preset)
    for check in select(checks, only):
        yield run_check(check, subject, expected.get(check.name))


def check_component(
    spec_or_name: ComponentSpec | str,
    kind: str,
    *,
    expected_failures: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    preset: str | None = None,
    only: Sequence[str] | None = None,
) -> list[Outcome]:
    """Run the checks of one component.

    Args:
        spec_or_name: a spec, which need not be installed, or the name of an installed component.
        kind: ``model``, ``dataset``, ``trainer``, ``metric``, ``backbone``, ``command``, ``hook`` or
            ``engine``.
        expected_failures: check -> why it fails; it then does not count. One that passes all the same does.
        overrides: options by ``section.key`` above those that the kit chooses: ``{"model.width": 8}``.
        preset: of a model; None takes ``edge`` where there is one, else the defaults.
        only: names of checks; None runs all.

    Returns:
        an outcome a check; what was skipped says why.

    Raises:
        ConformanceError: a check failed; the message lists each with its reason. It is an AssertionError too.
        ConfigError: there is no check of a name that was given.
    """
    component = component_of(spec_or_name, kind)
    found = list(outcomes(component, expected_failures=expected_failures, overrides=overrides, preset=preset, only=only))
    failed = [outcome for outcome in found if outcome.status == "failed"]
    if failed:
        lines = "".join(f"\n  {outcome.check}: {outcome.reason}" for outcome in failed)
        raise ConformanceError(f"the {kind} {component.name!r} fails {len(failed)} of {len(found)} checks:{lines}")
    return found


def check_model(
    spec_or_name: ComponentSpec | str, expected_failures: Mapping[str, str] | None = None, **more: Any
) -> list[Outcome]:
    """:func:`check_component` of a method."""
    return check_component(spec_or_name, "model", expected_failures=expected_failures, **more)


def check_dataset(
    spec_or_name: ComponentSpec | str, expected_failures: Mapping[str, str] | None = None, **more: Any
) -> list[Outcome]:
    """:func:`check_component` of a data set; ``overrides={"data.root": ...}`` says where its files are."""
    return check_component(spec_or_name, "dataset", expected_failures=expected_failures, **more)


def check_trainer(
    spec_or_name: ComponentSpec | str, expected_failures: Mapping[str, str] | None = None, **more: Any
) -> list[Outcome]:
    """:func:`check_component` of a trainer."""
    return check_component(spec_or_name, "trainer", expected_failures=expected_failures, **more)


def check_metric(
    spec_or_name: ComponentSpec | str, expected_failures: Mapping[str, str] | None = None, **more: Any
) -> list[Outcome]:
    """:func:`check_component` of a metric."""
    return check_component(spec_or_name, "metric", expected_failures=expected_failures, **more)


def check_backbone(
    spec_or_name: ComponentSpec | str, expected_failures: Mapping[str, str] | None = None, **more: Any
) -> list[Outcome]:
    """:func:`check_component` of pretrained weights."""
    return check_component(spec_or_name, "backbone", expected_failures=expected_failures, **more)


def check_command(
    spec_or_name: ComponentSpec | str, expected_failures: Mapping[str, str] | None = None, **more: Any
) -> list[Outcome]:
    """:func:`check_component` of a command."""
    return check_component(spec_or_name, "command", expected_failures=expected_failures, **more)


def check_hooks(
    spec_or_name: ComponentSpec | str, expected_failures: Mapping[str, str] | None = None, **more: Any
) -> list[Outcome]:
    """:func:`check_component` of observers."""
    return check_component(spec_or_name, "hook", expected_failures=expected_failures, **more)


def check_engine(
    spec_or_name: ComponentSpec | str, expected_failures: Mapping[str, str] | None = None, **more: Any
) -> list[Outcome]:
    """:func:`check_component` of what computes frozen networks."""
    return check_component(spec_or_name, "engine", expected_failures=expected_failures, **more)


def parametrize_with_checks(
    *components: tuple[str, ComponentSpec | str] | ComponentSpec,
    expected_failures: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    preset: str | None = None,
    marks: Mapping[str, Any] | None = None,
) -> Any:
    """A pytest decorator: one test a component and check; the test calls its argument ``check``.

    ::

        @parametrize_with_checks(("model", "my-method"))
        def test_conformance(check):
            check()

    Args:
        components: kind and name of installed ones, or specs.
        expected_failures: check -> why it fails; the test is then an xfail, strictly.
        overrides: options by ``section.key``.
        preset: of models.
        marks: check -> a pytest mark, such as ``pytest.mark.slow``.
    """
    import pytest

    tests = []
    for given in components:
        kind, what = given if isinstance(given, tuple) else (given.kind, given)
        subject_class, checks = SUITES[kind]
        select(checks, list(expected_failures or {}))
        shared = _Shared(what, kind, subject_class, dict(overrides or {}), preset)
        label = what if isinstance(what, str) else what.target.rpartition(":")[2]
        for check in checks:
            reason = (expected_failures or {}).get(check.name)
            found = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            found += [mark for name, mark in (marks or {}).items() if name == check.name]
            tests.append(pytest.param(_Test(shared, check), id=f"{label}-{check.name}", marks=found))
    return pytest.mark.parametrize("check", tests)


def component_of(spec_or_name: ComponentSpec | str, kind: str) -> Component:
    """The installed component of this name, or a bare spec as one.

    Raises:
        PluginError: no such component is installed, or the spec is of another kind.
    """
    if isinstance(spec_or_name, str):
        return registry.group(kind)[spec_or_name]
    if not isinstance(spec_or_name, KINDS[kind]):
        raise PluginError(f"a {type(spec_or_name).__name__} is no {KINDS[kind].__name__}. Use the check of its own kind.")
    name = "checked"
    return Component(kind, name, "(a spec)", "", "this process", spec_or_name.target, added=spec_or_name)


def find(name: str) -> list[Component]:
    """The installed components of this name, of whatever kind.

    Raises:
        ConfigError: there is none.
    """
    found = [component for component in registry.components() if component.answers_to(name)]
    if not found:
        names = ", ".join(sorted({component.name for component in registry.components()}))
        raise ConfigError(f"nothing that is installed is called {name!r}. Installed: {names}.")
    return found


class _Shared:
    """The subject of several tests, made when the first of them runs: collecting them imports no plugin."""

    def __init__(
        self, what: ComponentSpec | str, kind: str, subject: type[Subject], overrides: dict[str, Any], preset: str | None
    ) -> None:
        self._what, self._kind, self._class, self._overrides, self._preset = what, kind, subject, overrides, preset
        self._subject: Subject | None = None

    def subject(self) -> Subject:
        if self._subject is None:
            self._subject = self._class(component_of(self._what, self._kind), self._overrides, self._preset)
        return self._subject


class _Test:
    """One check of one component, as a test calls it."""

    def __init__(self, shared: _Shared, check: Check) -> None:
        self._shared = shared
        self._check = check

    def __call__(self) -> None:
        import pytest

        outcome = run_check(self._check, self._shared.subject())
        if outcome.status == "skipped":
            pytest.skip(outcome.reason)
        if outcome.status == "failed":
            raise ConformanceError(outcome.reason)
