"""Annotations in words."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import ByteSize, Field

from anomaly_core import describe_type


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
