"""What a loader's workers do where a container gives little shared memory, or none: the run goes on, with one warning."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from anomaly_core import Batch, InputSpec, RunError
from anomaly_core.run.memory import explained
from tiny.config import TreeConfig
from tiny.data import Tree, write_tree

PATIENCE = 60  # seconds

# A container's shared memory: small, full, or not writable, in a mount namespace of its own.
PROGRAM = """
import json, sys, warnings
from anomaly_core import InputSpec
from anomaly_core.run.memory import explained
from tiny.config import TreeConfig
from tiny.data import Tree

tree = Tree(TreeConfig(name="tree", root=sys.argv[1], holdout=0.0, batch_size=2, num_workers=2))
total = 0.0
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("default")
    try:
        for _ in range(2):
            for batch in tree.loader(tree.train_samples("cloth"), InputSpec((512, 512)), shuffle=True):
                total += float(batch.images.double().sum())
    except OSError as error:
        print(json.dumps({"error": str(explained(error))}))
        sys.exit()
texts = [str(item.message) for item in caught if "/dev/shm" in str(item.message)]
print(json.dumps({"total": total, "texts": texts}))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Six normal training images, two good and two bad test images, in batches of two."""
    return Tree(TreeConfig(name="tree", root=str(write_tree(tmp_path / "cloth")), holdout=0.0, batch_size=2, num_workers=2))


def loader(tree: Tree) -> DataLoader[Batch]:
    loader = tree.loader([*tree.test_samples("cloth"), *tree.train_samples("cloth")], InputSpec((32, 32)))
    loader.timeout = PATIENCE if loader.num_workers else 0  # so that a batch that is lost is an error here
    return loader


@pytest.mark.reliability("fault")
@pytest.mark.skipif(sys.platform != "linux", reason="its workers must inherit what is taken away here")
@pytest.mark.parametrize("reason", ["No space left on device (28)", "Too many open files (24)"])
def test_batches_arrive_where_shared_memory_has_no_room(reason: str, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list(loader(tree))

    def full(*_: object) -> None:
        raise RuntimeError(f"unable to allocate shared memory(shm) for file </torch_1_2_3>: {reason}")

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", full)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        batches = list(loader(tree))
    texts = [str(item.message) for item in caught if "shared memory" in str(item.message)]
    assert len(texts) == 1 and "data.num_workers" in texts[0]
    assert len(batches) == len(expected) == 5
    for batch, other in zip(batches, expected, strict=True):
        assert batch.samples == other.samples
        assert batch.masks is not None and other.masks is not None
        for name in ("images", "labels", "masks", "has_mask"):
            assert torch.equal(getattr(batch, name), getattr(other, name))
            assert getattr(batch, name).dtype == getattr(other, name).dtype


def test_a_full_shared_memory_is_named_where_no_file_is() -> None:
    error = explained(OSError(28, "No space left on device"))
    assert isinstance(error, RunError) and "data.num_workers=0" in str(error)
    assert "data.num_workers" not in str(explained(OSError(28, "No space left on device", "/x")))


def in_container(mount: str, root: Path, folder: Path) -> dict[str, object]:
    """The program's answer where ``/dev/shm`` is another, in a mount namespace of its own."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount")
    script = folder / "program.py"
    script.write_text(PROGRAM)
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$0" "$@"', sys.executable, str(script), str(root)]
    done = subprocess.run(
        command, capture_output=True, check=True, text=True, timeout=PATIENCE, env={**os.environ, "PYTHONPATH": path}
    )
    assert "Traceback" not in done.stderr
    return dict(json.loads(done.stdout))


ONLY_ROOT = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may mount another /dev/shm")


@ONLY_ROOT
@pytest.mark.slow
@pytest.mark.reliability("fault")
def test_a_container_with_little_shared_memory(tree: Tree, tmp_path: Path) -> None:
    answer = in_container("mount -t tmpfs -o size=1m tmpfs /dev/shm", tree.root, tmp_path)
    tree.config.num_workers = 0
    batches = tree.loader(tree.train_samples("cloth"), InputSpec((512, 512)))
    total = math.fsum(float(image.double().sum()) for batch in batches for image in batch.images)
    assert answer["total"] == pytest.approx(2 * total, rel=1e-9)
    (text,) = answer["texts"]  # type: ignore[misc]
    assert "has no room for what data.num_workers processes decode" in text


@ONLY_ROOT
@pytest.mark.slow
@pytest.mark.reliability("fault")
def test_a_container_without_shared_memory(tree: Tree, tmp_path: Path) -> None:
    mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm && mount -o remount,ro /dev/shm"
    error = str(in_container(mount, tree.root, tmp_path)["error"])
    assert "Read-only file system" in error and "/dev/shm" in error and "data.num_workers=0" in error
