"""What fitting PatchCore holds: a budget bounds the whole process, and nothing is computed or held twice."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from anomaly_core import ConfigError, RunConfig, UnusedOption
from anomaly_patchcore.patchcore import store as store_module
from anomaly_patchcore.patchcore.config import PatchCoreConfig
from anomaly_patchcore.patchcore.modeler import PatchCoreModeler
from anomaly_patchcore.patchcore.rows import Rows
from anomaly_patchcore.patchcore.store import PatchStore

Fit = Callable[[Tensor, PatchCoreConfig], PatchCoreModeler]
SMALL: dict[str, Any] = {"backbone": "resnet18.tv_in1k", "image_size": 64, "center_crop": None, "layers": ("layer2",)}
CONFIG = PatchCoreConfig(**SMALL, target_dim=32, coreset_ratio=0.1, projection_dim=16)
IMAGES = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))

# 784 patches of 152 values an image, as the preset `edge` has; a process of its own, for a peak never sinks.
MEASURE = """
import sys, threading, time
import psutil, torch
from anomaly_patchcore.patchcore.config import PatchCoreConfig
from anomaly_patchcore.patchcore.modeler import PatchCoreModeler

torch.manual_seed(0)
torch.set_num_threads(1)
config = PatchCoreConfig(backbone="resnet18.tv_in1k", image_size=64, center_crop=None, layers=("layer2",), target_dim=152,
    projection_dim=64, bank_size=500, memory_budget=sys.argv[1])
modeler = PatchCoreModeler(config).eval()
images = torch.rand(400, 3, 64, 64)
process, done, peak = psutil.Process(), False, 0

def watch():
    global peak
    while not done:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.002)

def embed(images):  # larger maps than so small an image has: a network would only add to the time
    generator = torch.Generator().manual_seed(int(images[0, 0, 0, 0] * 1e6))
    return torch.randn(len(images), 28, 28, 8, generator=generator) @ mix

with torch.inference_mode():
    modeler.embed(images[:8])
    mix = torch.randn(8, 152)
    modeler.embed = embed
    idle = process.memory_info().rss
    threading.Thread(target=watch, daemon=True).start()
    with modeler.fitting(True):
        for part in images[: int(sys.argv[2])].split(8):
            modeler.collect(part)
        held = len(modeler._store)
        modeler.build()
        modeler.predict_without(images[:4], [torch.tensor([i]) for i in range(4)])
    done = True
print(peak - idle, held)
"""


@pytest.mark.parametrize("count", [100, pytest.param(400, marks=pytest.mark.soak)])
def test_a_budget_bounds_the_process_above_its_idle_state(count: int) -> None:
    budget = 224 * 2**20
    command = [sys.executable, "-c", MEASURE, str(budget), str(count)]
    above, held = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert above < budget
    assert (held == 784 * count) == (count == 100), "what fits is kept; of 400 images, 191 MB of patches, coresets are"


def test_an_image_that_was_collected_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    modeler, new = PatchCoreModeler(CONFIG).eval(), 1 - IMAGES[:1]
    without = [torch.tensor([i]) for i in (4, 1, 0)]
    with torch.inference_mode(), modeler.fitting(True):
        for part in IMAGES.split(4):
            modeler.collect(part)
        modeler.build()
        expected = modeler.model.score(modeler.embed(torch.cat([IMAGES[[4]], new])), (64, 64))
        computed: list[int] = []
        embed = modeler.embed
        monkeypatch.setattr(modeler, "embed", lambda images: computed.append(len(images)) or embed(images))
        assert modeler.extractor.cache is None
        scores = modeler.predict_without(IMAGES[[4, 1, 0]], without).scores
        assert not computed
        assert modeler.predict_without(torch.cat([IMAGES[[4]], new]), [torch.tensor([9])] * 2).scores.tolist() == pytest.approx(
            expected[0].tolist(), rel=1e-5
        )
        assert computed == [1], "an image that it never saw is"
        modeler._kept = None
        torch.testing.assert_close(modeler.predict_without(IMAGES[[4, 1, 0]], without).scores, scores)


def test_a_held_out_image_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    modeler, held_out = PatchCoreModeler(replace(CONFIG, reweight=True)).eval(), IMAGES[4:]
    with torch.inference_mode(), modeler.fitting(False):
        modeler.collect(IMAGES[:4])
        modeler.build()
        expected = modeler.predict_step(held_out)
        assert 0 <= float(modeler.held_out_step(held_out)["coverage"]) <= 1
        with monkeypatch.context() as patched:
            patched.setattr(modeler.extractor, "forward", lambda images: pytest.fail("computed again"))
            found = modeler.predict_step(held_out.flip(0))
            assert torch.equal(found.scores, expected.scores.flip(0))
            assert found.maps is not None and expected.maps is not None
            assert torch.equal(found.maps, expected.maps.flip(0))
        assert torch.allclose(modeler.predict_step(IMAGES[3:5]).scores[1:], expected.scores[:1]), "one of them is new"
    assert not modeler._scored


def test_fingerprints_are_kept_as_long_as_patches_are() -> None:
    torch.manual_seed(0)
    modeler = PatchCoreModeler(replace(CONFIG, memory_budget="150KB")).eval()
    held = []
    with torch.inference_mode(), modeler.fitting(True):
        for image in IMAGES.split(1):
            modeler.collect(image)
            held.append(len(modeler._numbers))
    assert held[0] == 1
    assert held[-1] == 0, "its patches were thinned"


@pytest.mark.parametrize("options", [{}, {"memory_budget": "10MB"}, {"coreset": "streamed"}])
def test_a_bank_sized_by_count(fitted: Fit, options: dict[str, Any]) -> None:
    config = replace(CONFIG, bank_size=50, **options)
    assert len(fitted(IMAGES, config).model.memory_bank) == 50
    assert len(fitted(IMAGES, replace(config, bank_size=10**6)).model.memory_bank) == 6 * 64
    modeler = fitted(IMAGES, config)
    modeler.reopen()
    with torch.inference_mode():
        modeler.collect(IMAGES[:2])
        modeler.build()
    assert len(modeler.model.memory_bank) <= 51, "what the bank covers does not join it"


def test_a_count_and_a_share_are_not_given_together() -> None:
    def made(**options: Any) -> RunConfig:
        options = {f"model.{name}": value for name, value in options.items()}
        return RunConfig.create(model="patchcore", data="folder", preset="edge", overrides=options)

    assert made(bank_size=100).model.bank_size == 100  # type: ignore[attr-defined]
    with pytest.raises(UnusedOption, match="coreset_ratio"):
        made(bank_size=100, coreset_ratio=0.05)
    with pytest.raises(UnusedOption, match="streamed"):
        made(coreset="streamed", coreset_ratio=1)


def test_a_streamed_coreset_covers_all_patches_within_the_radius_that_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BLOCK", 100)
    points = torch.randn(3000, 4, generator=torch.Generator().manual_seed(0)) @ torch.randn(4, 12)
    store = PatchStore(ratio=0.02, streamed=True)
    for part in points.split(170):
        store.add(part)
    assert len(store) < 600, "four times the share of each block, and the last ones"
    modeler = PatchCoreModeler(CONFIG)
    assert len(modeler.model.build_from(store).picked) == 60
    distances = torch.cdist(points, modeler.model.memory_bank).amin(dim=1)
    assert 0 < float(distances.max()) <= float(modeler.model.coreset_radius)
    assert modeler.describe()["coreset_radius_measured"] == pytest.approx(float(distances.max()), rel=1e-5)


def test_the_sample_is_drawn_from_all_patches_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SAMPLE", 500)
    store = PatchStore(budget=10**6, ratio=0.02)
    for part in torch.arange(5000.0)[:, None].expand(-1, 8).split(130):
        store.add(part)
    assert store.sample is not None
    numbers = store.sample[:, 0]
    assert len(numbers) == len(numbers.unique()) == 500
    assert 2200 < float(numbers.mean()) < 2800
    others = PatchStore(budget=10**6, ratio=0.02)
    others.add(torch.zeros(10, 8), torch.zeros(10))
    assert others.sample is None, "these stand for others"


def test_a_budget_that_cannot_hold_the_bank_says_which_could() -> None:
    def collecting(**options: Any) -> PatchCoreModeler:
        torch.manual_seed(0)
        modeler = PatchCoreModeler(replace(CONFIG, coreset_ratio=0.5, **options)).eval()
        modeler.expected = len(IMAGES)
        with torch.inference_mode():
            modeler.collect(IMAGES[:2])
        return modeler

    with pytest.raises(ConfigError, match="cannot hold the memory bank: 6 images have 384 patches") as raised:
        collecting(memory_budget="100KB")
    budget, size = re.findall(r"memory_budget=(\d+MiB) or more, or model.bank_size=(\d+)", str(raised.value))[0]
    assert 0 < int(size) < 192
    assert len(collecting(memory_budget="100KB", bank_size=int(size))._store) > int(size) / 2
    assert collecting(memory_budget=budget).image_room == int(budget[:-3]) * 2**20 // 8


def test_patches_held_in_float16_take_half_and_score_nearly_the_same(fitted: Fit) -> None:
    whole, half = fitted(IMAGES, CONFIG), fitted(IMAGES, replace(CONFIG, collect_dtype="float16"))
    assert half.model.memory_bank.dtype == torch.float32
    with torch.inference_mode():
        torch.testing.assert_close(
            half.predict_step(1 - IMAGES).scores, whole.predict_step(1 - IMAGES).scores, rtol=0.2, atol=0
        )
    store = PatchStore(dtype=torch.float16)
    store.add(torch.ones(10, 8))
    assert store.peak == 160


def test_cached_features_count_within_the_budget() -> None:
    with pytest.raises(ConfigError, match="leaves nothing beside"):
        PatchCoreModeler(replace(CONFIG, memory_budget="1GiB", feature_cache="ram"))


def test_rows_are_found_again_however_they_came() -> None:
    matrix, rows = torch.arange(3000.0 * 40).view(3000, 40), Rows(torch.float32)
    for part in matrix.split(70):
        rows.append(part)
    chosen = torch.tensor([2999, 0, 800, 800, 409, 410])
    assert torch.equal(rows[chosen], matrix[chosen])
    for low in (0, 390, 409, 410, 2999, 3000):
        for high in (0, 391, 410, 411, 1700, 3000, 4000):
            assert torch.equal(rows[low:high], matrix[low:high])
    assert torch.equal(rows[chosen[:0]], matrix[:0])
    assert torch.equal(torch.cat(list(rows.parts(256, 500))), matrix[500:])
    rows.replace(400, matrix[:900])
    rows.truncate(1300)
    assert torch.equal(rows[-3:], matrix[897:900])
    rows.append(matrix[:20])
    assert torch.equal(rows[torch.tensor([1319, 399])], matrix[[19, 399]])
    expected = torch.cat([matrix[:400], matrix[:900], matrix[:20]])
    assert torch.equal(rows.drained(), expected)
    assert not len(rows)
