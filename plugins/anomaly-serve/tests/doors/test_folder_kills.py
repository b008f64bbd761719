"""A folder door with a real service, killed in between: each image ends in one place, and its verdict is in the history."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

from anomaly_serve.doors.folder import AT_ONCE
from anomaly_serve.store import Store
from anomaly_serve.testing import as_file, grey_image

CODE = """
    import sys, time
    from pathlib import Path
    from anomaly_serve.doors import DoorOptions, add_doors
    from anomaly_serve.service import Service, ServiceOptions
    from anomaly_serve.store import Store
    from anomaly_serve.testing import BrightSpots
    root = Path(sys.argv[1])
    service = Service(Store.open(None, root / "store"), ServiceOptions(opener=lambda path: BrightSpots())).start()
    if not service.products:
        service.add_version("bolt", root / "bright", who="test", activate=True)
    watch = (str(root / "in"),)
    doors = add_doors(service, DoorOptions(watch=watch, accept=root / "ok", reject=root / "nok", verdict_files=True))
    doors.doors[0]._watch._settled = 0.0
    doors.doors[0].interval = 0.01
    doors.start()
    print("open", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_each_image_ends_in_one_place_and_in_the_history(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    count, kills = 120, 4
    for number in range(count):
        part = tmp_path / "in" / f"{number:03d}.part"
        part.write_bytes(as_file(grey_image(spot=number % 3 == 0, seed=number)))
        part.rename(part.with_suffix(".png"))
    for attempt in range(kills + 1):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(CODE), str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"open\n"
        before = len(list((tmp_path / "in").iterdir()))
        end = time.monotonic() + 30
        while (left := len(list((tmp_path / "in").iterdir()))) and time.monotonic() < end:
            if attempt < kills and before - left >= 20:
                break
            time.sleep(0.001)
        process.kill()
        process.wait()
        process.stdout.close()
    assert not list((tmp_path / "in").iterdir())
    moved = Counter(path.name for folder in ("ok", "nok") for path in (tmp_path / folder).glob("*.png"))
    assert moved == Counter({f"{number:03d}.png": 1 for number in range(count)})
    assert {path.name for path in (tmp_path / "nok").glob("*.png")} == {f"{number:03d}.png" for number in range(0, count, 3)}
    with Store.open(None, tmp_path / "store") as store:
        judged = Counter(one.name for one in store.judgements("bolt", limit=10_000))
    assert judged.keys() == moved.keys()
    assert sum(judged.values()) - count <= kills * AT_ONCE  # judged twice at worst, and those alone that were in work
