"""Each check of backbones, commands and hooks can fail: a plugin that is right but for one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from anomaly_core import KINDS as SPECS
from anomaly_core import BackboneSpec, CommandSpec, ComponentSpec, HookSpec
from anomaly_testing import check_component, checks_of

BACKBONE = """
from pathlib import Path

def weights():
    from anomaly_core import registry
    return registry.backbones["tf_efficientnet_lite0"].load()()
"""
COMMAND = """
import click

@click.command("wave")
@click.option("--times", default=1, help="How often.")
def command(times):
    \"\"\"Wave.\"\"\"
"""
HOOKS = """
from anomaly_core import hookimpl

class Observer:
    @hookimpl
    def anomaly_run_start(self, run):
        (run.folder / "started.txt").write_text("now")

    @hookimpl
    def anomaly_run_end(self, run, results):
        (run.folder / "ended.txt").write_text(str(results.metrics["image_auroc"]))

    @hookimpl
    def anomaly_run_error(self, run, error):
        (run.folder / "failed.txt").write_text(str(error))

    @hookimpl
    def anomaly_predicted(self, verdict, prediction):
        self.last = None if prediction is None else prediction.score

    @hookimpl
    def anomaly_doctor(self, report):
        report.notes.append("it observes")

OBSERVER = Observer()
"""
SOUND: dict[str, tuple[str, Callable[[str], ComponentSpec]]] = {
    "backbone": (BACKBONE, lambda name: BackboneSpec(target=f"{name}:weights", summary="weights", license="Apache-2.0")),
    "command": (COMMAND, lambda name: CommandSpec(target=f"{name}:command", summary="Wave.")),
    "hook": (HOOKS, lambda name: HookSpec(target=f"{name}:OBSERVER", summary="leaves notes")),
}
LAX = 'click.command("wave", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})'
# kind, check, the line that is replaced, what stands there instead, words of the reason
BROKEN = [
    (
        "backbone",
        "file_is_safe",
        'return registry.backbones["tf_efficientnet_lite0"].load()()',
        'return Path("w.pickle")',
        "no file",
    ),
    ("backbone", "timm_knows_it", "", "", "no pretrained model"),
    ("backbone", "weights_fit", "", "", "no pretrained model"),
    (
        "command",
        "is_a_command",
        '@click.command("wave")\n@click.option("--times", default=1, help="How often.")\n',
        "",
        "not a click.Command",
    ),
    ("command", "helps", ', help="How often."', "", "has no help text"),
    ("command", "helps", '    """Wave."""', "    pass", "no docstring"),
    ("command", "refuses_nonsense", 'click.command("wave")', LAX, "exit code 0"),
    ("command", "torch_free", "import click", "import click, torch", "imports torch"),
    ("hook", "observes_something", "anomaly_run_start", "anomaly_run_begin", "anomaly_run_begin"),
    ("hook", "survives_a_run", 'results.metrics["image_auroc"]', "results.metric", "no attribute"),
    ("hook", "survives_an_error", "str(error)", "error.code", "no attribute"),
    ("hook", "survives_use", "None if prediction is None else prediction.score", "prediction.score", "no attribute 'score'"),
    ("hook", "survives_use", "report.notes", "report.remarks", "no attribute 'remarks'"),
    ("hook", "leaves_the_run_alone", '"ended.txt"', '"model.safetensors"', "not what the run wrote"),
]


def spec(modules, kind: str, old: str = "", new: str = "") -> ComponentSpec:
    source, make = SOUND[kind]
    return make(modules(source, old, new))


@pytest.mark.parametrize("kind", ["command", "hook"])
def test_a_sound_plugin_passes_every_check(modules, kind: str) -> None:
    results = check_component(spec(modules, kind), kind)
    assert [outcome.check for outcome in results] == list(checks_of(kind))
    assert {outcome.status for outcome in results} == {"passed"}


def test_a_sound_backbone_passes_every_check() -> None:
    """An installed one: the name under which a bare spec is checked is no model of timm's."""
    results = check_component("tf_efficientnet_lite0", "backbone")
    assert [outcome.check for outcome in results] == list(checks_of("backbone"))
    assert {outcome.status for outcome in results} == {"passed"}


@pytest.mark.parametrize(
    ("kind", "check", "old", "new", "words"), BROKEN, ids=[f"{i}-{row[0]}-{row[1]}" for i, row in enumerate(BROKEN)]
)
def test_a_broken_plugin_fails(modules, fails, kind: str, check: str, old: str, new: str, words: str) -> None:
    fails(spec(modules, kind, old, new), check, words)


def test_weights_without_a_licence_fail(modules, fails) -> None:
    fails(replace(spec(modules, "backbone"), license=""), "states_its_licence", "has no license")


@pytest.mark.parametrize("kind", SOUND)
def test_every_check_is_proved_to_fail(kind: str, common: set[str]) -> None:
    proved = {check for other, check, *_ in BROKEN if other == kind} | common
    assert set(checks_of(kind)) == proved | ({"states_its_licence"} if kind == "backbone" else set())


def test_every_kind_has_checks() -> None:
    assert all(len(checks_of(kind)) > 4 for kind in SPECS)
