"""What flows: batches and predictions taken apart, put together and moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anomaly_core import Batch, DataError, Prediction, Sample


@pytest.fixture
def batch() -> Batch:
    samples = [Sample(Path(f"{index}.png"), index % 2, extra={"saturation": index}) for index in range(3)]
    masks = torch.tensor([False, True, False])[:, None, None, None].expand(3, 1, 2, 2)
    return Batch(torch.rand(3, 3, 2, 2), torch.tensor([0, 1, 0]), masks, torch.tensor([True, True, False]), samples)


@pytest.mark.parametrize("chosen", [slice(1, 3), [2, 0]])
def test_some_of_a_batch_is_a_batch(batch: Batch, chosen: slice | list[int]) -> None:
    part = batch[chosen]
    indices = list(range(3))[chosen] if isinstance(chosen, slice) else chosen
    assert len(part) == 2 and part.samples == [batch.samples[index] for index in indices]
    for name in ("images", "labels", "masks", "has_mask"):
        assert torch.equal(getattr(part, name), getattr(batch, name)[indices])
    batch.masks = None
    assert batch[chosen].masks is None


def test_a_batch_moves_with_all_its_tensors(batch: Batch) -> None:
    moved = batch.to("meta")
    assert {part.device.type for part in (moved.images, moved.labels, moved.masks, moved.has_mask)} == {"meta"}
    assert moved.samples is batch.samples


def test_samples_with_facts_of_their_own_can_be_counted(batch: Batch) -> None:
    assert len(set(batch.samples)) == 3


def prediction(count: int, size: tuple[int, int], *, reconstruction: bool = True) -> Prediction:
    return Prediction(torch.rand(count), torch.rand(count, 1, *size), torch.rand(count, 3, *size) if reconstruction else None)


def test_a_prediction_of_several_comes_apart_as_numpy_arrays() -> None:
    whole = prediction(3, (2, 4))
    parts = whole.apart()
    assert [part.score for part in parts] == whole.scores.tolist()
    for index, part in enumerate(parts):
        arrays = part.scores, part.maps, part.reconstruction
        assert all(isinstance(array, np.ndarray) and array.dtype == np.float32 for array in arrays)
        assert part.maps.shape == (1, 1, 2, 4) and np.array_equal(part.maps, whole.maps[index : index + 1])
        assert np.array_equal(part.reconstruction, whole.reconstruction[index : index + 1])
    assert [part.maps for part in Prediction(torch.zeros(2)).apart()] == [None, None]


@pytest.mark.parametrize("as_array", [np.asarray, torch.as_tensor])
def test_verdicts_are_of_the_kind_of_the_scores_and_wrong_for_no_image(as_array: Callable[[object], Any]) -> None:
    scores, p_values = np.array([0.1, 0.2, 0.3], dtype=np.float32), np.array([1.0, 0.5, 0.25])
    assert Prediction(as_array(scores)).is_anomalous is None
    # between 0.2 and its float32: a threshold that was rounded to float32 would be equal to that score
    whole = Prediction(as_array(scores), p_values=as_array(p_values), threshold=0.2000000025)
    assert whole.is_anomalous.tolist() == [False, True, True] and type(whole.is_anomalous) is type(whole.scores)
    assert whole[1:].is_anomalous.tolist() == [True, True] and whole[[0]].p_values.tolist() == [1.0]
    damaged = replace(whole, p_values=as_array([1.0, np.nan, 0.25]))
    with pytest.raises(DataError, match="no verdict on 1 of 3 images, first number 1"):
        _ = damaged.is_anomalous
    assert damaged[damaged.p_values >= 0].is_anomalous.tolist() == [False, True]  # as the message says


def test_verdicts_stay_when_predictions_are_joined_and_taken_apart() -> None:
    parts = [Prediction(torch.ones(n), p_values=torch.full((n,), 0.5, dtype=torch.float64), threshold=0.5) for n in (1, 2)]
    joined = Prediction.joined(parts)
    assert joined.is_anomalous.tolist() == [True] * 3 and joined.p_values.tolist() == [0.5] * 3
    assert [one.is_anomalous.tolist() for one in joined.cpu().apart()] == [[True]] * 3


def test_the_score_of_several_is_not_one() -> None:
    with pytest.raises(ValueError, match="unpack"):
        _ = prediction(2, (2, 2)).score


def test_predictions_of_one_size_are_joined_as_they_are() -> None:
    parts = [prediction(2, (2, 4)), prediction(1, (2, 4))]
    joined = Prediction.joined(parts)
    for name in ("scores", "maps", "reconstruction"):
        assert torch.equal(getattr(joined, name), torch.cat([getattr(part, name) for part in parts]))
    assert Prediction.joined(parts[:1]) is parts[0]


def test_smaller_maps_are_nothing_at_the_right_and_below() -> None:
    small, large = prediction(1, (2, 4), reconstruction=False), prediction(1, (3, 3), reconstruction=False)
    joined = Prediction.joined([small, large])
    assert joined.maps is not None and joined.maps.shape == (2, 1, 3, 4) and joined.reconstruction is None
    assert torch.equal(joined.maps[:1, :, :2, :4], small.maps) and bool(joined.maps[0, :, 2:].isnan().all())
    assert torch.equal(joined.maps[1:, :, :3, :3], large.maps) and bool(joined.maps[1, :, :, 3:].isnan().all())


def test_a_prediction_comes_to_the_cpu_as_float32_without_its_graph() -> None:
    scores = torch.rand(2, dtype=torch.float64, requires_grad=True) * 2
    cpu = Prediction(scores, scores.view(2, 1, 1, 1).half()).cpu()
    assert cpu.scores.dtype == cpu.maps.dtype == torch.float32
    assert not cpu.scores.requires_grad and not cpu.maps.requires_grad and cpu.reconstruction is None
