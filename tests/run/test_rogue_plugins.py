"""Plugins that raise anything anywhere: the plugin is named, others run on, and no run looks complete."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rogues import manifest

from anomaly_core import PluginError, RunError, RunFolder, registry, run_experiment, stoppable
from harness import Distributions
from tiny.runs import arguments, config

pytestmark = [pytest.mark.usefixtures("tiny"), pytest.mark.reliability("fault")]


class Odd(BaseException):
    """What no handler of Exception sees."""


class Mute(Exception):
    """What cannot even say what is wrong."""

    def __str__(self) -> str:
        raise SystemExit(0)


RAISED: list[BaseException] = [
    SystemExit(0),
    GeneratorExit(),
    KeyboardInterrupt(),
    Odd("odd"),
    RecursionError("deep"),
    EOFError(),
    StopIteration(),
    Mute(),
    ValueError("\x1b[2J" + "x" * 10_000_000),
]


def spread(*places: str) -> list[Any]:
    """Each error at one of the places, and the one that says that all is well at each."""
    pairs = [(places[index % len(places)], error) for index, error in enumerate(RAISED)]
    pairs += [(place, RAISED[0]) for place in places[1:]]
    return [pytest.param(place, error, id=f"{place}-{type(error).__name__}") for place, error in pairs]


each = pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)


def raising(error: BaseException) -> Callable[[Any], Any]:
    def work(value: Any) -> Any:
        raise error.with_traceback(None)

    return work


def command_line(folder: Path, **options: Any) -> list[str]:
    own = {"data.root": str(folder / "weave"), "data.category": ["linen"], **options}
    return arguments(config(folder, model="rogue", data="rogue", **own))


@pytest.mark.parametrize(("place", "error"), spread("init", "collect", "fit", "predict_step", "test_samples"))
def test_a_run_that_a_plugin_ends_has_failed(
    place: str, error: BaseException, rogue: Any, anomaly: Callable[..., Any], tmp_path: Path
) -> None:
    rogue[place] = raising(error)
    done = anomaly(*command_line(tmp_path))
    facts = manifest(tmp_path)
    assert (done.code, facts["status"]) == (1, "failed")
    for text in (done.err, facts["error"]):
        assert "in anomaly-rogue 0.3 (" in text and f"unexpected {type(error).__name__}" in text
        assert "\x1b" not in text and len(text) < 5000
    rogue.clear()
    assert anomaly(*command_line(tmp_path), "--resume").code == 0 and manifest(tmp_path)["status"] == "complete"


@each
def test_what_a_plugin_raises_before_there_is_a_run_names_it(
    error: BaseException, rogue: Any, anomaly: Callable[..., Any], tmp_path: Path
) -> None:
    rogue["categories"] = raising(error)
    done = anomaly(*command_line(tmp_path))
    assert done.code == 1 and "in anomaly-rogue 0.3 (" in done.err and "interrupted" not in done.err
    assert not (tmp_path / "runs").exists()


@each
def test_a_module_that_raises_anything_while_imported_is_named_and_others_run(
    error: BaseException, rogue: Any, distributions: Distributions, anomaly: Callable[..., Any], tmp_path: Path
) -> None:
    sys.modules["rogue"].ERROR = error.with_traceback(None)  # type: ignore[attr-defined]
    points = {"models": {"torn": "torn:MODEL"}, "metrics": {"torn": "torn:METRIC"}, "hooks": {"torn": "torn:HOOK"}}
    distributions.install("anomaly-torn", points=points, files={"torn.py": "import rogue\nraise rogue.ERROR\n"})
    registry.refresh()
    with pytest.raises(PluginError, match=r"'torn' of anomaly-torn 1.2.3 .* is broken: torn:MODEL: "):
        with_stop(lambda: registry.models["torn"].load())
    assert all(with_stop(registry.group(kind)["torn"].check) for kind in ("model", "metric", "hook"))
    done = anomaly(*command_line(tmp_path))
    assert done.code == 0, done.err


def with_stop(work: Callable[[], Any]) -> Any:
    """As a command does it: with signal handlers of its own."""
    with stoppable():
        return work()


@each
def test_an_observer_that_raises_anything_costs_nothing(
    error: BaseException, rogue: Any, anomaly: Callable[..., Any], tmp_path: Path
) -> None:
    rogue["scored"] = raising(error)
    done = anomaly(*command_line(tmp_path))
    assert done.code == 0 and "the hook anomaly_scored of anomaly-rogue:rogue 0.3 failed" in done.err
    assert "\x1b" not in done.err and manifest(tmp_path)["status"] == "complete"


@pytest.mark.parametrize(("place", "error"), spread("metric", "update", "compute", "curves"))
def test_a_metric_that_raises_anything_costs_its_own_value(
    place: str, error: BaseException, rogue: Any, tmp_path: Path
) -> None:
    named = ["rogue", "auroc"] if len(place) % 2 else None
    rogue[place] = raising(error)
    if isinstance(error, KeyboardInterrupt):  # without a command, that is the user's
        with pytest.raises(KeyboardInterrupt):
            run_experiment(config(tmp_path, **{"base.metrics": named}))
        return
    (run,) = run_experiment(config(tmp_path, **{"base.metrics": named})).runs
    assert run.metrics["auroc"] == 1
    if place == "curves":
        assert run.metrics["rogue"] == 0.5
    else:
        assert run.metrics["rogue"] is None and "in anomaly-rogue 0.3" in run.undefined["rogue"]
    assert "the metric 'rogue'" in (run.folder / "log.txt").read_text()


@each
def test_a_command_names_its_distribution_and_may_end_itself(
    error: BaseException, rogue: Any, anomaly: Callable[..., Any]
) -> None:
    rogue["command"] = raising(error)
    done = anomaly("rogue")
    if isinstance(error, SystemExit):
        assert done.code == 0 and done.err == ""
    else:
        assert done.code == 1 and "in anomaly-rogue 0.3 (" in done.err and len(done.err) < 5000 and "\x1b" not in done.err


def test_what_a_plugin_does_to_the_process_is_undone(
    rogue: Any, anomaly: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def disturb(history: Any) -> Any:
        os.chdir(elsewhere)
        sys.stdout = io.StringIO()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return history

    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    rogue["fit"] = disturb
    done = anomaly(*command_line(tmp_path, **{"base.output": "runs"}))
    assert done.code == 0, done.err
    assert "results in" in done.out and list(elsewhere.iterdir()) == [] and Path.cwd() == tmp_path
    assert manifest(tmp_path / "runs")["status"] == "complete" and signal.getsignal(signal.SIGTERM) is before


def test_a_plugin_that_ends_the_process_leaves_a_run_that_is_not_complete(rogue: Any, tmp_path: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    rogue["fit"] = lambda _: os._exit(0)
    child = os.fork()
    if not child:
        run_experiment(config(tmp_path, model="rogue"))
        os._exit(7)
    assert os.waitpid(child, 0)[1] == 0  # nobody can tell the caller; the folder tells the truth
    assert manifest(tmp_path)["status"] == "running"
    (path,) = tmp_path.rglob("manifest.json")
    with pytest.raises(RunError, match="is 'running', not complete"):
        RunFolder.open(path.parent)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_is_no_plugins_fault(name: str, code: int, rogue: Any, anomaly: Callable[..., Any], tmp_path: Path) -> None:
    if signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
        pytest.skip(f"{name} is ignored here, as nohup has it")
    rogue["collect"] = lambda _: signal.raise_signal(getattr(signal, name))
    done = anomaly(*command_line(tmp_path))
    assert (done.code, manifest(tmp_path)["status"]) == (code, "interrupted")
