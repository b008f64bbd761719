"""*Teach* in Chromium: images are dropped, fitted, looked at, tried, put to use and taken back; also by keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anomaly_serve.service import ServiceOptions
from anomaly_serve.testing import RunningService, as_file, disc_image, running_service

PATIENCE = 150  # seconds for a fit: of five at rest

# drops files on an element, as a hand does; the files come from a file input, as a script can make none
DROP = """
const [zone, input] = arguments;
const bag = new DataTransfer();
for (const file of input.files) bag.items.add(file);
for (const name of ["dragenter", "dragover", "drop"]) {
  zone.dispatchEvent(new DragEvent(name, { dataTransfer: bag, bubbles: true, cancelable: true }));
}
input.remove();
"""


def png(seed: int, **facts: Any) -> bytes:
    return as_file(disc_image(seed, **facts), compress_level=1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 good parts, one of them with a scratch that nobody saw; 3 known defects; and one file that is no image."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(20):
        (folder / f"good{seed:02}.png").write_bytes(png(seed, defect=seed == 7))
    for seed in range(3):
        (folder / f"bad{seed}.png").write_bytes(png(100 + seed, defect=True))
    (folder / "readme.png").write_text("no image")
    (folder / "line").mkdir()
    (folder / "line" / "late.png").write_bytes(png(300))
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Iterator[RunningService]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANOMALY_ENGINE", "onnx")  # tests set torch otherwise, and no graph would be kept
        options = ServiceOptions(teach_from=(pictures / "line",))
        with running_service(tmp_path_factory.mktemp("service"), {}, options=options) as service:
            yield service


def drop(browser: Any, zone: str, files: list[Path]) -> None:
    source = browser.execute_script(
        "const i = document.createElement('input'); i.type = 'file'; i.multiple = true; document.body.append(i); return i"
    )
    source.send_keys("\n".join(map(str, files)))
    browser.execute_script(DROP, browser.find_element("css selector", f".drop[data-kind={zone}]"), source)


def fitted(browser: Any) -> None:
    """Wait until the newest job is done."""
    browser.wait("return !/is-(running|waiting)/.test(document.querySelector('#jobs li').className)", seconds=PATIENCE)
    assert browser.find_element("css selector", "#jobs li").get_attribute("class") == "is-done", browser.texts("#jobs li")


def test_a_day_of_teaching(browser: Any, running: RunningService, pictures: Path) -> None:
    # a new product
    browser.open("/page/")
    browser.press("a[href$='/page/teach']")
    browser.keys("disc", "\n")
    browser.wait("return location.pathname.endsWith('/products/disc/teach')")
    browser.says("enough", "0 normal images are too few")
    assert not browser.find_element("id", "fit").is_enabled()
    browser.shoot("teach-empty")

    # images
    good = sorted(pictures.glob("good*.png"))
    drop(browser, "normal", [*good, pictures / "readme.png", good[0]])
    browser.says("brought", "readme.png: it is no image")
    browser.says("toast", "20 good parts taken. 1 image was there already.")
    drop(browser, "abnormal", sorted(pictures.glob("bad*.png")))
    browser.says("count-abnormal", "(3)")
    browser.says("enough", "20 normal images support")
    browser.wait("return document.querySelectorAll('#thumbs-normal img').length === 20")
    browser.find_element("id", "defect").send_keys("5")
    browser.wait("return document.getElementById('input').value === '320,448'")
    browser.shoot("teach-images")

    # by keyboard: large, on to the next, and back
    browser.execute_script("document.querySelector('#thumbs-normal button').focus()")
    browser.keys("\n")
    browser.wait("return document.getElementById('large').open")
    browser.keys("\ue014")
    browser.says("large-name", "good01")
    browser.keys("\ue00c")
    browser.wait("return !document.getElementById('large').open")

    # the fit, with the preset's own size: it is quicker
    browser.execute_script("const i = document.getElementById('input'); i.value = ''; i.dispatchEvent(new Event('change'))")
    browser.execute_script("document.querySelector('#model').closest('details').open = true")
    browser.find_element("css selector", "#model").send_keys("subspace")
    browser.find_element("id", "note").send_keys("first images")
    browser.press("#fit")
    browser.wait("return document.querySelector('#jobs li.is-running progress')", seconds=30)
    browser.shoot("teach-running")
    fitted(browser)
    browser.says("versions", "Version 1")
    browser.shoot("teach-done")

    # the odd one among the good ones is seen, and taken out
    browser.press("#jobs a.primary")
    browser.wait("return location.pathname.endsWith('/versions/1')")
    assert "good07" in browser.texts(".thumbs li")[0]
    assert "known defects found" in browser.texts(".pair")[0]
    (short,) = (text for text in browser.texts("p.note") if "cannot support a false-alarm rate of 0.01" in text)
    assert short.endswith("images: add images of good parts under Teach, or allow more false alarms under Set.")
    browser.shoot("version-suspects")
    browser.press("[data-defect]")
    browser.wait("return document.body.textContent.includes('Now a known defect: teach again.')")

    # nothing judges by itself; put to use by keyboard
    assert running.store.active("disc") is None
    browser.execute_script("document.getElementById('note').focus()")
    browser.keys("the first one", "\ue004", "\n")
    browser.wait("return document.getElementById('judging').textContent === 'version 1 judges'")
    active = running.store.active("disc")
    assert active is not None and active.number == 1
    assert [change.facts["note"] for change in running.store.changes("disc") if change.action == "note"] == ["the first one"]


@pytest.fixture
def taught(browser: Any, running: RunningService, pictures: Path) -> RunningService:
    """With version 1 in use, whichever tests are chosen."""
    if "disc" not in running.store.products():
        test_a_day_of_teaching(browser, running, pictures)
    return running


@pytest.mark.soak
@pytest.mark.usefixtures("taught")
def test_the_next_version_from_what_people_say(browser: Any, running: RunningService) -> None:
    verdicts = []
    kinds: list[dict[str, Any]] = [{}, {}, {"bright": 1.15}, {"defect": True}]
    for seed, options in enumerate(kinds):
        content = png(200 + seed, **options)
        verdicts.append(running.service.score("disc", content, name=f"shot {seed}").result(60).judgement)
    running.store.mark(verdicts[2].id, "fine", "ben")
    browser.open("/page/products/disc/teach")
    browser.says("marked-said", "1 good part in the history")
    browser.press("#collect")
    browser.says("count-normal", "(20)")

    # a folder that is watched
    browser.execute_script("document.querySelector('.watch').open = true")
    browser.press("#watch")
    browser.says("watched-said", "line is watched for good parts: 1 image taken")
    browser.says("count-normal", "(21)")
    browser.press("#leave")
    browser.wait("return document.getElementById('watched').hidden")

    browser.execute_script("document.querySelector('#model').closest('details').open = true")
    browser.find_element("css selector", "#model").send_keys("subspace")
    browser.press("#fit")
    browser.wait("return document.querySelector('#jobs li.is-running')", seconds=30)
    fitted(browser)
    browser.open("/page/products/disc/teach/versions/2")
    assert "would get another verdict" in browser.texts(".pair")[0]
    assert [text.strip() for text in browser.texts(".trial td:last-child")][:4] == ["found now"] * 4
    assert "(learnt)" in "".join(browser.texts(".trial td"))
    for width in (1280, 820):
        for dark in (False, True):
            browser.open("/page/products/disc/teach/versions/2", width=width, dark=dark)
            browser.shoot(f"version-{width}-{'dark' if dark else 'light'}")
            browser.open("/page/products/disc/teach", width=width, dark=dark)
            browser.wait("return document.querySelectorAll('#jobs li').length")
            browser.wait("return [...document.images].filter((i) => i.complete).length > 10")
            assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
            browser.shoot(f"teach-{width}-{'dark' if dark else 'light'}")
    browser.open("/page/products/disc/teach/versions/2")
    browser.press("#use")
    browser.wait("return document.getElementById('judging').textContent === 'version 2 judges'")
    browser.shoot("version-judges")
    browser.press("#back")
    browser.wait("return document.getElementById('judging').textContent === 'version 1 judges'")
    assert running.store.active("disc").number == 1  # type: ignore[union-attr]


@pytest.mark.usefixtures("taught")
def test_a_threshold_is_proposed_and_accepted(browser: Any, running: RunningService) -> None:
    contents = [png(400 + seed, bright=1.1) for seed in range(10)]
    contents.append(png(420, bright=1.1, defect=True))
    answers = [running.service.score("disc", contents[number % 11], name=f"bright {number}") for number in range(66)]
    assert all(answer.result(120).judgement.version == 1 for answer in answers)
    first = running.store.settings("disc", 1)[-1].calibration
    old = running.service.apply_settings("disc", 1, first.at_rate(0.02), 30.0, "anna", "a rate that 50 images support")
    browser.open("/page/products/disc/set#recalibrate")
    browser.press("#r-propose")
    browser.wait("return !document.getElementById('r-going').hidden")
    browser.wait("return !document.getElementById('r-proposal').hidden", seconds=PATIENCE)
    proposal = running.service.teaching.proposal("disc")  # type: ignore[union-attr]
    assert proposal is not None and proposal.calibration is not None, proposal
    for width, dark in ((1280, False), (820, True)):
        browser.open("/page/products/disc/set", width=width, dark=dark)
        browser.wait("return !document.getElementById('r-proposal').hidden")
        browser.wait("return [...document.querySelectorAll('#recalibration img')].every((i) => i.complete)")
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        browser.shoot(f"recalibrate-{width}")
    browser.says("r-warning", "of the normal images behind the old threshold stand out")  # the scratch that nobody saw
    assert running.store.settings("disc", 1)[-1] == old  # nothing by itself
    browser.find_element("id", "r-why").send_keys("brighter lamp", "\ue004", "\n")
    browser.says("toast", "The new threshold holds from now on.")
    new = running.store.settings("disc", 1)[-1]
    assert (new.calibration, new.why, new.least_area) == (proposal.calibration, "brighter lamp", old.least_area)
    assert running.service.product("disc").active.settings == new  # type: ignore[union-attr]
    assert browser.execute_script("return document.getElementById('r-proposal').hidden")
