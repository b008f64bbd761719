"""What a plugin's author calls: ``check_component``, and the same checks as tests of pytest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anomaly_core import KINDS, Component, ComponentSpec, ConfigError, PluginError, registry
from anomaly_testing.backbones import BACKBONE
from anomaly_testing.checks import Check, ConformanceError, Outcome, Subject, run_check, select
from anomaly_testing.datasets import DATASET, DatasetSubject
from anomaly_testing.engines import ENGINE, EngineSubject
from anomaly_testing.executors import EXECUTOR, ExecutorSubject
from anomaly_testing.metrics import METRIC, MetricSubject
from anomaly_testing.model_subject import ModelSubject
from anomaly_testing.models import MODEL
from anomaly_testing.observers import HOOK, HookSubject
from anomaly_testing.subcommands import COMMAND
from anomaly_testing.trainers import TRAINER, TrainerSubject

SUITES: dict[str, tuple[type[Subject], tuple[Check, ...]]] = {
    "model": (ModelSubject, MODEL),
    "dataset": (DatasetSubject, DATASET),
    "trainer": (TrainerSubject, TRAINER),
    "metric": (MetricSubject, METRIC),
    "backbone": (Subject, BACKBONE),
    "command": (Subject, COMMAND),
    "hook": (HookSubject, HOOK),
    "engine": (EngineSubject, ENGINE),
    "executor": (ExecutorSubject, EXECUTOR),
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
        ConfigError: no check has a name that ``only`` or ``expected_failures`` gives.
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
        kind: ``model``, ``dataset``, ``trainer``, ``metric``, ``backbone``, ``command``, ``hook``, ``engine`` or
            ``executor``.
        expected_failures: check -> why it fails; it then does not count. An expected failure that passes counts as failed.
        overrides: options by ``section.key`` above those that the kit chooses: ``{"model.width": 8}``;
            ``{"data.root": ...}`` says where a data set's files are.
        preset: of a model; None takes ``edge`` where there is one, else the defaults.
        only: names of checks; None runs all.

    Returns:
        An outcome for each check; one that was skipped has the reason.

    Raises:
        ConformanceError: a check failed; the message lists each failure with its reason. It is an AssertionError too.
        ConfigError: there is no check of a name that was given.
        PluginError: no such component is installed, or the spec is of another kind.
    """
    component = component_of(spec_or_name, kind)
    results = list(outcomes(component, expected_failures=expected_failures, overrides=overrides, preset=preset, only=only))
    failed = [outcome for outcome in results if outcome.status == "failed"]
    if failed:
        lines = "".join(f"\n  {outcome.check}: {outcome.reason}" for outcome in failed)
        raise ConformanceError(f"the {kind} {component.name!r} fails {len(failed)} of {len(results)} checks:{lines}")
    return results


def parametrize_with_checks(
    *components: tuple[str, ComponentSpec | str] | ComponentSpec,
    expected_failures: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    preset: str | None = None,
    marks: Mapping[str, Any] | None = None,
) -> Any:
    """A pytest decorator: one test for each component and check; the test calls its argument ``check``.

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
    for component in components:
        kind, what = component if isinstance(component, tuple) else (component.kind, component)
        subject_class, checks = SUITES[kind]
        select(checks, list(expected_failures or {}))
        shared = _Shared(what, kind, subject_class, dict(overrides or {}), preset)
        label = what if isinstance(what, str) else what.target.rpartition(":")[2]
        for check in checks:
            reason = (expected_failures or {}).get(check.name)
            own_marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            own_marks += [mark for name, mark in (marks or {}).items() if name == check.name]
            tests.append(pytest.param(_Test(shared, check), id=f"{label}-{check.name}", marks=own_marks))
    return pytest.mark.parametrize("check", tests)


def component_of(spec_or_name: ComponentSpec | str, kind: str) -> Component:
    """The installed component of this name, or a bare spec as one.

    Raises:
        PluginError: no such component is installed, or the spec is of another kind.
    """
    if isinstance(spec_or_name, str):
        return registry.group(kind)[spec_or_name]
    if not isinstance(spec_or_name, KINDS[kind]):
        raise PluginError(
            f"a {type(spec_or_name).__name__} is not the spec of a {kind}, which is a {KINDS[kind].__name__}. "
            f"Check it as kind {spec_or_name.kind!r}."
        )
    return Component(kind, "checked", "(a spec)", "", "this process", spec_or_name.target, added=spec_or_name)


def find(name: str) -> list[Component]:
    """The installed components of this name, of every kind.

    Raises:
        ConfigError: there is none.
    """
    components = [component for component in registry.components() if component.answers_to(name)]
    if not components:
        names = ", ".join(sorted({component.name for component in registry.components()}))
        raise ConfigError(f"no installed component is called {name!r}. Installed: {names}.")
    return components


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
