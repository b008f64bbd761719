"""What the threshold is worth: images held out against cross-fitting, on real and generated images.

    python benchmarks/thresholds.py --data /path/to/magnetic-tile-and-deep-pcb    # forty runs a mode; keeps features
    python benchmarks/thresholds.py --sets "ELPV mono" --seeds 2 --rows rows.jsonl

PatchCore, preset `edge`. Each seed draws which normal images train, which test, and which are held out. Asked for 1 and 5 % of
false alarms: F1 at the threshold, beside the best possible (an oracle), recall, realised false alarms, and whether their number
lies in the stated 95 % interval for so many new normal images (beta-binomial). The rows are written as they come.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from sklearn.metrics import precision_recall_curve

from anomaly_core import RunConfig, RunFolder, run_experiment
from anomaly_core.run.calibration import calibrate

RATES = (0.01, 0.05)
MODES = ("holdout", "cross")
FRAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "ELPV mono": ("elpv", {"data.category": ["mono"]}),
    "ELPV poly": ("elpv", {"data.category": ["poly"]}),
    "sample fabric": ("sample", {"data.category": ["fabric"]}),
    "sample wood": ("sample", {"data.category": ["wood"]}),
    "sample circuit": ("sample", {"data.category": ["circuit"]}),
    "sample nut": ("sample", {"data.category": ["nut"]}),
    "magnetic tile": ("magnetic_tile", {"data.root": "magnetic-tile"}),
    "DeepPCB": ("deep_pcb", {"data.root": "deep-pcb"}),
}


def measured(name: str, mode: str, seed: int, folder: Path, work: Path) -> Iterator[dict[str, Any]]:
    """A run, judged at each of the rates by the scores that it was calibrated with."""
    data, options = FRAMES[name]
    options = {key: str(folder / value) if key == "data.root" else value for key, value in options.items()}
    options |= {"data.sample_seed" if data == "sample" else "data.split_seed": seed, "base.seed": seed}
    if data == "sample":
        options["data.root"] = str(work / f"sample-{seed}")
    options |= {
        "base.calibration": mode,
        "base.pictures": 0,
        "base.output": str(work / "runs"),
        "base.metrics": ["image_auroc"],
    }
    options |= {"model.feature_cache": "disk", "model.cache_folder": str(work / "features"), "model.cache_budget": "30GiB"}
    run = run_experiment(RunConfig.create(model="patchcore", data=data, preset="edge", overrides=options)).runs[0]
    facts, scores = RunFolder.open(run.folder).manifest(), torch.tensor(run.calibration.scores)
    labels, values = zip(*((row.label, row.score) for row in run.predictions), strict=True)
    precision, recall, _ = precision_recall_curve(labels, values)
    best = max(2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True) if p + r)
    normal = [value for label, value in zip(labels, values, strict=True) if label == 0]
    defects = [value for label, value in zip(labels, values, strict=True) if label == 1]
    for rate in RATES:
        threshold = calibrate(scores, false_alarm_rate=rate).threshold
        assert threshold is not None
        found, alarms = (sum(value > threshold for value in part) for part in (defects, normal))
        above = int((scores > threshold).sum())  # the share of new scores above the threshold is Beta(above + 1, N - above)
        low, high = stats.betabinom.interval(0.95, len(normal), above + 1, len(scores) - above)
        yield {
            **{"set": name, "mode": mode, "seed": seed, "rate": rate, "auroc": run.metrics["image_auroc"]},
            **{"calibrated on": len(scores), "normal": len(normal), "defects": len(defects), "alarms": alarms},
            **{"within": bool(low <= alarms <= high), "recall": found / len(defects), "best": best},
            "f1": 2 * found / (2 * found + alarms + len(defects) - found),
            "seconds": [facts["fit_seconds"], facts["calibration_seconds"]],
        }


def table(rows: list[dict[str, Any]]) -> str:
    """Means and standard deviations over the seeds, as Markdown."""
    lines = ["| set | asked | mode | normals | F1 | best F1 | recall | false alarms | within 95 % |", "|---" * 9 + "|"]
    for key in dict.fromkeys((row["set"], row["rate"], row["mode"]) for row in rows):
        chosen = [row for row in rows if (row["set"], row["rate"], row["mode"]) == key]

        def cell(values: list[float], scale: float = 1, digits: int = 3) -> str:
            spread = f" ± {scale * statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
            return f"{scale * statistics.mean(values):.{digits}f}{spread}"

        alarms = cell([row["alarms"] / row["normal"] for row in chosen], 100, 1)
        cells = [key[0], f"{key[1]:.0%}", key[2], f"{statistics.mean(row['calibrated on'] for row in chosen):.0f}"]
        cells += [cell([row[name] for row in chosen]) for name in ("f1", "best", "recall")]
        lines.append("| " + " | ".join([*cells, f"{alarms} %", f"{sum(r['within'] for r in chosen)} of {len(chosen)}"]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ANOMALY_DATA", "data")))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "thresholds")
    parser.add_argument("--sets", nargs="+", default=list(FRAMES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=Path, help="a file of finished rows: they are not measured again")
    options = parser.parse_args()
    path = options.rows or options.work / "rows.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row["set"], row["mode"], row["seed"]) for row in rows}
    with path.open("a") as file:
        for name in options.sets:
            for mode, seed in ((mode, seed) for seed in range(options.seeds) for mode in MODES):
                if (name, mode, seed) not in done:
                    new = list(measured(name, mode, seed, options.data, options.work))
                    rows += new
                    file.writelines(json.dumps(row) + "\n" for row in new)
                    file.flush()
                    print(new[0], file=sys.stderr, flush=True)
    print(table([row for row in rows if row["set"] in options.sets]))


if __name__ == "__main__":
    main()
