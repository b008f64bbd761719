"""Sets of images: what is taken, refused, moved and kept."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anomaly_core import DataError, RunError
from anomaly_serve.teaching.members import Limits, Refused, Taken
from anomaly_serve.teaching.sets import Sets

Png = Callable[..., bytes]


@pytest.fixture
def sets(tmp_path: Path) -> Sets:
    return Sets(tmp_path / "teach", Limits(file_bytes=200_000, pixels=10_000, images=4, quota=1_000_000))


def test_an_image_is_a_file_and_survives_a_restart(sets: Sets, png: Png) -> None:
    taken = sets.get("disc").take("normal", r"C:\line 1\Teil ß.PNG", [png(1)])
    assert isinstance(taken, Taken) and not taken.again
    assert (taken.member.name, taken.member.size, taken.member.kind) == ("Teil ß", (48, 64), "normal")
    assert taken.member.path.parent == sets.folder / "disc" / "draft" / "normal"
    assert taken.member.path.read_bytes() == png(1)
    assert Sets(sets.folder).get("disc").members() == [taken.member]


def test_the_same_content_is_named_once(sets: Sets, png: Png) -> None:
    draft = sets.get("disc")
    first = draft.take("normal", "a.png", [png(1)])
    again = draft.take("normal", "b.png", [png(1)])
    assert isinstance(first, Taken) and again == Taken(first.member, again=True)
    other = draft.take("abnormal", "c.png", [png(1)])
    assert isinstance(other, Refused) and "a normal image, a" in other.reason
    assert len(draft.members()) == 1


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", "it is empty"),
        ("text", "it is no image"),
        ("half", "truncated"),
        ("wide", "it has 200 x 100 pixels, and an image may have 10,000 here"),
        ("long", "more than 0.2 MB"),
    ],
)
def test_what_is_no_image_is_refused_in_words(sets: Sets, png: Png, kind: str, words: str) -> None:
    files = {"empty": b"", "text": b"hello", "half": png(1)[:2000], "wide": png(1, size=(200, 100)), "long": bytes(300_000)}
    data = files[kind]
    refused = sets.get("disc").take("normal", "shot.png", [data])
    assert isinstance(refused, Refused) and refused.name == "shot"
    assert words in refused.reason
    assert str(sets.folder) not in refused.reason
    assert [path for path in sets.folder.rglob("*") if path.is_file()] == []


def test_no_more_is_read_than_a_file_may_have(sets: Sets) -> None:
    read = []

    def endless() -> Iterator[bytes]:
        while True:
            read.append(1)
            yield bytes(50_000)

    assert isinstance(sets.get("disc").take("normal", "zeros", endless()), Refused)
    assert len(read) == 5


def test_number_and_bytes_are_bounded(sets: Sets, png: Png) -> None:
    draft = sets.get("disc")
    for seed in range(4):
        assert isinstance(draft.take("normal", f"{seed}.png", [png(seed)]), Taken)
    many = draft.take("normal", "4.png", [png(4)])
    assert isinstance(many, Refused) and "4 images" in many.reason
    tight = Sets(sets.folder, Limits(quota=sets.used.bytes() + 10))
    full = tight.get("ring").take("normal", "a.png", [png(9)])
    assert isinstance(full, Refused) and "--teach-quota" in full.reason


def test_move_and_remove(sets: Sets, png: Png) -> None:
    draft = sets.get("disc")
    taken = draft.take("normal", "a.png", [png(1)])
    assert isinstance(taken, Taken)
    draft.move(taken.member.digest, "abnormal")
    assert [member.kind for member in Sets(sets.folder).get("disc").members()] == ["abnormal"]
    draft.remove(taken.member.digest)
    assert draft.members() == [] and sets.used.bytes() == 0
    with pytest.raises(DataError, match="not in the set any more"):
        draft.remove(taken.member.digest)


def test_a_copy_takes_no_room_and_stays_as_it_is(sets: Sets, png: Png) -> None:
    draft = sets.get("disc")
    taken = draft.take("normal", "a.png", [png(1)])
    assert isinstance(taken, Taken)
    before = sets.used.bytes()
    copy = draft.copy(sets.place("disc") / "set-1")
    draft.remove(taken.member.digest)
    assert [member.digest for member in copy.members()] == [taken.member.digest]
    assert sets.used.bytes() == pytest.approx(before, abs=1)


@pytest.mark.parametrize(("defects", "learn", "tested"), [(0, False, 1), (2, False, 2), (2, True, 1)])
def test_the_list_says_what_is_learnt_and_what_tests(sets: Sets, png: Png, defects: int, learn: bool, tested: int) -> None:
    draft = sets.get("disc")
    for seed in range(2):
        draft.take("normal", f"{seed}.png", [png(seed)])
    for seed in range(defects):
        draft.take("abnormal", f"bad{seed}.png", [png(seed, defect=True)])
    file = draft.write_list("disc", learn_defects=learn)
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 2 + defects and all((file.parent / row["path"]).is_file() for row in rows)
    testing = [row for row in rows if row["split"] == "test"]
    assert len(testing) == tested and {row["label"] for row in testing} == {"bad" if defects else "good"}


def test_a_set_lies_in_the_folder_of_its_product(sets: Sets) -> None:
    assert sets.get("../etc").folder.parent.parent == sets.folder
    with pytest.raises(RunError, match="no name of a set"):
        sets.get("disc", "../../other")


def test_partial_files_of_a_killed_process_are_removed(sets: Sets) -> None:
    part_file = sets.folder / "disc" / "draft" / ".0123.part"
    part_file.parent.mkdir(parents=True)
    part_file.write_bytes(b"half")
    Sets(sets.folder)
    assert not part_file.exists()
