"""``anomaly list-plugins``: metadata alone, unless it is asked to check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise

import pytest
from click.testing import CliRunner

from anomaly_core import registry
from anomaly_doctor import list_plugins as module
from anomaly_doctor.list_plugins import list_plugins

pytestmark = pytest.mark.usefixtures("core_alone")
FIELDS = ["kind", "name", "distribution", "version", "location", "status", "reason"]
SOURCE = """
    from pathlib import Path
    from anomaly_core import MetricSpec

    Path(__file__).with_suffix(".imported").touch()
    GOOD = MetricSpec(target="collections:Counter")
    WRONG = MetricSpec(target="collections:Missing")
"""


@pytest.fixture
def installed(distributions):
    """``good`` works; ``wrong``, of another distribution, has a target that is not there."""
    distributions.install("anomaly-good", points={"metrics": {"good": "fake_good:GOOD"}}, files={"fake_good.py": SOURCE})
    distributions.install("anomaly-wrong", points={"metrics": {"wrong": "fake_good:WRONG"}})
    registry.refresh()
    yield distributions
    registry.refresh()


@pytest.fixture
def listing(installed):
    """Run the command; exit code and, with --json, name -> object."""

    def call(*arguments: str):
        registry.refresh()
        done = CliRunner().invoke(list_plugins, list(arguments))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.output
        return done.exit_code, {row["name"]: row for row in json.loads(done.output)} if "--json" in arguments else done.output

    return call


def test_json_says_what_is_installed_and_imports_nothing(installed, listing):
    code, rows = listing("--json")
    assert code == 0
    assert list(rows["good"]) == FIELDS
    assert list(rows["good"].values()) == ["metric", "good", "anomaly-good", "1.2.3", str(installed.site.resolve()), "ok", ""]
    assert rows["wrong"]["status"] == "ok"
    assert rows["run"]["distribution"] == "anomaly-core"
    assert not (installed.site / "fake_good.imported").exists()


def test_check_imports_each_and_fails_for_the_broken_one(installed, listing):
    code, rows = listing("--json", "--check")
    assert code == 1
    assert (installed.site / "fake_good.imported").exists()
    assert (rows["good"]["status"], rows["good"]["reason"]) == ("ok", "")
    assert rows["wrong"]["status"] == "broken"
    assert "anomaly-wrong 1.2.3" in rows["wrong"]["reason"] and "collections:Missing" in rows["wrong"]["reason"]


def test_check_passes_where_all_is_well(listing, monkeypatch):
    monkeypatch.setenv("ANOMALY_PLUGINS", "anomaly-good")
    code, rows = listing("--json", "--check", "--kind", "metric")
    assert (code, rows["good"]["status"], rows["wrong"]["status"]) == (0, "ok", "blocked")


def test_check_finds_the_broken_one_of_a_conflict(installed, listing):
    installed.install("anomaly-third", points={"metrics": {"third": "fake_good:GOOD"}})
    installed.install("anomaly-fourth", points={"metrics": {"third": "fake_good:WRONG"}})
    registry.refresh()
    done = CliRunner().invoke(list_plugins, ["--json", "--check"])
    statuses = {row["distribution"]: row["status"] for row in json.loads(done.output) if row["name"] == "third"}
    assert (done.exit_code, statuses) == (1, {"anomaly-third": "conflict", "anomaly-fourth": "broken"})


def test_an_incompatible_plugin_fails_the_check_and_not_the_list(installed, listing):
    installed.install("anomaly-new", points={"metrics": {"new": "fake_good:GOOD"}}, requires=["anomaly-core>=99"])
    (installed.site / "anomaly_wrong-1.2.3.dist-info" / "entry_points.txt").unlink()
    code, rows = listing("--json")
    assert (code, rows["new"]["status"]) == (0, "incompatible")
    assert listing("--check")[0] == 1


def test_kind_shows_one_kind(listing):
    _, rows = listing("--json", "--kind", "command")
    assert "run" in rows and {row["kind"] for row in rows.values()} == {"command"}
    assert CliRunner().invoke(list_plugins, ["--kind", "shoe"]).exit_code == 2


def test_piped_text_has_one_line_a_component_and_its_reason_beneath(installed, listing, monkeypatch):
    monkeypatch.setenv("ANOMALY_BLOCK", "wrong")
    code, text = listing("--kind", "metric")
    lines = text.splitlines()
    good = next(line for line in lines if " good " in line)
    assert good.split() == ["metric", "good", "anomaly-good", "1.2.3", "ok", str(installed.site.resolve())]
    reason = next(after for line, after in pairwise(lines) if " wrong " in line)
    assert reason.strip() == "blocked by ANOMALY_BLOCK"
    assert code == 0 and "─" not in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_narrow_terminal_keeps_every_name(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    long = "tf_efficientnet_lite0.in1k"
    row = dict.fromkeys(FIELDS, "metric") | {
        "distribution": "anomaly-of-somebody-else",
        "name": long,
        "location": "/somewhere/" + "deep/" * 60,
        "reason": "because [of] this",
    }
    module._print_table([row])
    text = capsys.readouterr().out
    assert any(long in line for line in text.splitlines() if "│" in line)
    assert max(map(len, text.splitlines())) <= width
    assert "".join(line.split("│")[-2].strip() for line in text.splitlines() if "│" in line) == row["location"]
    assert "because [of] this" in " ".join(text.split())


def test_no_torch_and_no_plugin_is_imported(installed):
    code = (
        "import sys\nfrom anomaly_doctor.list_plugins import list_plugins\n"
        "list_plugins(['--json'], standalone_mode=False)\n"
        "print('torch' in sys.modules, 'rich' in sys.modules, 'fake_good' in sys.modules, file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed.site)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False False False"
    assert "good" in {row["name"] for row in json.loads(done.stdout)}
    assert not (installed.site / "fake_good.imported").exists()


@pytest.mark.reliability
def test_a_plugin_whose_import_executes_code_is_listed_and_not_imported(distributions, canary, tmp_path, record):
    source = f"open({str(canary)!r}, 'w').close()\n"
    groups = ("models", "datasets", "trainers", "metrics", "backbones", "commands", "hooks", "engines", "executors")
    distributions.install(
        "evil", points={g: {f"evil-{g}": "evil_plugin:SPEC"} for g in groups}, files={"evil_plugin.py": source}
    )
    program = (
        f"import sys; sys.path.insert(0, {str(distributions.site)!r}); from anomaly_core.cli import main; main(sys.argv[1:])"
    )
    for arguments in (["list-plugins"], ["list-plugins", "--json"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
        assert "list" not in arguments[0] or "evil-models" in done.stdout
    record("security", "a plugin whose import executes code, listed")


@pytest.mark.parametrize("encoding", ["cp1252", "cp437"])
def test_a_name_that_the_console_cannot_show_is_escaped(distributions, process, encoding):
    distributions.install("anomaly-größe", points={"metrics": {"検査": "nowhere:X"}})
    done = process("list-plugins", "--kind", "metric", PYTHONPATH=str(distributions.site), PYTHONIOENCODING=encoding)
    assert done.code == 0 and done.err == ""
    assert "\\u691c\\u67fb" in done.out
    done = process("list-plugins", "--json", PYTHONPATH=str(distributions.site), PYTHONIOENCODING=encoding)
    assert {row["name"]: row["distribution"] for row in json.loads(done.out)}["検査"] == "anomaly-größe"


def test_what_lacks_a_library_is_unavailable_and_no_failure(distributions, anomaly, monkeypatch):
    source = """
        from anomaly_core import EngineSpec
        QUICK = EngineSpec(target="fake_quick:quick", module="nowhere_to_be_found", install='pip install "anomaly-quick[fast]"')
    """
    distributions.install("anomaly-quick", points={"engines": {"quick": "fake_quick:QUICK"}}, files={"fake_quick.py": source})
    monkeypatch.setenv("ANOMALY_PLUGINS", "anomaly-quick,anomaly-doctor")
    registry.refresh()
    done = anomaly("list-plugins", "--check", "--json", "--kind", "engine")
    (row,) = json.loads(done.out)
    assert (done.code, row["status"]) == (0, "unavailable") and 'pip install "anomaly-quick[fast]"' in row["reason"]
    registry.refresh()


@pytest.mark.reliability("fault")
@pytest.mark.parametrize("form", [(), ("--json",), ("--kind", "command")])
def test_a_damaged_distribution_is_named_whatever_is_listed(form, distributions, process):
    info = distributions.install("anomaly-harm", points={"models": {"harm": "os:path"}})
    (info / "METADATA").write_bytes(b"Name: anomaly-harm\nAuthor: \xff\n")
    done = process(
        "list-plugins", *form, timeout=30, PYTHONPATH=f"{distributions.site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    )
    assert done.code == 0 and done.err == ""
    assert "anomaly-harm" in done.out and "its METADATA is not valid UTF-8" in done.out
    if form == ("--json",):
        assert [row["status"] for row in json.loads(done.out) if row["kind"] == "distribution"] == ["damaged"]
