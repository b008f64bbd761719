"""Checks of hooks: observers of runs, of failures and of detectors in use."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from anomaly_core import HOOKS, Component, Hooks, Registry, RunConfig, RunError, RunFolder, run_experiment
from anomaly_predict import load_run, verdicts
from anomaly_testing.checks import Subject, named, registered, require
from anomaly_testing.common import SPEC
from anomaly_testing.model_subject import PICTURES, SPEC_OF_PICTURES
from anomaly_testing.probes import PROBE


class HookSubject(Subject):
    """Observers under test."""

    def observe(self) -> tuple[Hooks, list[str]]:
        """Hooks that know this component alone, and the messages of its failures."""
        failures: list[str] = []
        return Hooks(cast(Registry, _Only(self.component)), failures.append), failures

    @cached_property
    def finished(self) -> tuple[RunConfig, Path, list[str]]:
        """A small run that this component alone observed: its config, its folder, the observer's failures."""
        hooks, failures = self.observe()
        with registered(PICTURES, SPEC_OF_PICTURES), registered("probe", PROBE):
            options = {
                "data.root": str(self.folder / "pictures"),
                "data.num_workers": 0,
                "model.image_size": 64,
                "base.output": str(self.folder),
                "base.device": "cpu",
                "base.metrics": ["image_auroc"],
                "base.pictures": 2,
            }
            config = RunConfig.create(model="probe", data=PICTURES, overrides={**options, **self.overrides})
            results = run_experiment(config, hooks=hooks)
            return config, results.runs[0].folder, failures


def observes_something(subject: HookSubject) -> None:
    """It has hooks, each of a name and with arguments that the core knows."""
    hooks, failures = subject.observe()  # a misspelt hook, a wrapper or an unknown argument is a PluginError
    require(not failures, " ".join(failures))
    require(hooks.names(), f"it has no function marked @hookimpl. Hooks: {', '.join(HOOKS)}.")


def survives_a_run(subject: HookSubject) -> None:
    """A whole run calls its hooks, and none fails."""
    _, folder, failures = subject.finished
    require(not failures, " ".join(failures))
    require(RunFolder(folder).is_complete(), "the run did not complete.")


def survives_an_error(subject: HookSubject) -> None:
    """A run that fails calls its hooks, and none fails."""
    config, folder, _ = subject.finished
    hooks, failures = subject.observe()
    run = RunFolder(folder)
    for name, arguments in (
        ("anomaly_configure", {"config": config}),
        ("anomaly_run_start", {"run": run}),
        ("anomaly_log", {"run": run, "metrics": {"loss": 1.0}, "step": 1}),
        ("anomaly_run_error", {"run": run, "error": RunError("the conformance kit's own")}),
    ):
        hooks.call(name, **arguments)
    require(not failures, " ".join(failures))


def survives_use(subject: HookSubject) -> None:
    """A detector that scores image files, one of them unreadable, and ``anomaly doctor`` call its hooks, and none fails."""
    _, folder, _ = subject.finished
    hooks, failures = subject.observe()
    with registered(PICTURES, SPEC_OF_PICTURES), registered("probe", PROBE):
        detector = load_run(folder, device="cpu")
    unreadable = subject.folder / "unreadable.png"
    unreadable.write_bytes(b"not an image")
    paths = [*sorted((subject.folder / "pictures" / "bad").glob("*.png"))[:2], unreadable]
    pictures = subject.folder / "predicted"
    pictures.mkdir(exist_ok=True)
    list(verdicts(detector, paths, hooks=hooks, pictures=pictures))
    hooks.call("anomaly_doctor", report=SimpleNamespace(sections={}, problems=[], notes=[]))
    require(not failures, " ".join(failures))


def leaves_the_run_alone(subject: HookSubject) -> None:
    """What the core wrote into the run's folder is as it was, and can be read."""
    config, folder, _ = subject.finished
    run = RunFolder(folder)
    changed = run.differing()
    require(not changed, f"it changed {', '.join(changed)} of the run.")
    with registered(PICTURES, SPEC_OF_PICTURES), registered("probe", PROBE):
        written = run.config()
    require(written.to_dict()["model"] == config.to_dict()["model"], "the run's config.yaml is another than the run's.")
    require(run.result().metrics, "the run's metrics.json is empty.")
    run.state()


HOOK = SPEC + named(observes_something, survives_a_run, survives_an_error, survives_use, leaves_the_run_alone)


class _Only:
    """A registry that knows one component."""

    def __init__(self, component: Component) -> None:
        self._component = component

    def components(self) -> list[Component]:
        return [self._component]
