"""Annotations in words."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import ByteSize, Field

from anomaly_core import BaseConfig, describe_options
from anomaly_core.config.describe import describe_type


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int | None, "int or none"),
        (Annotated[float, Field(gt=0, le=1)], "float > 0 and <= 1"),
        (Literal["a", "b"], "a | b"),
        (list[str] | None, "list of str or none"),
        (Annotated[ByteSize, Field(ge=0)], "bytes, such as 2GiB >= 0"),
        (tuple[int, int], "tuple of int"),
    ],
)
def test_types_in_words(hint, words):
    assert describe_type(hint) == words


def test_every_option_of_the_run_has_a_meaning():
    rows = describe_options(BaseConfig)
    assert ("seed", "int >= 0 and <= 4294967295", 0, "governs everything that is random") in rows
    assert all(meaning for *_, meaning in rows)
