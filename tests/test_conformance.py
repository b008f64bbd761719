"""Every installed component passes the conformance kit; methods do in test_methods.py, data sets in their plugin's tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner

from anomaly_core.cli.check import check as check_command
from anomaly_core.registry import registry
from anomaly_core.testing import parametrize_with_checks

KINDS = ("trainer", "metric", "backbone", "command", "hook", "engine")
COMPONENTS = [(kind, name) for kind in KINDS for name in registry.group(kind)]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """LPIPS's weights are not looked for on the network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@parametrize_with_checks(*COMPONENTS)
def test_conformance(check: Callable[[], None]) -> None:
    check()


def test_the_command_shows_a_row_a_check_and_fails_with_one(tmp_path) -> None:
    table = tmp_path / "table.md"
    result = CliRunner().invoke(check_command, ["image_auroc", "--markdown", str(table)])
    assert result.exit_code == 0, result.output
    assert "tells_good_from_bad" in result.output
    assert "1 component: 8 passed" in result.output
    assert "| metric | `image_auroc` | anomaly-core | 8 | 0 | 0 | 0 |" in table.read_text()
    result = CliRunner().invoke(check_command, ["image_auroc", "--only", "importable", "--expect-failure", "importable=not so"])
    assert result.exit_code == 1
    assert "Take the expectation away" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nothing"], "nothing that is installed is called 'nothing'"),
        (["image_auroc", "--only", "no_check"], "no check is called 'no_check'"),
        (["image_auroc", "--expect-failure", "exports"], "expected CHECK=REASON"),
        (["image_auroc", "--kind", "model"], "nothing that is installed is image_auroc and of kind model"),
    ],
)
def test_the_command_says_what_it_cannot_do(arguments: list[str], word: str) -> None:
    result = CliRunner().invoke(check_command, arguments)
    assert result.exit_code != 0
    assert word in str(result.exception)


def test_the_checks_are_listed() -> None:
    result = CliRunner().invoke(check_command, ["--list"])
    for kind in ("model", "dataset", *KINDS):
        assert f"{kind}\n" in result.output
    assert "higher_is_more_anomalous" in result.output
