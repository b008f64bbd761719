"""AnomalyDINO's bank, and as a modeler: without an image, in several processes, extended, cut, masked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from anomaly_core import ConfigError, DataError, ModelContext, RunError
from anomaly_dino.anomalydino.bank import PatchBank, k_center
from anomaly_dino.anomalydino.config import AnomalyDINOConfig
from anomaly_dino.anomalydino.modeler import AnomalyDINOModeler

Fit = Callable[..., AnomalyDINOModeler]
PATCHES = 16 * 24


@pytest.fixture
def fit(images: Tensor, small: dict[str, Any]) -> Fit:
    """Fits on some of the images; upright unless rotations are asked for."""

    def fitted(chosen: Tensor = images, categories: tuple[str, ...] = (), **more: Any) -> AnomalyDINOModeler:
        config = AnomalyDINOConfig(**{**small, "rotations": 1, **more})
        torch.manual_seed(0)
        modeler = AnomalyDINOModeler(config, ModelContext(pretrained=False, categories=categories)).eval()
        with torch.inference_mode():
            for part in chosen.split(4):
                modeler.collect(part)
            modeler.build()
        return modeler

    return fitted


def test_a_full_bank_keeps_the_newest() -> None:
    bank = PatchBank(5, "newest")
    for number in range(9):
        bank.add(torch.full((4, 2), float(number)))
    rows, owners = bank.rows()
    assert rows[:, 0].tolist() == owners.tolist() == [7, 8, 8, 8, 8]
    assert bank.cut


def test_a_full_bank_covers_what_it_was_given() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.1, 0.0], [9.0, 0.0], [0.0, 0.2], [0.0, 5.0]])
    assert k_center(rows, 3).tolist() == [0, 2, 4]
    bank = PatchBank(3, "coreset")
    bank.add(rows)
    kept, owners = bank.rows()
    assert torch.equal(kept, rows[[0, 2, 4]])
    assert owners.tolist() == [0, 0, 0]
    assert PatchBank().cut is False


@pytest.mark.parametrize("expected", [None, 30])
def test_a_bank_grows_in_order(expected: int | None) -> None:
    bank, parts = PatchBank(expected=expected), [torch.rand(count, 3) for count in (4, 1, 20, 7)]
    for part in parts:
        bank.add(part)
    rows, owners = bank.rows()
    assert torch.equal(rows, torch.cat(parts))
    assert owners.bincount().tolist() == [4, 1, 20, 7]


def test_an_image_is_left_out_exactly(images: Tensor, fit: Fit) -> None:
    whole = fit()
    assert whole.leaves_out > 1
    with torch.inference_mode():
        together = whole.predict_without(images[:3], [torch.tensor([0]), torch.tensor([1]), torch.tensor([2])]).scores
        for i in range(3):
            others = fit(torch.cat([images[:i], images[i + 1 :]]))
            torch.testing.assert_close(together[i : i + 1], others.predict_step(images[i : i + 1]).scores)
        assert whole.predict_step(images).scores.max() < 1e-5, "each finds its own patches"
    assert fit(bank_size=100).leaves_out == 0
    assert fit(images[:1]).leaves_out == 0


def test_processes_remember_what_one_remembers(
    images: Tensor, fit: Fit, small: dict[str, Any], together: Callable[[int], Any]
) -> None:
    shares = [images[:2], images[:0], images[2:]]
    torch.manual_seed(0)
    modelers = [AnomalyDINOModeler(AnomalyDINOConfig(**small, rotations=1)).eval() for _ in range(3)]
    for modeler in modelers[1:]:
        modeler.load_state(modelers[0].state_dict())

    def process(accelerator: Any) -> AnomalyDINOModeler:
        modeler = modelers[accelerator.process_index]
        with torch.inference_mode():
            if len(shares[accelerator.process_index]):
                modeler.collect(shares[accelerator.process_index])
            modeler.merge(accelerator)
            modeler.build()
        return modeler

    one = fit()
    for modeler in together(3).run(process):
        torch.testing.assert_close(modeler.model.memory_bank, one.model.memory_bank)
        assert torch.equal(modeler._owners, one._owners)


def test_extended_it_remembers_all(images: Tensor, fit: Fit) -> None:
    extended, whole = fit(images[:4]), fit()
    with torch.inference_mode():
        extended.reopen()
        extended.collect(images[4:])
        extended.build()
    torch.testing.assert_close(extended.model.memory_bank, whole.model.memory_bank)
    assert extended.leaves_out == 0, "of the first images nobody knows which patches are theirs"


def test_rotations(images: Tensor, fit: Fit) -> None:
    assert fit(images[:1], rotations=4).describe() == {"memory_bank_size": 4 * PATCHES, "embedding_dim": 192}
    turned = fit(images[:1], rotations=2)  # by 180 degrees
    upside_down = images[:1].flip(2, 3)
    with torch.inference_mode():
        assert turned.predict_step(upside_down).scores < fit(images[:1]).predict_step(upside_down).scores


@pytest.mark.parametrize(
    ("mask", "categories", "masked"),
    [
        ("paper", ("screw",), True),
        ("paper", ("pcb3",), True),
        ("paper", ("cable",), False),
        ("paper", (), False),
        ("always", ("cable",), True),
        ("never", ("screw",), False),
    ],
)
def test_masks_by_category(fit: Fit, images: Tensor, mask: str, categories: tuple[str, ...], masked: bool) -> None:
    assert fit(images[:1], categories, mask=mask).masks == masked


def test_categories_of_both_kinds_are_learnt_whole(fit: Fit, images: Tensor) -> None:
    with pytest.warns(UserWarning, match="masks screw and not the other categories"):
        assert not fit(images[:1], ("screw", "cable"), mask="paper").masks


def test_what_is_masked_scores_nothing_and_no_image_is_perfect_for_it(images: Tensor, fit: Fit) -> None:
    masked = fit(images[:3], mask="always", mask_threshold=1e-6, mask_references=True)
    assert 0 < masked.describe()["memory_bank_size"] < 3 * PATCHES
    nothing = fit(images[:3], mask="always", mask_threshold=1e6)  # no patch is the object's: all are scored
    with torch.inference_mode():
        plain = fit(images[:3]).predict_step(images[3:])
        assert torch.equal(nothing.predict_step(images[3:]).scores, plain.scores)
        mask = masked._mask(masked.patches(images[3:]))
        assert mask is not None and not mask.all()
        scores = masked.model.patch_scores(masked.patches(images[3:]), mask)
    assert not scores[~mask].any()


def test_errors(images: Tensor, small: dict[str, Any]) -> None:
    modeler = AnomalyDINOModeler(AnomalyDINOConfig(**small)).eval()
    with pytest.raises(DataError, match="no training image"):
        modeler.build()
    with pytest.raises(RunError, match="Fit it first"):
        modeler.predict_step(images)


def test_images_judge_one_another_and_not_themselves(images: Tensor, fit: Fit) -> None:
    modeler = fit(batched=True)
    assert modeler.transductive
    assert not fit(images[:1]).transductive
    with torch.inference_mode():
        rows = modeler.model.memory_bank.view(6, PATCHES, -1)
        scores = modeler.model.patch_scores(modeler.patches(images)).flatten(1)
        stranger = modeler.predict_step(images.flip(3)).scores
        for i in range(6):
            others = torch.cat([rows[:i], rows[i + 1 :]]).flatten(0, 1)
            expected = (1 - rows[i] @ others.T).amin(dim=1)  # a thousandth of 5 * 384 patches, less one, is one
            torch.testing.assert_close(scores[i], expected, rtol=1e-3, atol=1e-5)
    assert stranger.isfinite().all()


def test_options_that_batches_would_ignore(fit: Fit) -> None:
    with pytest.raises(ConfigError, match=r"batched=true would ignore model\.metric=l2 and model\.neighbors=3"):
        fit(batched=True, metric="l2", neighbors=3)
