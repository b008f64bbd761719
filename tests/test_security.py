"""Nobody gets in: files that are loaded execute nothing, names stay below their folder, text stays text."""

from __future__ import annotations

import ast
import csv
import io
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from anomaly_core import RunConfig, load_run
from anomaly_core.backbones import Backbones
from anomaly_core.benchmark import Cell
from anomaly_core.calibration import Calibration
from anomaly_core.cli import cli
from anomaly_core.cli.run import print_summary
from anomaly_core.errors import AnomalyError
from anomaly_core.experiment import Experiment
from anomaly_core.inputs import read_image
from anomaly_core.results import ExperimentResult, RunResult
from anomaly_core.spreadsheet import guarded, plain
from anomaly_core.tables import Summary, to_csv, to_latex, to_markdown
from anomaly_core.trainers.checkpoint import LAST, Checkpoints

pytestmark = [
    pytest.mark.reliability,
    # torch's word on files that are no torch files, before it refuses them
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
]

HOUSE = Path(__file__).parents[1]
SOURCES = sorted([*HOUSE.glob("anomaly_core/**/*.py"), *HOUSE.glob("plugins/*/src/**/*.py"), *HOUSE.glob("tools/*.py")])
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "marshal.loads", "marshal.load", "shelve.open",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads", "dill.load", "dill.loads",
    "joblib.load", "torch.hub.load", "torch.jit.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all",
    "pandas.read_pickle",
}  # fmt: skip
# A call that the rule forbids and that is harmless: file and function -> why.
ALLOWED: dict[tuple[str, str], str] = {
    ("anomaly_core/config.py", "yaml.load"): "its loader is a child of SafeLoader",
    ("plugins/anomaly-report/src/anomaly_report/runs.py", "yaml.load"): "its loader is CSafeLoader or SafeLoader",
    ("plugins/anomaly-export/src/anomaly_export/sessions.py", "torch.jit.load"): "TorchScript is no pickle of Python",
    ("plugins/anomaly-export/src/anomaly_export/writers.py", "torch.jit.load"): "the file that it wrote itself",
}


def dotted(node: ast.expr, imported: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, imported)}.{node.attr}"
    return imported.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def imports(tree: ast.Module) -> dict[str, str]:
    """What a module's imports call by another name -> its full name."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom):
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def offences(source: str) -> list[str]:
    """The calls in a module's source that can execute what they load."""
    found = []
    tree = ast.parse(source)
    imported = imports(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func, imported)
        options = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        if (
            name in FORBIDDEN_CALLS
            or (name == "torch.load" and options.get("weights_only") is not True)
            or (name == "numpy.load" and options.get("allow_pickle"))
            or (name == "yaml.load" and "SafeLoader" not in ast.dump(node))
            or (name.startswith("subprocess.") and options.get("shell"))
        ):
            found.append(name)
    return found


def test_no_source_can_execute_what_it_loads(record) -> None:
    assert len(SOURCES) > 100
    for path in SOURCES:
        where = path.relative_to(HOUSE).as_posix()
        wrong = [name for name in offences(path.read_text(encoding="utf-8")) if (where, name) not in ALLOWED]
        assert not wrong, f"{where} calls {wrong}"
    record("security", "source files searched for pickle, eval, exec, unsafe YAML, shells", len(SOURCES))


@pytest.mark.parametrize(
    "line",
    [
        "pickle.loads(x)", "torch.load(p)", "torch.load(p, weights_only=False)", "yaml.load(t, Loader=yaml.Loader)", "eval(x)",
        "yaml.load(t)", "joblib.load(p)", "import numpy as np\nnp.load(p, allow_pickle=True)", "exec(x)",
        "subprocess.run(x, shell=True)",
        "from pickle import loads\nloads(x)", "import pickle as p\np.loads(x)", "from torch import load as read\nread(p)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(line: str) -> None:
    assert offences(line)
    assert not offences(
        "import numpy as np\ntorch.load(p, weights_only=True)\nyaml.safe_load(t)\nnp.load(p)\nmodel.eval()\nre.compile(x)"
    )


class Canary:
    """An object whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that must not be there afterwards."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "a file that was loaded has executed code"


@pytest.fixture(scope="module")
def finished(commands: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    small = {"data.size": 64, "data.train_count": 6, "data.good_count": 2, "data.bad_count": 5, "model.image_size": 64,
             "train.epochs": 1, "base.pictures": 0, "data.root": folder / "data"}  # fmt: skip
    sets = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    start = ["run", "--model", "vanilla_ae", "--data", "sample", "--preset", "edge", "--category", "fabric"]
    done = commands(*start, "--output", folder / "runs", "--no-plugin", "anomaly-report", *sets)
    assert done.code == 0, done.err
    return next((folder / "runs").rglob("manifest.json")).parent


def test_the_canary_sings_when_it_is_let(tmp_path: Path) -> None:
    """The files below do execute code in the hands of a loader that allows it."""
    torch.save(Canary(tmp_path / "a"), tmp_path / "file.pt")
    torch.load(tmp_path / "file.pt", weights_only=False)
    pickle.loads(pickle.dumps(Canary(tmp_path / "b")))
    np.save(tmp_path / "file.npy", np.array([Canary(tmp_path / "c")], dtype=object), allow_pickle=True)
    np.load(tmp_path / "file.npy", allow_pickle=True)
    assert all((tmp_path / name).exists() for name in ("a", "b", "c"))


def poisons(canary: Path) -> dict[str, bytes]:
    """Malicious files of each kind."""
    saved, old, array, packed = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"weight": Canary(canary)}, saved)
    torch.save({"weight": Canary(canary)}, old, _use_new_zipfile_serialization=False)
    np.save(array, np.array([Canary(canary)], dtype=object), allow_pickle=True)
    joblib.dump(Canary(canary), packed)
    plain_pickle = pickle.dumps(Canary(canary))
    return {
        "torch": saved.getvalue(), "old torch": old.getvalue(), "pickle": plain_pickle, "npy": array.getvalue(),
        "joblib": packed.getvalue(),
    }  # fmt: skip


KINDS = ("torch", "old torch", "pickle", "npy", "joblib")


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_a_run(finished, canary, tmp_path, kind, record) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "model.safetensors").write_bytes(poisons(canary)[kind])
    with pytest.raises(AnomalyError, match=r"model\.safetensors"):
        load_run(folder)
    record("security", f"a malicious {kind} file as a run's weights")


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_a_backbone(canary, tmp_path, kind, suffix, record) -> None:
    from anomaly_core.backbones import _read

    path = tmp_path / f"resnet18{suffix}"
    path.write_bytes(poisons(canary)[kind])
    with pytest.raises(AnomalyError, match="resnet18"):
        _read(path)
    record("security", f"a malicious {kind} file as a backbone {suffix}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint(canary, tmp_path, kind, record) -> None:
    from anomaly_core.base.trainer import RunContext

    (tmp_path / LAST).parent.mkdir()
    (tmp_path / LAST).write_bytes(poisons(canary)[kind])
    network = torch.nn.Linear(1, 1)
    context = RunContext(folder=tmp_path, resume=True)
    checkpoints = Checkpoints(network, torch.optim.SGD(network.parameters(), 0.1), None, None, context)  # type: ignore[arg-type]
    with pytest.raises(AnomalyError, match="cannot be resumed"):
        checkpoints.load()
    record("security", f"a malicious {kind} file as a checkpoint")


@pytest.mark.parametrize("kind", KINDS)
def test_an_image(canary, tmp_path, kind, record) -> None:
    (tmp_path / "image.png").write_bytes(poisons(canary)[kind])
    with pytest.raises(AnomalyError, match=r"image\.png"):
        read_image(tmp_path / "image.png")
    record("security", f"a malicious {kind} file as an image")


YAML = (
    "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.PosixPath [{}]]",
    "!!python/object/new:os.system ['touch {}']",
    "base: !!python/name:os.system\nmodel: !!python/object/apply:os.system ['touch {}']",
)


@pytest.mark.parametrize("text", YAML)
def test_a_config_a_run_and_a_value(finished, canary, tmp_path, text, monkeypatch, record) -> None:
    poison = text.format(canary)
    (tmp_path / "evil.yaml").write_text(poison)
    for attempt in (
        lambda: RunConfig.create(config=tmp_path / "evil.yaml"),
        lambda: RunConfig.create(model="vanilla_ae", data="sample", overrides=dict([_assignment(f"base.seed={poison}")])),
        lambda: load_run(_with(finished, tmp_path / "run", "config.yaml", poison)),
    ):
        with pytest.raises(AnomalyError):
            attempt()
    from anomaly_report.runs import read_sections

    assert read_sections(poison) == {}
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "evil.yaml").write_text(poison)
    monkeypatch.setattr("anomaly_core.config._preset_folder", lambda component: folder)
    with pytest.raises(AnomalyError):
        RunConfig.create(model="vanilla_ae", data="sample", preset="evil")
    record("security", "malicious YAML as a config, a run's config, a preset and a --set value", 5)


def _assignment(text: str) -> tuple[str, Any]:
    from anomaly_core.config import parse_assignment

    return parse_assignment(text)


def _with(finished: Path, folder: Path, name: str, text: str) -> Path:
    shutil.copytree(finished, folder)
    (folder / name).write_text(text)
    return folder


def test_listing_imports_no_plugin(distributions, canary, tmp_path, record) -> None:
    source = f"open({str(canary)!r}, 'w').close()\n"
    groups = ("models", "datasets", "trainers", "metrics", "backbones", "commands", "hooks")
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


@pytest.mark.parametrize("name", ["..", ".", "", "../../x", "/etc", "a/../../b", "..\\..\\x", "C:\\x", "a\0b", " ", "...", "~"])
def test_no_name_leaves_the_output_folder(tmp_path, name, record) -> None:
    output = tmp_path / "deep" / "output"
    for parts in (("d", name, "m"), (name, "c", "m"), ("d", "c", name), (name, name, name)):
        folder = Experiment.create(str(output), *parts).folder
        assert len(folder.relative_to(output).parts) == 4 and ".." not in folder.parts
        assert folder.resolve().is_relative_to(output.resolve())
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["output"]
    record("security", f"a data set, category or model named {name!r}", 4)


def test_a_category_that_is_a_path_is_refused(commands, tmp_path) -> None:
    done = commands("run", "--model", "vanilla_ae", "--data", "sample", "--preset", "edge", "--set", f"data.root={tmp_path}",
                    "--set", "data.size=64", "--set", "data.train_count=2", "--category", "../../x",
                    "--output", tmp_path / "runs")  # fmt: skip
    assert done.code == 2 and "no category '../../x'" in done.err and not (tmp_path / "runs").exists()


FORMULAS = ("=1+1", "+cmd|'/C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "'=1", "''=1", '=HYPERLINK("http://x")')


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula_and_none_is_lost(tmp_path, text, record) -> None:
    experiment = Experiment(tmp_path)
    row = {"path": text, "category": text, "defect": text, "score": "-0.5", "label": 1}
    experiment.write_rows("rows.csv", [row])
    with (tmp_path / "rows.csv").open(newline="") as file:
        (cells,) = csv.DictReader(file)
    assert cells["path"].startswith("'") and cells["score"] == "-0.5"
    (again,) = experiment.read_rows("rows.csv")
    assert again == {**row, "label": "1"}
    record("security", f"a file, category or defect named {text!r} in CSV", 3)


def test_other_text_stays_as_it_is() -> None:
    for text in ("a=b", "/data/=x.png", "'quoted'", "", "-1.5e-3", "nan", "é"):
        assert guarded(text) == text and plain(text) == text
    assert guarded(-3) == -3


HOSTILE = (
    "[/bold]",
    "[link=http://x]a[/link]",
    "a | b\nc",
    "<script>alert(1)</script>",
    r"\input{/etc/passwd}",
    "~^_%$#&{}",
    "=1+1",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_in_every_table(tmp_path, name, capsys, record) -> None:
    calibration = Calibration(1.0, 0.01, 3, "3 held-out normal images")
    run = RunResult(tmp_path, name, {"image_auroc": 0.9}, {}, [], calibration, 1.0, 1.0, {name: {"image_auroc": 0.9}})
    print_summary(ExperimentResult([run]))
    shown = capsys.readouterr().out
    assert name.split()[0][:12] in shown
    cells = [Cell("d", name, "m", seed, {}, "", {"image_auroc": 0.5}) for seed in (0, 1)] + [
        Cell("d", name, "n", 0, {}, error=name)
    ]
    summary = Summary(cells)
    lines = to_markdown(summary).splitlines()
    assert len({line.replace("\\|", "").count("|") for line in lines[2:6]}) == 1
    assert not any("<script" in line for line in lines)
    latex = to_latex(summary)
    assert r"\input" not in latex and "_%" not in latex.replace(r"\_\%", "")
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in csv.reader(io.StringIO(to_csv(summary))) for cell in row)
    from anomaly_core.cli.benchmark import print_grid

    print_grid(summary)
    record("security", f"a category named {name!r} in the tables on the screen and in Markdown, LaTeX and CSV", 4)


def test_hostile_values_stay_text_in_the_pages(finished, tmp_path, monkeypatch, record) -> None:
    """Every element of the pages is one that the pages of a harmless run have too."""
    from anomaly_report.figures.all import PLANS, Drawn

    monkeypatch.setattr("anomaly_report.report.write_figures", lambda run: [Drawn(plan) for plan in PLANS])
    hostile = "</script><img src=x onerror=alert(1)><svg/onload=alert(2)>\"'`"
    folder = tmp_path / "runs" / "run"
    shutil.copytree(finished, folder)
    harmless, harmless_board = _elements(folder), _elements(tmp_path / "runs", "leaderboard.html")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"category": hostile, "warnings": [hostile], "versions": {hostile: hostile}, "seed": hostile}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    rows = Experiment(folder).read_rows("predictions.csv")
    rows = [{**row, "path": f"/data/{hostile}{n}.png", "category": hostile, "defect": hostile} for n, row in enumerate(rows)]
    Experiment(folder).write_rows("predictions.csv", rows)
    config = (folder / "config.yaml").read_text().replace("preset: edge", f"preset: {json.dumps(hostile)}")
    (folder / "config.yaml").write_text(config)
    for expected, found in ((harmless, _elements(folder)), (harmless_board, _elements(tmp_path / "runs", "leaderboard.html"))):
        assert not found["handlers"] and set(found["tags"]) <= set(expected["tags"])
        assert found["tags"].count("script") == expected["tags"].count("script")
        assert found["tags"].count("img") == expected["tags"].count("img")
    record("security", "hostile file, category, defect and preset names, warnings and versions in report and leaderboard", 7)


def _elements(folder: Path, page: str = "report.html") -> dict[str, list[str]]:
    from html.parser import HTMLParser

    found: dict[str, list[str]] = {"tags": [], "handlers": []}

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found["tags"].append(tag)
            found["handlers"] += [name for name, _ in attrs if name.startswith("on")]

    done = CliRunner().invoke(cli, ["report", str(folder)])
    assert done.exit_code == 0, done.output
    Reader().feed((folder / page).read_text(encoding="utf-8"))
    return found


def test_backbones_are_looked_for_in_their_folders_alone(tmp_path) -> None:
    with pytest.raises(AnomalyError):
        Backbones(str(tmp_path)).load("../../etc/passwd")
