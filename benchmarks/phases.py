"""Runs the command `anomaly` with a clock in each phase of a run, set from outside; whole_run.py and growth.py read it.

    python benchmarks/phases.py OUT.json run --model patchcore --data elpv ...

Functions are wrapped by name when their module is imported. A name that this version of the code lacks is left out, so that the
same script measures older commits; OUT.json lists what was missing. Seconds are of the main thread, and each counts once, in
the innermost phase: what other threads do meanwhile shows only as waiting.
"""

from __future__ import annotations

import atexit
import builtins
import functools
import importlib
import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGUN = time.time()

CORE, PATCHCORE, FEATURES = "anomaly_core", "anomaly_patchcore", "anomaly_features"
SCREENING, COMPILED, NETWORK, IMPORTS, REST = "screening", "engine compiled", "network", "imports", "the rest"
PHASES = {
    SCREENING: [f"{CORE}.run.runner:_Run._split"],
    "decoding": [
        "torch.utils.data.dataloader:_BaseDataLoaderIter.__next__",
        f"{CORE}.base.data:SampleDataset.__getitems__",
    ],
    "weights loaded": [f"{CORE}.run.fitting:Fitter._built"],
    COMPILED: [
        *(f"anomaly_export.compilers:{name}" for name in ("onnx", "openvino", "openvino_bf16")),
        "anomaly_export.quantised:openvino_int8",
    ],
    NETWORK: [f"{FEATURES}.network:FrozenNetwork.forward"],
    "embed, search, map": [
        *(f"{PATCHCORE}.patchcore.model:PatchCoreModel.{name}" for name in ("embed", "score", "forward")),
        *(f"{PATCHCORE}.padim.model:PaDiMModel.{name}" for name in ("embed", "score", "forward", "distances")),
    ],
    "coreset": [f"{PATCHCORE}.patchcore.modeler:PatchCoreModeler.build", f"{PATCHCORE}.padim.modeler:PaDiMModeler.build"],
    "cross-fitting, calibration": [
        f"{CORE}.run.fitting:Fitter._cross_fit",
        f"{CORE}.run.cross_fitting:NormalScores.calibration",
    ],
    "metrics": [f"{CORE}.run.evaluation:Evaluator.update", f"{CORE}.run.evaluation:Evaluator.evaluation"],
    "files written": [f"{CORE}.run.folder:RunFolder.{name}" for name in ("write", "write_rows", "write_state", "write_result")],
}
HOOKS = f"{CORE}.hooks:Hooks.call"
PICTURES, END = "pictures", "hooks at the end"


class Clock:
    """Seconds and calls of each phase, in the main thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self.idle_mb = self.network_mb = 0.0  # before the first image; what compiling and the network's first batch add
        self.peaks: dict[str, float] = defaultdict(float)
        self.missing: list[str] = []
        self._now = [REST]
        self._last = time.perf_counter()
        self._thread = threading.get_ident()
        self._pending = [(phase, name) for phase, names in PHASES.items() for name in names] + [("", HOOKS)]

    def enter(self, phase: str) -> None:
        self._switch()
        self.calls[phase] += phase != self._now[-1]
        self._now.append(phase)

    def leave(self) -> None:
        self._switch()
        self._now.pop()

    def _switch(self) -> None:
        now = time.perf_counter()
        self.seconds[self._now[-1]] += now - self._last
        self._last = now

    def timed(self, function: Callable[..., Any], phase: str | Callable[..., str]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self._thread:
                return function(*args, **kwargs)
            name = phase if isinstance(phase, str) else phase(*args)
            held = resident_mb()
            if name in (SCREENING, NETWORK) and not self.idle_mb:
                self.idle_mb = held
            if name == SCREENING and hasattr(args[-1], "warm_up"):  # now, not while images are screened: two figures, not one
                self.enter(COMPILED)
                args[-1].warm_up(args[0].device)
                self.leave()
                self.network_mb = resident_mb() - held
            self.enter(name)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()
                self.peaks[name] = max(self.peaks[name], resident_mb())
                if name == NETWORK and self.calls[name] == 1:
                    self.network_mb += resident_mb() - held

        return wrapper

    def importing(self, load: Callable[..., Any]) -> Callable[..., Any]:
        """An import function that counts what it loads as imports, and then wraps what was loaded."""

        @functools.wraps(load)
        def wrapper(name: str, *args: Any, **kwargs: Any) -> Any:
            if name in sys.modules or threading.get_ident() != self._thread:
                return load(name, *args, **kwargs)
            self.enter(self._now[-1] if self._now[-1] in (PICTURES, END) else IMPORTS)  # what pictures alone need is theirs
            try:
                return load(name, *args, **kwargs)
            finally:
                self.leave()
                self.wrap()

        return wrapper

    def wrap(self) -> None:
        """Wrap every function whose module is loaded by now."""
        for item in list(self._pending):
            phase, name = item
            module_name, _, path = name.partition(":")
            module = sys.modules.get(module_name)
            if module is None or getattr(module.__spec__, "_initializing", False):
                continue
            self._pending.remove(item)
            *parents, last = path.split(".")
            owner: Any = module
            for part in parents:
                owner = getattr(owner, part, None)
            function = vars(owner).get(last) if owner is not None else None
            if function is None:
                self.missing.append(name)
            else:
                setattr(owner, last, self.timed(function, phase or _phase_of_hook))

    def write(self, path: Path) -> None:
        """Leave what was measured; later writes would count less."""
        self._switch()
        seconds = dict(self.seconds)
        memory = {"idle_mb": self.idle_mb, "network_mb": self.network_mb, "held_mb": self.peaks}
        facts = {"begun": BEGUN, "seconds": seconds, "calls": self.calls, **memory, "missing": self.missing}
        path.write_text(json.dumps({**facts, "ended": time.time()}), encoding="utf-8")


def _phase_of_hook(_: object, name: str, *__: object) -> str:
    if name == "anomaly_run_end":
        return END
    return PICTURES if name in ("anomaly_scored", "anomaly_tested", "anomaly_normals_scored", "anomaly_calibrated") else REST


def resident_mb() -> float:
    """The memory that this process holds now, in MiB."""
    import psutil

    return float(psutil.Process().memory_info().rss) / 2**20


def main(out: str, arguments: list[str]) -> None:
    clock = Clock()
    # "from package import name" loads a module although its package is loaded: importlib's own entry sees these too
    builtins.__import__ = clock.importing(builtins.__import__)
    importlib.import_module = clock.importing(importlib.import_module)
    path = Path(out).absolute()
    atexit.register(clock.write, path)  # the first that is registered is the last that runs
    leave = os._exit

    def exit_now(status: int) -> None:
        if threading.get_ident() == clock._thread:
            clock.write(path)
        leave(status)

    os._exit = exit_now  # type: ignore[assignment]
    from anomaly_core import main as anomaly

    sys.argv = ["anomaly", *arguments]
    anomaly(arguments)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder is no part of what is measured
    main(sys.argv[1], sys.argv[2:])
