"""Batches in halves when memory runs out, and words for what a run cannot mend itself."""

from __future__ import annotations

import pytest
import torch

from anomaly_core import Portions, Prediction, RunError
from anomaly_core.run.memory import explained

pytestmark = pytest.mark.reliability


def allocate(count: int, most: int, error: type[BaseException]) -> None:
    if count > most:
        raise error(f"[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate {count} images")


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, torch.cuda.OutOfMemoryError])
def test_scoring_goes_on_with_half_a_batch(error, record) -> None:
    seen: list[int] = []

    def work(images: torch.Tensor) -> Prediction:
        if error is torch.cuda.OutOfMemoryError and len(images) > 3:
            raise error("CUDA out of memory. Tried to allocate 1 GiB")
        allocate(len(images), 3, error)
        seen.append(len(images))
        return Prediction(images * 2)

    portions = Portions("scoring")
    with pytest.warns(UserWarning) as told:
        parts = portions.run(work, torch.arange(16.0))
    assert seen == [2] * 8 and [str(item.message).partition("going on with ")[2][:2] for item in told] == ["8.", "4.", "2."]
    assert torch.equal(Prediction.joined(parts).scores, torch.arange(16.0) * 2)
    portions.run(work, torch.arange(5.0))  # what did not fit is not tried again
    assert seen[8:] == [2, 2, 1]
    with pytest.warns(UserWarning), pytest.raises(RunError, match="one image alone"):
        Portions("scoring").run(lambda images: allocate(len(images), 0, error), torch.arange(4.0))
    with pytest.raises(RuntimeError, match="shapes"):
        Portions("scoring").run(lambda images: (_ for _ in ()).throw(RuntimeError("shapes")), torch.arange(4.0))
    record("fault", f"out of memory while scoring ({error.__name__}): halved")


def test_out_of_memory_elsewhere_is_one_error() -> None:
    error = explained(MemoryError("Unable to allocate 9 TiB"))
    assert isinstance(error, RunError) and "9 TiB" in str(error) and "--resume" in str(error)
    assert explained(ValueError("x")).args == ("x",)
