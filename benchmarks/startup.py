"""How long the command line takes to answer: whole processes, in turn.

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
    if peer:
        sides[f"{Path(peer).name} --help"] = process(peer, "--help")
    print(bench.machine())
    seconds = bench.in_turn(sides)
    ours = seconds["anomaly --help"]
    print(f"\n{'':28}{'seconds':>9}{'x':>7}")
    for name, value in seconds.items():
        print(f"{name:28}{value:9.2f}{value / ours:7.1f}")


if __name__ == "__main__":
    main()
