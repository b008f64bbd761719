"""The hooks of a run's life: guarded observers, found by entry point."""

from __future__ import annotations

import pytest

from anomaly_core import ConfigError, Hooks, PluginError, Registry

pytestmark = pytest.mark.usefixtures("core_alone")


@pytest.fixture
def observe(distributions):
    """Install the distribution anomaly-NAME, whose observers are the given source."""

    def install(name: str, source: str, *, version: str = "1.2.3", more: dict[str, str] | None = None) -> None:
        head = "import anomaly_core\nfrom anomaly_core import HookSpec, hookimpl\n"
        distributions.install(
            f"anomaly-{name}",
            version,
            points={"hooks": {name: f"fake_{name}:OBSERVERS", **(more or {})}},
            files={
                f"fake_{name}.py": f"{head}OBSERVERS = HookSpec(target='fake_{name}_hooks:{name}')\n",
                f"fake_{name}_hooks/__init__.py": f"{head}from fake_{name}_hooks import {name}\n",
                f"fake_{name}_hooks/{name}.py": f"{head}{source}",
            },
        )

    return install


@pytest.fixture
def failures():
    return []


def test_an_observer_gets_what_it_asks_for(observe, failures):
    observe(
        "diary",
        "@hookimpl\ndef anomaly_log(metrics, step):\n    metrics['seen'] = step\n"
        "@hookimpl\ndef anomaly_run_start(run):\n    run.append('start')\n"
        "@hookimpl\ndef anomaly_run_end(run, results):\n    run.append(results)\n"
        "@hookimpl\ndef anomaly_run_error(error, run):\n    run.append(error)\n",
    )
    hooks = Hooks(Registry(), failures.append)
    run: list[object] = []
    metrics: dict[str, float] = {}
    hooks.call("anomaly_configure", config=None)
    hooks.call("anomaly_run_start", run=run)
    hooks.call("anomaly_log", run=run, metrics=metrics, step=4)
    hooks.call("anomaly_run_end", run=run, results="results")
    error = ValueError("x")
    hooks.call("anomaly_run_error", run=run, error=error)
    assert (run, metrics, failures) == (["start", "results", error], {"seen": 4}, [])


@pytest.mark.parametrize("raising", ["raise ValueError('ink is empty')", "raise SystemExit('ink is empty')"])
def test_an_observer_that_fails_is_told_once_and_the_others_are_called(observe, failures, raising):
    observe("bad", f"@hookimpl(tryfirst=True)\ndef anomaly_run_start(run):\n    {raising}\n", version="0.7")
    observe("diary", "@hookimpl\ndef anomaly_run_start(run):\n    run.append('diary')\n")
    hooks = Hooks(Registry(), failures.append)
    run: list[str] = []
    hooks.call("anomaly_run_start", run=run)
    hooks.call("anomaly_run_start", run=run)
    assert run == ["diary", "diary"]
    (text,) = failures
    for word in ("anomaly_run_start", "anomaly-bad:bad 0.7", "ink is empty", "The run goes on"):
        assert word in text


def test_first_and_last_are_respected(observe, failures):
    for name, option in [("aa", "trylast"), ("bb", "tryfirst")]:
        observe(name, f"@hookimpl({option}=True)\ndef anomaly_run_start(run):\n    run.append('{name}')\n")
    observe("cc", "@hookimpl\ndef anomaly_run_start(run):\n    run.append('cc')\n")
    run: list[str] = []
    Hooks(Registry(), failures.append).call("anomaly_run_start", run=run)
    assert run == ["bb", "cc", "aa"]


def test_a_keyboard_interrupt_passes(observe, failures):
    observe("slow", "@hookimpl\ndef anomaly_run_start(run):\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        Hooks(Registry(), failures.append).call("anomaly_run_start", run=None)
    assert failures == []


def test_configure_may_refuse_and_nothing_else_may(observe, failures):
    source = "@hookimpl\ndef {name}({argument}):\n    raise anomaly_core.ConfigError('no seed, no run')\n"
    observe(
        "guard", source.format(name="anomaly_configure", argument="config") + source.format(name="anomaly_log", argument="step")
    )
    hooks = Hooks(Registry(), failures.append)
    with pytest.raises(ConfigError, match="no seed, no run"):
        hooks.call("anomaly_configure", config=None)
    hooks.call("anomaly_log", run=None, metrics={}, step=1)
    assert len(failures) == 1


def test_a_bug_in_configure_is_a_warning(observe, failures):
    observe("guard", "@hookimpl\ndef anomaly_configure(config):\n    config.nothing\n")
    Hooks(Registry(), failures.append).call("anomaly_configure", config=None)
    assert "AttributeError" in failures[0]


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("@hookimpl\ndef anomaly_run_strat(run):\n    pass\n", "unknown hook 'anomaly_run_strat'"),
        ("@hookimpl\ndef anomaly_log(steps):\n    pass\n", "steps"),
        ("@hookimpl(wrapper=True)\ndef anomaly_run_end(run):\n    return (yield)\n", "anomaly_run_end is a wrapper"),
    ],
)
def test_hooks_that_would_never_be_called_are_an_error(observe, failures, source, cause):
    observe("odd", source)
    with pytest.raises(PluginError, match=cause) as caught:
        Hooks(Registry(), failures.append)
    for word in ("anomaly-odd:odd 1.2.3", "anomaly_run_start, anomaly_log", "--no-plugin anomaly-odd:odd"):
        assert word in str(caught.value)


def test_observers_that_are_registered_twice_are_an_error(observe, failures):
    observe("twice", "", more={"again": "fake_twice:OBSERVERS"})
    with pytest.raises(PluginError, match=r"anomaly-twice:twice 1.2.3 cannot be used: Plugin already registered"):
        Hooks(Registry(), failures.append)


def test_observers_that_cannot_be_loaded_are_a_warning(observe, failures, distributions):
    observe("bad", "import a_package_that_is_not_there\n")
    observe("diary", "@hookimpl\ndef anomaly_run_start(run):\n    run.append('diary')\n")
    distributions.install("anomaly-new", points={"hooks": {"new": "nowhere:X"}}, requires=["anomaly-core>=99"])
    run: list[str] = []
    Hooks(Registry(), failures.append).call("anomaly_run_start", run=run)
    assert run == ["diary"]
    assert [name in text for name, text in zip(("anomaly-bad", "anomaly-new"), failures, strict=True)] == [True, True]


def test_blocked_observers_are_left_alone(observe, failures, monkeypatch):
    observe("bad", "import a_package_that_is_not_there\n")
    monkeypatch.setenv("ANOMALY_BLOCK", "anomaly-bad")
    Hooks(Registry(), failures.append).call("anomaly_run_start", run=None)
    assert failures == []
