"""Other processes: a fresh one that watches imports, and a worker that scores, as a cluster's would."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from typing import Any

from anomaly_core import Component
from anomaly_testing.checks import Broken, require

HEAVY = ("accelerate", "sklearn", "timm", "torch", "torchvision")
PROGRAM = """
import importlib, sys
heavy = sys.argv[1].split(",")
sys.path[:] = sys.argv[2].split("\\n")
for address in sys.argv[3:]:
    importlib.import_module(address.partition(":")[0])
    imported = sorted(set(heavy) & sys.modules.keys())
    if imported:
        sys.exit(f"importing {address.partition(':')[0]} imports {', '.join(imported)}")
"""


def imports_nothing_heavy(component: Component) -> None:
    """The modules of the spec and of its config, in a fresh process: no torch, no timm."""
    addresses = [] if component.added else [component.value]
    addresses += [component.spec.config] if getattr(component.spec, "config", "") else []
    if component.kind == "command":
        addresses.append(component.spec.target)
    if not addresses:
        return
    command = [sys.executable, "-c", PROGRAM, ",".join(HEAVY), "\n".join(sys.path), *addresses]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    last = result.stderr.strip().rpartition("\n")[2]
    require(
        result.returncode == 0, f"{last}. Import it inside the function that needs it, so that the command line stays fast."
    )


def in_worker(function: Callable[..., Any], *arguments: Any) -> Any:
    """The value of ``function(*arguments)`` in a spawned process that shares nothing with this one but its files."""
    for attempt in (1, 2):
        try:
            return _worker().submit(_call, list(sys.path), function, arguments).result(timeout=300)
        except BrokenProcessPool as error:
            _worker.cache_clear()
            if attempt == 2:  # the first time, another check may have been its end
                raise Broken("the worker process died. Run the same in a fresh Python to see why.") from error
    return None


@cache
def _worker() -> ProcessPoolExecutor:
    """One for all checks: to start it takes as long as importing torch."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _call(path: list[str], function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    sys.path[:] = path
    return function(*arguments)
