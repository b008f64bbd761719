"""Drift: images until the alarm, alarms without a change, and false alarms of the detector before and after recalibration.

    ANOMALY_BLOCK=anomaly-report OMP_NUM_THREADS=1 python benchmarks/drift.py
    ANOMALY_BLOCK=anomaly-report OMP_NUM_THREADS=1 python benchmarks/drift.py --sets nut tiles --tiles DIR

SubspaceAD's `edge` preset on ELPV mono and on two categories of `sample`, whose test images are changed in light, sharpness,
place, compression and angle; and on magnetic tiles, fitted on exposures 1 and 2, whose stream goes on with exposures 3 to 6 of
other tiles. Each image is scored once in each change (kept in experiments/drift); streams are drawn from these scores with
replacement, with 4 % of defective images. Per change: the median over draws of the images from the change to the alarm, after
150 without it; how far the first image that the alarm names is off; false alarms of the detector among normal images, at the
run's threshold and at the one that 200 recent images propose, which then judges the other half of the normal images; recall
likewise. Without a change: alarms in streams of 10,000 images, and in streams of random numbers whose reference has 50, 200 and
650. Writes results/drift.json and prints the tables of docs/guides/drift.md.
"""

from __future__ import annotations

import argparse
import json
import random
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import bench
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from anomaly_core import ANOMALOUS, Calibration, Detector, RunConfig, RunFolder, Sample, build_data, run_experiment
from anomaly_drift import FACTS, DriftMonitor, Reference, image_facts, recalibrated
from anomaly_predict import open_detector

OUTPUT = Path("experiments/drift")
RESULTS = Path(__file__).parent / "results" / "drift.json"
NORMAL_IMAGES, DEFECTIVE_IMAGES, BATCH = 150, 25, 8
BEFORE, AFTER, SHARE, RECENT, LONG = 150, 300, 0.04, 200, 10_000
Change = Callable[[Image.Image], Image.Image]


class Pool(NamedTuple):
    """Images in one change: float (n,) scores and {fact: (n,)}, of normal and of defective ones."""

    normal: NDArray[np.float64]
    defective: NDArray[np.float64]
    facts: list[dict[str, float]]  # of the normal ones, then of the defective ones


# ---- changes


def lit(factor: float) -> Change:
    return lambda image: image.point(lambda value: min(round(value * factor), 255))


def blurred(share: float) -> Change:
    return lambda image: image.filter(ImageFilter.GaussianBlur(share * image.width))


def moved(share: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        pixels, step = np.asarray(image), round(share * image.width)
        return Image.fromarray(np.pad(pixels, ((0, 0), (step, 0), (0, 0)), mode="edge")[:, : image.width])

    return change


def compressed(quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        file = BytesIO()
        image.save(file, "jpeg", quality=quality)
        return Image.open(file).convert("RGB")

    return change


def turned(degrees: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        margin = max(image.size) // 8
        wide = Image.fromarray(np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), mode="reflect"))
        box = (margin, margin, margin + image.width, margin + image.height)
        return wide.rotate(degrees, Image.Resampling.BICUBIC).crop(box)

    return change


CHANGES: dict[str, Change] = {
    "none": lambda image: image,
    "10 % darker": lit(0.9),
    "5 % brighter": lit(1.05),
    "15 % brighter": lit(1.15),
    "30 % brighter": lit(1.3),
    "blur of 0.3 % of the width": blurred(0.003),
    "blur of 0.8 %": blurred(0.008),
    "shift by 2 % of the width": moved(0.02),
    "shift by 5 %": moved(0.05),
    "JPEG, quality 50": compressed(50),
    "JPEG, quality 15": compressed(15),
    "rotation by 2 degrees": turned(2),
    "rotation by 5 degrees": turned(5),
}


# ---- images, scored once


def config(name: str, tiles: str) -> RunConfig:
    common: dict[str, Any] = {"base.output": str(OUTPUT / "runs"), "base.pictures": 0, "base.device": "cpu"}
    if name == "elpv":
        return RunConfig.create(model="subspace", data="elpv", preset="edge", overrides={**common, "data.category": ["mono"]})
    if name == "tiles":
        own = {"data.root": tiles, "data.by_tile": True, "data.exposures": [1, 2]}
        return RunConfig.create(model="subspace", data="magnetic_tile", preset="edge", overrides={**common, **own})
    counts = {"data.train_count": 200, "data.good_count": NORMAL_IMAGES, "data.bad_count": DEFECTIVE_IMAGES}
    own = {"data.category": [name], "data.root": str(OUTPUT / "sample"), **counts}
    return RunConfig.create(model="subspace", data="sample", preset="edge", overrides={**common, **own})


def finished(name: str, tiles: str) -> tuple[RunFolder, list[Sample]]:
    """A finished run, of this call or an earlier one, and the images that it tests."""
    chosen = config(name, tiles)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (result,) = run_experiment(chosen, resume=True).runs
    if name == "tiles":
        chosen = chosen.replace(**{"data.test_exposures": [1, 2, 3, 4, 5, 6]})
    data = build_data(chosen)
    return RunFolder.open(result.folder), data.test_samples(
        data.categories()[0] if name == "tiles" else str((chosen.data.category or [name])[0])
    )


def pool(detector: Detector, samples: list[Sample], change: str, kept: Path) -> Pool:
    """The images in a change, scored now or by an earlier call."""
    normal, defective = ([one for one in samples if (one.label == ANOMALOUS) is bad] for bad in (False, True))
    if kept.is_file():
        values = json.loads(kept.read_text())
        scores, facts = np.array(values["scores"]), values["facts"]
    else:
        rows = list(scored(detector, [*normal, *defective], CHANGES[change]))
        scores, facts = np.array([score for score, _ in rows]), [own for _, own in rows]
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({"scores": scores.tolist(), "facts": facts}))
    return Pool(scores[: len(normal)], scores[len(normal) :], facts)


def scored(detector: Any, samples: list[Sample], change: Change) -> Iterator[tuple[float, dict[str, float]]]:
    for start in range(0, len(samples), BATCH):
        images = [change(Image.open(sample.path).convert("RGB")) for sample in samples[start : start + BATCH]]
        placed = [detector.place(image) for image in images]
        for image, answer in zip(placed, detector.score(placed), strict=True):
            yield float(answer.score), image_facts(image)


# ---- streams


def stream(draw: np.random.Generator, pool: Pool, count: int, calibration: Calibration) -> Iterator[dict[str, Any]]:
    """Arguments of ``update`` for images drawn from a pool with replacement."""
    for _ in range(count):
        is_bad = len(pool.defective) > 0 and draw.random() < SHARE
        place = int(draw.integers(len(pool.defective if is_bad else pool.normal)))
        score = float((pool.defective if is_bad else pool.normal)[place])
        yield {
            "p_value": calibration.p_value(score),
            "facts": pool.facts[place + is_bad * len(pool.normal)],
            "id": str(draw.random()),
            "is_anomalous": calibration.is_anomalous(score),
        }


def until_alarm(reference: Reference, before: Pool, after: Pool, draws: int) -> dict[str, Any]:
    """Images from the change to the alarm, and from it to the first image that the alarm names; alarms before it."""
    delays: list[float] = []
    firsts, early, texts = [], 0, []
    for seed in range(draws):
        draw, monitor = np.random.default_rng(seed), DriftMonitor(reference)
        early += sum(monitor.update(**one) is not None for one in stream(draw, before, BEFORE, reference.calibration))
        for one in stream(draw, after, AFTER, reference.calibration):
            alarm = monitor.update(**one)
            if alarm is not None:
                delays.append(alarm.number - BEFORE)
                firsts.append(alarm.since_number - BEFORE - 1)
                texts.append(alarm.text)
                break
        else:
            delays.append(np.inf)
    middle = float(np.median(delays))
    return {
        "images": None if middle == np.inf else middle,
        "at_most": None if max(delays) == np.inf else max(delays),
        "missed": int(np.isinf(delays).sum()),
        "first_image_off_by": float(np.median(np.abs(firsts))) if firsts else None,
        "early": early,
        "text": texts[len(texts) // 2] if texts else "",
    }


def without_change(reference: Reference, pool: Pool, draws: int) -> dict[str, Any]:
    """Alarms in long streams of images that stay as they are."""
    alarms, texts = 0, []
    for seed in range(draws):
        monitor = DriftMonitor(reference)
        for one in stream(np.random.default_rng(1000 + seed), pool, LONG, reference.calibration):
            if (alarm := monitor.update(**one)) is not None:
                alarms += 1
                texts.append(alarm.text)
    return {"images": draws * LONG, "alarms": alarms, "per_10000": alarms / draws * 10_000 / LONG, "texts": texts[:3]}


def numbers(count: int, draws: int) -> dict[str, Any]:
    """The same of random numbers: each draw has a reference of its own."""
    alarms = 0
    for seed in range(draws):
        draw = np.random.default_rng(seed)

        def drawn(size: int, draw: np.random.Generator = draw) -> Pool:
            values = 100 + 10 * draw.standard_normal((size, len(FACTS)))
            facts = [dict(zip(FACTS, map(float, row), strict=True)) for row in values]
            bad = [dict(zip(FACTS, map(float, row), strict=True)) for row in 100 + 30 * draw.standard_normal((50, len(FACTS)))]
            return Pool(draw.gamma(4, size=size), 20 + draw.gamma(4, size=50), facts + bad)

        own = drawn(count)
        calibration = Calibration(None, 0.01, count, "numbers", scores=tuple(np.sort(own.normal).tolist())).at_rate(0.01)
        monitor = DriftMonitor(Reference.of(calibration, own.facts[:count]))
        alarms += sum(monitor.update(**one) is not None for one in stream(draw, drawn(LONG), LONG, calibration))
    return {"images": draws * LONG, "alarms": alarms, "per_10000": alarms / draws * 10_000 / LONG}


def recalibration(calibration: Calibration, pool: Pool, draws: int) -> dict[str, Any]:
    """False alarms and recall at the run's threshold and at the proposed one, in a change."""
    rates, recalls, refused = [], [], 0
    for seed in range(draws):
        draw = np.random.default_rng(seed)
        order = draw.permutation(len(pool.normal))
        seen, fresh = pool.normal[order[: len(order) // 2]], pool.normal[order[len(order) // 2 :]]
        bad = draw.random(RECENT) < SHARE
        recent = np.where(bad, draw.choice(pool.defective, RECENT), draw.choice(seen, RECENT))
        proposal = recalibrated(calibration, recent.tolist())
        if proposal.calibration is None:
            refused += 1
            continue
        threshold = proposal.calibration.threshold or np.inf
        rates.append(float(np.mean(fresh > threshold)))
        recalls.append(float(np.mean(pool.defective > threshold)))
    old = calibration.threshold or np.inf
    return {
        "false_alarms_drifted": float(np.mean(pool.normal > old)),
        "recall_drifted": float(np.mean(pool.defective > old)),
        "false_alarms_recalibrated": float(np.mean(rates)) if rates else None,
        "recall_recalibrated": float(np.mean(recalls)) if recalls else None,
        "refused": refused,
    }


# ---- the whole


def measured(name: str, tiles: str, draws: int) -> dict[str, Any]:
    run, samples = finished(name, tiles)
    detector = open_detector(run.folder, "cpu")
    reference = Reference.near(run.folder, calibration := run.calibration())
    folder = OUTPUT / "scores" / name
    if name == "tiles":
        parts = {
            f"exposure {number}" if number > 2 else "none": [s for s in samples if s.extra["exposure"] in exposures]
            for number, exposures in ((1, (1, 2)), *((one, (one,)) for one in (3, 4, 5, 6)))
        }
        pools = {key: pool(detector, own, "none", folder / f"{key}.json") for key, own in parts.items()}
    else:
        shuffled = random.Random(0).sample(samples, len(samples))
        normal, bad = ([s for s in shuffled if (s.label == ANOMALOUS) is flag] for flag in (False, True))
        own = [*normal[:NORMAL_IMAGES], *bad[:DEFECTIVE_IMAGES]]
        pools = {key: pool(detector, own, key, folder / f"{key}.json".replace(" ", "-")) for key in CHANGES}
    before, rows = pools["none"], {}
    for key, changed in pools.items():
        rows[key] = recalibration(calibration, changed, draws)
        if key != "none":
            rows[key] |= until_alarm(reference, before, changed, draws)
        print(name, key, json.dumps(rows[key]), flush=True)
    quiet = without_change(reference, before, 5)
    print(name, "without a change", json.dumps(quiet), flush=True)
    return {"scores": calibration.count, "scored_by": calibration.scored_by, "changes": rows, "without_change": quiet}


def table(results: dict[str, Any]) -> str:
    """Markdown."""

    def share(value: float | None) -> str:
        return "none proposed" if value is None else f"{100 * value:.1f} %"

    lines = [
        "| set | change | images until the alarm | false alarms then | recalibrated | found then | recalibrated |",
        "| --- " * 7 + "|",
    ]
    for name, found in results["sets"].items():
        for key, row in found["changes"].items():
            images = "" if key == "none" else f"more than {AFTER}" if row["images"] is None else f"{row['images']:.0f}"
            names = ("false_alarms_drifted", "false_alarms_recalibrated", "recall_drifted", "recall_recalibrated")
            cells = [share(row[name]) for name in names]
            lines.append(f"| {name} | {key} | {' | '.join([images, *cells])} |")
    lines += ["", "| without a change | images | alarms | in 10,000 |", "| --- | --- | --- | --- |"]
    quiet = {name: found["without_change"] for name, found in results["sets"].items()}
    for name, row in {**quiet, **results["numbers"]}.items():
        lines.append(f"| {name} | {row['images']:,} | {row['alarms']} | {row['per_10000']:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="How soon drift is told, and how often for nothing.")
    parser.add_argument("--sets", nargs="*", default=["elpv", "fabric", "nut", "tiles"], help="%(default)s")
    parser.add_argument("--tiles", default="data/magnetic-tile", metavar="DIR", help="where the magnetic tiles lie")
    parser.add_argument("--draws", type=int, default=20, metavar="N", help="streams a change (%(default)s)")
    parser.add_argument("--numbers", type=int, default=5, metavar="N", help="long streams of random numbers (%(default)s)")
    given = parser.parse_args()
    print(bench.machine())
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"sets": {}, "numbers": {}}
    results["machine"] = bench.machine()
    for name in given.sets:
        results["sets"][name] = measured(name, given.tiles, given.draws)
    for count in (50, 200, 650) if given.numbers else ():
        results["numbers"][f"random numbers, a reference of {count}"] = numbers(count, given.numbers)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
