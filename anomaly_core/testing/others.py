"""Checks of backbones, commands and hooks."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import cast

import click
import torch
from click.testing import CliRunner

from anomaly_core.backbones import Backbones, FeatureExtractor, full_name
from anomaly_core.config import RunConfig
from anomaly_core.errors import ConfigError, PluginError, RunError
from anomaly_core.experiment import Experiment
from anomaly_core.hookspecs import HOOKS, Hooks
from anomaly_core.registry import Component, Registry
from anomaly_core.results import RunResult
from anomaly_core.runner import run_experiment
from anomaly_core.testing.checks import Broken, Subject, named, registered, require
from anomaly_core.testing.common import SPEC
from anomaly_core.testing.models import PICTURES, SPEC_OF_PICTURES
from anomaly_core.testing.probes import PROBE


def timm_knows_it(subject: Subject) -> None:
    """The entry point's name is a model of timm's."""
    try:
        full_name(subject.component.name)
    except ConfigError as error:
        raise Broken(str(error)) from error


def states_its_licence(subject: Subject) -> None:
    """The spec names the licence of the weights."""
    require(subject.component.spec.license.strip(), "the spec has no license. Weights travel with their licence: name it.")


def file_is_safe(subject: Subject) -> None:
    """target returns the path of a file that is there, .safetensors or .pth."""
    path = Path(subject.component.load()())
    require(path.is_file(), f"target returned {str(path)!r}, which is no file.")
    require(path.suffix in (".safetensors", ".pth"), f"{path.name} is neither .safetensors nor .pth.")


def weights_fit(subject: Subject) -> None:
    """The weights fit timm's network, tensor by tensor, and give finite features."""
    nowhere = subject.folder / "no-backbones"
    name = subject.component.name
    state = Backbones(nowhere).load(name)
    require(all(value.isfinite().all() for value in state.values()), "the weights hold NaN or infinity.")
    with torch.inference_mode():
        draw = torch.Generator().manual_seed(0)
        maps = FeatureExtractor(name, [1, 2], Backbones(nowhere))(torch.rand(1, 3, 64, 64, generator=draw))
    require(all(found.isfinite().all() and found.std() > 0 for found in maps), "its features are constant or not finite.")


BACKBONE = SPEC + named(timm_knows_it, states_its_licence, file_is_safe, weights_fit)


def is_a_command(subject: Subject) -> None:
    """target is a click command."""
    command = subject.component.load()
    require(isinstance(command, click.Command), f"target is a {type(command).__name__}, not a click.Command.")


def helps(subject: Subject) -> None:
    """--help says what it does and what each option means."""
    command = _command(subject)
    result = CliRunner().invoke(command, ["--help"], prog_name=f"anomaly {subject.component.name}")
    require(result.exit_code == 0, f"--help ends with {result.exit_code}: {result.output}{result.exception or ''}")
    require(command.help and command.help.strip(), "it has no docstring, so that --help says nothing.")
    for inner in _leaves(command):
        for option in inner.params:
            if isinstance(option, click.Option) and not option.hidden and option.expose_value:
                require(option.help, f"{inner.name} {option.opts[0]} has no help text.")


def refuses_nonsense(subject: Subject) -> None:
    """An unknown option is a usage error: exit code 2, no traceback."""
    result = CliRunner().invoke(_command(subject), ["--no-such-option"])
    require(result.exit_code == 2, f"an unknown option ends with the exit code {result.exit_code}, not 2.")


COMMAND = SPEC + named(is_a_command, helps, refuses_nonsense)


class HookSubject(Subject):
    """Observers under test."""

    def observe(self) -> tuple[Hooks, list[str]]:
        """Hooks that know this component alone, and the failures that they tell."""
        failures: list[str] = []
        return Hooks(cast(Registry, _Only(self.component)), failures.append), failures

    @cached_property
    def finished(self) -> tuple[RunConfig, Path, list[str]]:
        """A small run that this component alone observed: its config, its folder, the observer's failures."""
        hooks, failures = self.observe()
        with registered(PICTURES, SPEC_OF_PICTURES), registered("probe", PROBE):
            options = {"data.root": str(self.folder / "pictures"), "model.image_size": 64, "base.output": str(self.folder)}
            more = {"base.device": "cpu", "data.num_workers": 0, "base.pictures": 2, "base.metrics": ["image_auroc"]}
            config = RunConfig.create(model="probe", data=PICTURES, overrides={**options, **more, **self.overrides})
            result = run_experiment(config, hooks=hooks)
            return config, result.runs[0].folder, failures


def observes_something(subject: HookSubject) -> None:
    """It has hooks, each of a name and with arguments that the core knows."""
    hooks, failures = subject.observe()  # a misspelt hook, a wrapper or an unknown argument is a PluginError
    require(not failures, " ".join(failures))
    require(hooks.names(), f"it has no function marked @hookimpl. Hooks: {', '.join(HOOKS)}.")


def survives_a_run(subject: HookSubject) -> None:
    """A whole run calls its hooks, and none fails."""
    _, folder, failures = subject.finished
    require(not failures, " ".join(failures))
    require(Experiment(folder).is_complete(), "the run did not complete.")


def survives_an_error(subject: HookSubject) -> None:
    """A run that fails calls its hooks, and none fails."""
    config, folder, _ = subject.finished
    hooks, failures = subject.observe()
    run = Experiment(folder)
    for name, arguments in (
        ("anomaly_configure", {"config": config}),
        ("anomaly_run_start", {"run": run}),
        ("anomaly_log", {"run": run, "metrics": {"loss": 1.0}, "step": 1}),
        ("anomaly_run_error", {"run": run, "error": RunError("the conformance kit's own")}),
    ):
        hooks.call(name, **arguments)
    require(not failures, " ".join(failures))


def leaves_the_run_alone(subject: HookSubject) -> None:
    """What the core wrote into the run's folder is as it was, and can be read."""
    config, folder, _ = subject.finished
    with registered(PICTURES, SPEC_OF_PICTURES), registered("probe", PROBE):
        kept = Experiment(folder).config()
    require(kept.to_dict()["model"] == config.to_dict()["model"], "the run's config.yaml is another than the run's.")
    require(RunResult.load(folder).metrics, "the run's metrics.json is empty.")
    Experiment(folder).load_state()


HOOK = SPEC + named(observes_something, survives_a_run, survives_an_error, leaves_the_run_alone)


class _Only:
    """A registry that knows one component."""

    def __init__(self, component: Component) -> None:
        self._component = component

    def components(self) -> list[Component]:
        return [self._component]


def _command(subject: Subject) -> click.Command:
    command = subject.component.load()
    if not isinstance(command, click.Command):
        raise PluginError(f"the command {subject.component.name!r} is a {type(command).__name__}, not a click.Command.")
    return command


def _leaves(command: click.Command) -> list[click.Command]:
    """The command, or all below a group."""
    if not isinstance(command, click.Group):
        return [command]
    return [leaf for inner in command.commands.values() for leaf in _leaves(inner)]
