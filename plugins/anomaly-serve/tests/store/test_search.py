"""The search for a part of a name: the same verdicts as without steps, and an end where it takes too long."""

from __future__ import annotations

from typing import Any

import pytest

from anomaly_core import DataError
from anomaly_serve.store import Store, search


@pytest.fixture
def filled(store: Store, judgement: Any) -> Store:
    """Sixty verdicts, three of each moment; every seventh is of a bolt."""
    made = [judgement(n, time=1000.0 + n // 3, name=f"{'Bolt' if n % 7 == 0 else 'nut'} {n}") for n in range(60)]
    for future in store.record_many([(one, None, ".png") for one in made]):
        future.result()
    return store


def pages(store: Store, limit: int, **filters: Any) -> tuple[list[int], list[bool]]:
    """(numbers of the verdicts, whether it was cut) of all pages, one after the other."""
    numbers: list[int] = []
    cuts: list[bool] = []
    before = None
    while True:
        page = store.page("tile", limit=limit, before=before, **filters)
        assert len(page.judgements) <= limit
        numbers += [int(one.id) for one in page.judgements]
        cuts.append(page.is_cut)
        before = page.next
        if before is None:
            return numbers, cuts


BOLTS = list(range(56, -1, -7))


@pytest.mark.parametrize("span", [1, 3, 7, 59, 100_000])
@pytest.mark.parametrize("patience", [-1.0, 60.0])
def test_it_finds_what_a_look_at_all_finds(filled: Store, monkeypatch: pytest.MonkeyPatch, span: int, patience: float) -> None:
    monkeypatch.setattr(search, "SPAN", span)
    monkeypatch.setattr(search, "PATIENCE", patience)
    for limit in (1, 4, 50):
        for filters, numbers in (
            ({"text": "bolt"}, BOLTS),
            ({"text": "bolt", "since": 1005.0, "until": 1014.0}, [n for n in BOLTS if 1005 <= 1000 + n // 3 < 1014]),
            ({"text": "bolt", "is_anomalous": True}, [n for n in BOLTS if n % 10 == 0]),
            ({"text": "screw"}, []),
            ({"text": f"{21:026}"}, [21]),
            ({}, list(range(59, -1, -1))),
        ):
            found, cuts = pages(filled, limit, **filters)
            assert found == numbers == [int(one.id) for one in filled.judgements("tile", limit=100, **filters)]
            assert not any(cuts) or patience < 0
        assert any(pages(filled, limit, text="screw")[1]) == (patience < 0 and span < 60)


def test_a_search_that_takes_too_long_says_how_far_it_came(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert filled.counted("tile", text="bolt") == (9, None) and filled.counted("tile") == (60, None)
    monkeypatch.setattr(search, "SPAN", 20)
    assert filled.counted("tile", text="bolt") == (9, None)
    monkeypatch.setattr(search, "PATIENCE", -1.0)
    count, since = filled.counted("tile", text="bolt")
    assert since == 1013.0 and count == sum(1000 + n // 3 >= since for n in BOLTS)
    page = filled.page("tile", text="bolt")
    assert page.is_cut and [int(one.id) for one in page.judgements] == [56, 49, 42] and page.next == f"{39:026}"
    assert filled.counted("tile") == (60, None)  # without a text, an index answers


def test_a_page_goes_on_from_a_verdict_that_is_there(filled: Store) -> None:
    for filters in ({}, {"text": "bolt"}):
        with pytest.raises(DataError, match="no verdict"):
            filled.page("tile", before="f" * 26, **filters)
