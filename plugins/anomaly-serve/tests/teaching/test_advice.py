"""What is said of a set before a fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from anomaly_serve.teaching.advice import advice, enough, input_for, inputs
from anomaly_serve.teaching.sets import Sets

Png = Callable[..., bytes]


@pytest.mark.parametrize(
    ("count", "rate", "words"),
    [
        (2, 0.01, "2 normal images are too few: a version needs 3 at least"),
        (12, 0.01, "about 77 false alarms in 1,000 normal images; the 10 that are asked for take 99. With fewer than 20"),
        (98, 0.01, "the 10 that are asked for take 99"),
        (99, 0.01, "about 10 false alarms in 1,000 normal images, as asked for."),
        (19, 0.05, "about 50 false alarms in 1,000 normal images, as asked for."),
    ],
)
def test_the_number_of_images_bounds_the_rate(count: int, rate: float, words: str) -> None:
    assert words in enough(count, rate)


def test_three_pixels_of_the_input_show_a_defect() -> None:
    found = inputs((480, 640))
    assert [(one.size, one.smallest) for one in found] == [(None, 9), ((256, 320), 6), ((320, 448), 5), ((480, 640), 3)]
    assert [one.cost for one in found] == sorted(one.cost for one in found)
    assert input_for((480, 640), 5) == found[2] and input_for((480, 640), 9) == found[0]
    assert input_for((480, 640), 2) is None  # tiles would show it
    assert inputs((100, 100))[0].smallest == 2 and len(inputs((100, 100))) == 1  # enlarged: no more can be seen


def test_images_of_another_size_are_named(tmp_path: Path, png: Png) -> None:
    draft = Sets(tmp_path).get("disc")
    assert advice(draft).blocked and advice(draft).size is None and advice(draft).inputs == ()
    for seed in range(3):
        draft.take("normal", f"{seed}.png", [png(seed)])
    draft.take("abnormal", "odd.png", [png(9, size=(32, 32))])
    found = advice(draft)
    assert (found.count, found.defects, found.size, found.different) == (3, 1, (48, 64), 1)
    assert [member.name for member in found.others] == ["odd"] and not found.blocked
