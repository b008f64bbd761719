"""Nobody gets in: no source can execute what it loads, and files of other distributions execute nothing."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly_core import AnomalyError, RunContext
from anomaly_features import Backbones
from anomaly_features.backbones import read_tensors
from anomaly_report.runs import read_sections
from anomaly_trainers.checkpoint import LAST, Checkpoints
from poison import KINDS, YAML, Canary, poisons

pytestmark = [
    pytest.mark.reliability,
    # torch's word on files that are no torch files, before it refuses them
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
]

HOUSE = Path(__file__).parents[2]


SOURCES = sorted([*HOUSE.glob("anomaly_core/**/*.py"), *HOUSE.glob("plugins/*/src/**/*.py"), *HOUSE.glob("tools/*.py")])
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "marshal.loads", "marshal.load", "shelve.open",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads", "dill.load", "dill.loads",
    "joblib.load", "torch.hub.load", "torch.jit.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all",
    "pandas.read_pickle",
}  # fmt: skip
# A call that the rule forbids and that is harmless: file and function -> why.
ALLOWED: dict[tuple[str, str], str] = {
    ("anomaly_core/config/resolve.py", "yaml.load"): "its loader is a child of SafeLoader",
    ("plugins/anomaly-report/src/anomaly_report/runs.py", "yaml.load"): "its loader is CSafeLoader or SafeLoader",
    ("plugins/anomaly-export/src/anomaly_export/sessions.py", "torch.jit.load"): "TorchScript is no pickle of Python",
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
    calls = []
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
            calls.append(name)
    return calls


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


def test_the_canary_sings_when_it_is_let(tmp_path: Path) -> None:
    """The files below do execute code in the hands of a loader that allows it."""
    torch.save(Canary(tmp_path / "a"), tmp_path / "file.pt")
    torch.load(tmp_path / "file.pt", weights_only=False)
    pickle.loads(pickle.dumps(Canary(tmp_path / "b")))
    np.save(tmp_path / "file.npy", np.array([Canary(tmp_path / "c")], dtype=object), allow_pickle=True)
    np.load(tmp_path / "file.npy", allow_pickle=True)
    assert all((tmp_path / name).exists() for name in ("a", "b", "c"))


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_a_backbone(canary, tmp_path, kind, suffix, record) -> None:
    path = tmp_path / f"resnet18{suffix}"
    path.write_bytes(poisons(canary)[kind])
    with pytest.raises(AnomalyError, match="resnet18"):
        read_tensors(path)
    record("security", f"a malicious {kind} file as a backbone {suffix}")


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint(canary, tmp_path, kind, record) -> None:
    (tmp_path / LAST).parent.mkdir()
    (tmp_path / LAST).write_bytes(poisons(canary)[kind])
    network = torch.nn.Linear(1, 1)
    context = RunContext(folder=tmp_path, resume=True)
    checkpoints = Checkpoints(network, torch.optim.SGD(network.parameters(), 0.1), None, None, context)  # type: ignore[arg-type]
    with pytest.raises(AnomalyError, match="cannot be resumed"):
        checkpoints.load()
    record("security", f"a malicious {kind} file as a checkpoint")


@pytest.mark.parametrize("text", YAML)
def test_the_config_of_a_run_that_is_reported(canary: Path, text: str, record) -> None:
    assert read_sections(text.format(canary)) == {}
    record("security", "malicious YAML as the config of a run in a leaderboard")


def test_backbones_are_looked_for_in_their_folders_alone(tmp_path) -> None:
    with pytest.raises(AnomalyError):
        Backbones(str(tmp_path)).load("../../etc/passwd")
