"""``anomaly doctor``: healthy here; what is broken is named, with exit code 1, and nothing secret is printed."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from anomaly_core import registry, run_experiment
from anomaly_doctor import doctor as module
from anomaly_doctor.doctor import doctor
from tiny.runs import config

pytestmark = pytest.mark.usefixtures("tiny")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(doctor, list(arguments), catch_exceptions=False)


def test_healthy(tmp_path: Path) -> None:
    output = tmp_path / "runs"
    done = run("--output", str(output))
    assert done.exit_code == 0, done.output
    assert done.output.rstrip().endswith("healthy")
    for part in ("python", "torch", "anomaly-core", "writable", "memory", "usable"):
        assert part in done.output
    assert re.search(r"anomaly-tiny 1\.2\.3 +ok", done.output)
    assert not output.exists(), "looking writes nothing"


def test_json(tmp_path: Path) -> None:
    found = json.loads(run("--json", "--output", str(tmp_path)).stdout)
    assert found["healthy"] is True
    assert found["problems"] == []
    assert {"system", "libraries", "extras", "plugins", "devices", "folders", "variables"} <= set(found["sections"])
    assert set(found["sections"]["plugins"].values()) == {"ok"}


def test_a_broken_plugin_and_one_for_another_core(distributions, tmp_path: Path) -> None:
    distributions.install(
        "anomaly-torn",
        points={"models": {"torn": "torn.plugin:TORN"}},
        files={"torn/plugin.py": "import no_such_module_anywhere\n"},
    )
    distributions.install("anomaly-old", points={"models": {"old": "old:OLD"}}, requires=["anomaly-core<0.0.1"])
    registry.refresh()
    done = run("--output", str(tmp_path))
    assert done.exit_code == 1
    for part in (
        "model torn: broken",
        "the model 'torn' of anomaly-torn 1.2.3",
        "no_such_module_anywhere",
        "anomaly-old 1.2.3: model old is incompatible",
    ):
        assert part in done.output
    assert re.search(r"anomaly-tiny 1\.2\.3 +ok", done.output)
    assert done.output.rstrip().endswith("broken")


def test_two_of_one_name(distributions, tmp_path: Path) -> None:
    for name in ("anomaly-a", "anomaly-b"):
        distributions.install(name, points={"metrics": {"same": "tiny.plugin:AUROC"}})
    registry.refresh()
    done = run("--output", str(tmp_path))
    assert done.exit_code == 1
    assert "metric same is in conflict" in done.output


def test_blocked_is_not_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALY_BLOCK", "anomaly-tiny")
    registry.refresh()
    done = run("--output", str(tmp_path))
    monkeypatch.undo()
    registry.refresh()
    assert done.exit_code == 0, done.output
    assert "model palette: blocked by ANOMALY_BLOCK" in done.output


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("--output", str(tmp_path / "file" / "runs"))
    assert done.exit_code == 1
    assert "cannot be written" in done.output


def test_no_secret_and_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALY_API_KEY", "hunter2")
    monkeypatch.setenv("ANOMALY_PROXY", "http://alice:hunter2@proxy.example:8080/x")
    monkeypatch.setenv("ANOMALY_BACKBONES", str(Path.home() / "weights"))
    monkeypatch.setenv("UNRELATED_TOKEN", "hunter2")
    output = run("--output", str(tmp_path)).output
    assert "hunter2" not in output
    assert "UNRELATED" not in output
    assert "http://proxy.example:8080/x" in output
    assert "~/weights" in output.replace("\\", "/")


@pytest.mark.reliability("fault")
@pytest.mark.skipif(os.name == "nt", reason="there, every user has a home folder")
def test_a_user_without_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a user ID that no list knows."""
    import pwd

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert run("--output", str(tmp_path)).output.rstrip().endswith("healthy")


def test_torch_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    real = importlib.import_module

    def torn(name: str, package: str | None = None):
        if name == "torch":
            raise OSError("libtorch_cpu.so: cannot open shared object file")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", torn)
    done = run("--output", str(tmp_path))
    assert done.exit_code == 1
    assert "torch cannot be imported: OSError: libtorch_cpu.so" in done.output


def test_without_torch_it_is_sound_and_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    real, installed = importlib.import_module, module.distributions

    def absent(name: str, package: str | None = None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, package)

    def fewer(name: str) -> Any:
        return iter(()) if name in ("torch", "accelerate", "safetensors") else installed(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    monkeypatch.setattr(module, "distributions", fewer)
    report = json.loads(run("--json", "--output", str(tmp_path)).stdout)
    assert report["healthy"] is True
    assert "torch not installed" in json.dumps(report["sections"]).replace('": "', " ")
    assert any('pip install "anomaly-core[train]"' in note for note in report["notes"])


@pytest.mark.reliability("fault")
def test_damaged_distributions_are_problems_and_the_rest_is_examined(tmp_path: Path, distributions: Any) -> None:
    info = distributions.install("anomaly-harm", points={"metrics": {"harm": "collections:Counter"}})
    (info / "METADATA").write_bytes(b"Name: anomaly-harm\nRequires-Dist: ??\nAuthor: \xff\n")
    (distributions.site / "anomaly_core-0.0.1.dist-info").mkdir()
    registry.refresh()
    report = json.loads(run("--json", "--output", str(tmp_path)).stdout)
    assert report["healthy"] is False and {"system", "libraries", "devices", "folders"} <= set(report["sections"])
    problems = "\n".join(report["problems"])
    assert f"anomaly-harm unknown in {distributions.site.resolve()} is damaged: its METADATA is not valid UTF-8" in problems
    assert f"Remove {str(info)!r}" in problems
    assert "anomaly-core unknown" in problems and "its metadata is that of unknown, and 0.1.0 is running" in problems
    registry.refresh()


@pytest.mark.reliability("fault")
def test_hooks_that_no_run_can_use_are_a_problem_and_no_end(tmp_path: Path, distributions: Any) -> None:
    source = """
        from anomaly_core import HookSpec, hookimpl
        SPEC = HookSpec(target="misspelt:OBSERVERS")
        class OBSERVERS:
            @hookimpl
            def anomaly_run_strat(run):
                pass
    """
    distributions.install("anomaly-misspelt", points={"hooks": {"misspelt": "misspelt:SPEC"}}, files={"misspelt.py": source})
    registry.refresh()
    done = run("--output", str(tmp_path))
    assert done.exit_code == 1 and "unknown hook 'anomaly_run_strat'" in done.output and "devices" in done.output
    registry.refresh()


@pytest.fixture(scope="module")
def finished(tiny: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_experiment(config(tmp_path_factory.mktemp("finished"))).folder


@pytest.mark.reliability("fault")
def test_a_finished_run_is_as_it_was_written_or_the_files_are_named_that_are_not(finished: Path, tmp_path: Path) -> None:
    done = run(str(finished))
    assert done.exit_code == 0 and done.output.rstrip().endswith("healthy"), done.output
    assert done.output.count("as the run wrote it") == 9
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    with (folder / "predictions.csv").open("a") as file:
        file.write(" ")
    (folder / "calibration.json").unlink()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    done = run(str(folder), "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 1 and found["healthy"] is False
    damaged = ["calibration.json", "model.safetensors", "predictions.csv"]
    assert sorted(name for name, state in found["sections"]["files"].items() if state == "differs") == damaged
    assert len(found["problems"]) == 3 and all(any(name in text for text in found["problems"]) for name in damaged)


@pytest.mark.reliability("fault")
def test_a_run_whose_manifest_knows_no_file_is_not_healthy(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "files": {}}))
    assert run(str(folder)).output.count("is not what the run wrote") == 9
    (folder / "manifest.json").write_text(json.dumps({**manifest, "status": "failed", "error": "ValueError: no"}))
    done = run(str(folder))
    assert done.exit_code == 1 and "ValueError: no" in done.output and "--resume" in done.output
    for text in ("[]", "{", "[" * 100_000):
        (folder / "manifest.json").write_text(text)
        done = run(str(folder))
        assert done.exit_code == 1 and "manifest.json" in done.output and done.output.rstrip().endswith("broken")


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    for path, words in ((tmp_path, "no run's folder"), (tmp_path / "notes.txt", "neither a run's folder nor")):
        done = run(str(path))
        assert done.exit_code == 1 and words in done.output


def test_a_variable_that_names_nothing_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANOMALY_BLOCK", "anomaly-tiny:auroc, Pallette,anomaly_tiny")
    notes = json.loads(run("--json", "--output", str(tmp_path)).stdout)["notes"]
    assert [note for note in notes if "ANOMALY_BLOCK names" in note] == [
        "ANOMALY_BLOCK names Pallette, and nothing that is installed has that name."
    ]
