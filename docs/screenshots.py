"""Takes the pictures of the service's page that the guides show: ``python docs/screenshots.py``, with Chromium and its driver.

A detector of generated nuts judges generated images; the days before are those verdicts again, with other times.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from anomaly_serve import RunningService, ServiceOptions, running_service
from anomaly_serve.identifiers import new_id

ASSETS = Path(__file__).parent / "assets"
NUT = "/page/products/nut"
COLOURS = (192, 128, 96, 64)  # of a picture's palette: as many as fit
MOST = 145_000  # bytes of a picture
ALARM = "document.querySelector('#list .row:has(.is-alarm)').click()"
DAYS, A_DAY = 14, 180  # of history, and images in each
# name -> page, width, height, dark, what is done first
PICTURES: dict[str, tuple[str, int, int, bool, str]] = {
    "serve-inspect": (f"{NUT}/inspect", 1280, 860, False, ALARM),
    "serve-inspect-dark": (f"{NUT}/inspect", 1280, 860, True, ALARM),
    "serve-inspect-tablet": (f"{NUT}/inspect", 820, 1060, False, ALARM),
    "serve-set": (f"{NUT}/set", 1280, 1150, False, ""),
    "serve-history": (f"{NUT}/history", 1280, 900, False, ""),
    "serve-teach": (f"{NUT}/teach", 1280, 900, False, ""),
    "serve-products": ("/page/", 1280, 420, True, ""),
}


def main() -> None:
    """Fit, serve, look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a folder that an earlier call wrote with --keep")
    parser.add_argument("--keep", type=Path, help="write the run and its images here, for the next call")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.run or options.keep or Path(scratch)
        if options.run is None:
            fit(work)
        with served(work, Path(scratch) / "store") as running:
            for name in take(running.url, Path(scratch)):
                print(name)


def fit(work: Path) -> None:
    """A detector of nuts, in a minute."""
    work.mkdir(parents=True, exist_ok=True)
    data = ["--data", "sample", "--category", "nut", "--set", "data.sample_train=199", "--set", "data.sample_good=60"]
    command = ["anomaly", "run", "--model", "subspace", "--preset", "edge", *data, "--set", f"data.root={work / 'data'}"]
    subprocess.run([*command, "--export", "onnx", "--output", str(work / "runs")], check=True)


@contextmanager
def served(work: Path, store: Path) -> Iterator[RunningService]:
    """The service, with days of history, marks, settings and an alarm of the line."""
    run = next(work.rglob("model.onnx"))
    files = sorted((work / "data").rglob("nut/test/*/*.png"))
    random.Random(0).shuffle(files)
    good = [file for file in files if file.parent.name == "good"]
    bad = [file for file in files if file.parent.name != "good"][: len(good) // 6]
    shown = good + bad
    random.Random(1).shuffle(shown)
    with running_service(store, {"nut": run}, options=ServiceOptions(threads=1)) as running:
        service, memory = running.service, running.store
        names = {file: f"{file.parent.name}-{file.stem}.png" for file in shown}
        answers = [service.score("nut", file.read_bytes(), name=names[file], record=False) for file in shown]
        verdicts = [answer.result().judgement for answer in answers]
        again = []
        for number in range(DAYS * A_DAY):
            moment, one = time.time() - 86400 * (DAYS - number / A_DAY), verdicts[number % len(verdicts)]
            works = 6 <= time.localtime(moment).tm_hour < 22
            if works and (not one.is_anomalous or number % 7 == 0):
                kept = shown[number % len(verdicts)].read_bytes() if number > (DAYS - 2) * A_DAY else None
                again.append((replace(one, id=new_id(moment), time=moment), kept, ".png"))
        for done in memory.record_many(again):
            done.result()
        for file in shown:
            service.score("nut", file.read_bytes(), name=names[file]).result()
        settings = memory.settings("nut", 1)[-1]
        calibration = settings.calibration.at_rate(0.02)
        why = "Two false alarms in a hundred are fine; no scratch may pass"
        service.apply_settings("nut", 1, calibration, 40.0, "anna", why)
        alarms = memory.judgements("nut", limit=6, is_anomalous=True)
        memory.mark(alarms[1].id, "confirmed", "anna")
        memory.mark(alarms[3].id, "fine", "bert")
        memory.add_alarm("nut", 1, "The threshold no longer holds: images are 18 % brighter.", {}, since=time.time() - 1500)
        draft = service.teaching and service.teaching.draft("nut")
        for file in sorted((work / "data").rglob("nut/train/good/*.png"))[:40] if draft else ():
            draft.take_file("normal", file)
        yield running


def take(url: str, scratch: Path) -> Iterator[str]:
    """The pictures, one after the other, in ``docs/assets``."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    found = shutil.which("chromedriver")  # named, as selenium would else ask the network for one
    if found is None:
        sys.exit("no chromedriver is installed (Debian: apt-get install chromium chromium-driver).")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    flags = ["headless=new", "hide-scrollbars", "force-prefers-reduced-motion", f"user-data-dir={scratch / 'chrome'}"]
    if sys.platform == "linux" and os.geteuid() == 0:
        flags.append("no-sandbox")  # Chromium refuses to run as root with it
    for flag in flags:
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=Service(found))
    try:
        for name, (path, width, height, dark, script) in PICTURES.items():
            scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
            driver.get(url + path)
            time.sleep(2)
            if script:
                driver.execute_script(script)
                time.sleep(1.5)
            yield save(ASSETS / f"{name}.png", driver)
    finally:
        driver.quit()


def save(path: Path, driver: Any) -> str:
    """A picture with so few colours that it stays small."""
    image = Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    for colours in COLOURS:
        file = BytesIO()
        few = image.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)  # rare colours stay
        few.save(file, "png", optimize=True)
        if len(file.getvalue()) <= MOST:
            path.write_bytes(file.getvalue())
            return f"{path}: {len(file.getvalue()) // 1000} kB, {colours} colours"
    sys.exit(f"{path} has {len(file.getvalue()):,} bytes, more than {MOST:,}.")


if __name__ == "__main__":
    main()
