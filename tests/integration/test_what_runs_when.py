"""What SECURITY.md says of when a plugin's code runs, for every command of every distribution."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomaly_core import KINDS, known_distributions, registry
from anomaly_core.discovery import known_summary

SECURITY = pytest.mark.reliability("security")
PROMPT = "import sys; sys.argv[0] = 'anomaly'; from anomaly_core import main\n"
# Run one command line after another, each as if nothing of ours had been imported; print what each imported.
EACH = """
import contextlib, io, json, os, sys
from anomaly_core import main
answers = []
for line in json.loads(sys.argv[1]):
    for name in [name for name in sys.modules if name.startswith("anomaly_") and not name.startswith("anomaly_core")]:
        del sys.modules[name]
    from anomaly_core import registry
    registry.refresh()
    os.environ.pop("_ANOMALY_COMPLETE", None)
    if line[0] == "TAB":
        words = ["anomaly", *line[1:]]
        os.environ |= {"_ANOMALY_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    out = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), contextlib.suppress(SystemExit):
        sys.argv = ["anomaly", *line]
        main(None if line[0] == "TAB" else line)
    packages = {name.partition(".")[0] for name in sys.modules}
    answers.append([sorted(name for name in packages if name.startswith(("anomaly_", "evil"))), out.buffer.getvalue().decode()])
print(json.dumps(answers))
"""


def imported_by(lines: list[list[str]], site: Path) -> list[tuple[set[str], str]]:
    """For each command line (one that begins with TAB is completed) the packages of ours that it imported, and its output."""
    path = f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = {**os.environ, "PYTHONPATH": path}
    program = [sys.executable, "-c", EACH, json.dumps(lines)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [(set(packages) - {"anomaly_core"}, out) for packages, out in json.loads(done.stdout)]


@pytest.fixture
def evil(distributions: Any, canary: Path) -> Any:
    """A distribution with a component of every kind; importing it executes code."""
    source = f"open({str(canary)!r}, 'w').close()\n"
    points = {f"{kind}s": {f"evil-{kind}": "evil_plugin:SPEC"} for kind in KINDS}
    distributions.install("evil", points=points, files={"evil_plugin.py": source})
    registry.refresh()
    yield distributions
    registry.refresh()


@SECURITY
def test_listing_helping_and_completing_import_no_plugin(evil: Any) -> None:
    lines = [
        ["--help"],
        ["--version"],
        ["list-plugins"],
        ["list-plugins", "--json"],
        ["completion", "bash"],
        ["run", "--help"],
        ["show", "base"],
        ["TAB", ""],
        ["TAB", "evil"],
        ["TAB", "show", "evil"],
        ["TAB", "run", "--"],
        *(["TAB", "run", option, ""] for option in ("--model", "--data", "--preset", "--trainer", "--metric")),
    ]
    for line, (packages, out) in zip(lines, imported_by(lines, evil.site), strict=True):
        own = {"anomaly_doctor"} if {"list-plugins", "completion", "show"} & set(line) else set()  # they are its commands
        assert packages == own, line
        assert out or line[-2:] == ["--preset", ""], line
    (_, completed) = imported_by([["TAB", "run", "--model", "evil"]], evil.site)[0]
    assert "evil-model" in completed


@SECURITY
def test_the_help_of_a_command_imports_its_own_distribution_and_what_that_requires(evil: Any) -> None:
    commands = [component for component in registry.commands.values() if component.distribution != "evil"]
    lines = [[component.name, "--help"] for component in commands]
    foundations = {"anomaly_features", "anomaly_metrics", "anomaly_trainers", "anomaly_predict", "anomaly_doctor"}
    for component, (packages, out) in zip(commands, imported_by(lines, evil.site), strict=True):
        assert "Usage: anomaly" in out
        assert packages <= {component.distribution.replace("-", "_"), *foundations} - {"anomaly_core"}, component.name


@SECURITY
def test_presets_import_the_named_model_alone(evil: Any) -> None:
    lines = [["TAB", "run", "--model", "stfpm", "--preset", ""], ["TAB", "benchmark", "--model", "stfpm", "--preset", ""]]
    (run, out), (benchmark, again) = imported_by(lines, evil.site)
    assert run == {"anomaly_stfpm"} and benchmark == {"anomaly_stfpm", "anomaly_benchmark"}
    assert "paper" in out and "paper" in again


def test_the_help_says_of_our_commands_what_their_specs_say() -> None:
    own = {name for kind, name in known_distributions() if kind == "command"}
    for name, component in registry.commands.items():
        assert name in own or component.distribution == "anomaly-core"
        assert known_summary(component) == component.spec.summary


def test_the_help_says_of_others_what_their_metadata_says(distributions: Any, anomaly: Callable[..., Any]) -> None:
    info = distributions.install("anomaly-glow", points={"commands": {"report": "nowhere:X", "gleam": "nowhere:X"}})
    with (info / "METADATA").open("a") as file:
        file.write("Summary: Lights up.\n\nSummary: not this\n")
    registry.refresh()
    rows = {tuple(line.split(maxsplit=1)) for line in anomaly("--help").out.splitlines() if line.startswith("  ")}
    assert {("gleam", "Lights up."), ("anomaly-glow:report", "Lights up.")} <= rows
    registry.refresh()
