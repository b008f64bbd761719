"""How long the command line takes to answer, to import what a run needs, to end, and what the allocator saves: whole processes.

python benchmarks/startup.py
python benchmarks/startup.py --peer /path/to/another/venv/bin/anomalib   # its --help beside ours
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import bench

IMPORTS = "import torch, anomaly_core.run.runner, anomaly_features.extractor"
NETWORK = """
import resource, sys, torch
from anomaly_core import keep_memory
if sys.argv[1] == "keep": keep_memory()
import timm
network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 3)).eval()
images = torch.rand(32, 3, 224, 224)
with torch.inference_mode():
    network(images)
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(3): network(images)
after = resource.getrusage(resource.RUSAGE_SELF)
user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
print((after.ru_minflt - before.ru_minflt) / 96, 1e3 * user / 96, 1e3 * system / 96, after.ru_maxrss / 1024)
"""


def process(*command: str) -> Callable[[], object]:
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", metavar="PROGRAM", help="another program whose --help is timed")
    peer = parser.parse_args().peer
    program = str(Path(sys.executable).with_name("anomaly"))
    sides = {
        " ".join(["anomaly", *words]): process(program, *words) for words in (("--help",), ("list-plugins",), ("show", "padim"))
    }
    sides["python -c 'import torch'"] = process(sys.executable, "-c", "import torch")
    sides["what a run imports"] = process(sys.executable, "-c", f"{IMPORTS}, os; os._exit(0)")
    sides["with plain `import timm`"] = process(sys.executable, "-c", f"import timm; {IMPORTS}, os; os._exit(0)")
    sides["and the usual teardown"] = process(sys.executable, "-c", f"import timm; {IMPORTS}")
    if peer:
        sides[f"{Path(peer).name} --help"] = process(peer, "--help")
    print(bench.machine())
    seconds = bench.in_turn(sides)
    ours = seconds["anomaly --help"]
    print(f"\n{'':28}{'seconds':>9}{'x':>7}")
    for name, value in seconds.items():
        print(f"{name:28}{value:9.2f}{value / ours:7.1f}")
    if sys.platform == "linux":
        print(f"\n{'an image of a batch of 32':28}{'faults':>9}{'user ms':>9}{'system ms':>11}{'peak MB':>9}")
        for name in ("usual", "keep", "usual", "keep"):  # in turn
            values = subprocess.run([sys.executable, "-c", NETWORK, name], check=True, capture_output=True, text=True).stdout
            faults, user, system, peak = map(float, values.split())
            print(f"{name:28}{faults:9.0f}{user:9.1f}{system:11.1f}{peak:9.0f}")


if __name__ == "__main__":
    main()
