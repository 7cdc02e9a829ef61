"""Passages: what makes two of them the same, and what does not."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.data_sources.base import RECORD_LABEL
from workers.source.passages import KnownPassages, Passage, PassageCutter, PassageNames

KEY = b"k" * 16
VALUES = st.one_of(
    st.text(st.sampled_from("ab\x1d\x1e\x1f'\", "), max_size=4), st.none(), st.integers(-1, 2), st.booleans(),
    st.floats(-1, 2, allow_nan=False), st.sampled_from([datetime.date(2030, 1, 1), Decimal(1), Decimal("1.0")]),
)  # fmt: skip
LAYOUTS = st.sampled_from([("a", "b"), ("b", "a"), ("a",), ("a", "b", "c")])


@st.composite
def records(draw: Any) -> dict[str, Any]:
    return {name: draw(VALUES) for name in draw(LAYOUTS)}


def cut(entries: list[dict[str, Any]], key: bytes = KEY, within_s: float = math.inf) -> list[Passage]:
    cutter = PassageCutter(key, within_s=within_s)
    cuts = [one for entry in entries for one in cutter.add(entry)] + [*cutter.finish()]
    return [one for one in cuts if isinstance(one, Passage)]


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"patient_id": f"P{number}", "name": f"Name^{number % 7}", RECORD_LABEL: f"row {number}"}
        for number in range(start, start + count)
    ]


@given(st.lists(records(), max_size=60))
def test_passages_put_together_are_the_records_in_their_order(entries: list[dict[str, Any]]) -> None:
    passages = cut(entries)
    again = [dict(zip(one.layout, record, strict=True)) for one in passages for record in one.records]
    assert repr(again) == repr(entries)
    assert [label for one in passages for label in one.labels] == list(range(1, len(entries) + 1))


@given(st.lists(records(), min_size=1, max_size=3), st.lists(records(), min_size=1, max_size=3))
def test_equal_names_mean_equal_records(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    (one, *_), (other, *_) = cut(first), cut(second)
    if one.name is not None and one.name == other.name:
        assert (one.layout, repr(one.records)) == (other.layout, repr(other.records))


@pytest.mark.parametrize("other", ["text", 1, object()])
def test_a_passage_of_huge_records_is_short(other: object) -> None:
    passages = cut([{"patient_id": f"P{number}", "note": "x" * 200_000, "other": other} for number in range(20)])
    assert [len(passage.records) for passage in passages] == [2] * 10
    assert all(passage.size > 400_000 for passage in passages)


def test_a_type_is_part_of_a_value() -> None:
    values: tuple[Any, ...] = (
        1,
        1.0,
        True,
        "1",
        "True",
        None,
        "None",
        "",
        "['1']",
        Decimal(1),
        datetime.date(2030, 1, 1),
    )
    names = [cut([{"a": value}])[0].name for value in values]
    assert len(set(names)) == len(values)
    assert None not in names


def test_values_that_cannot_be_compared_have_no_name() -> None:
    for value in (["a"], {"a": 1}, object(), "a\x1fb", "a\x1db", "a\x1eb"):
        assert cut([{"a": value, "b": "c"}])[0].name is None


def test_text_is_not_taken_for_other_values_written_out() -> None:
    for values, text in (({"a": 1}, {"a": "\x1e[1]"}), ({"a": "1", "b": 2}, {"a": "\x1e", "b": "['1', 2]"})):
        assert cut([values])[0].name is not None
        assert cut([text])[0].name is None


def test_a_slow_plugin_is_not_waited_for() -> None:
    assert [len(one.records) for one in cut(rows(3), within_s=-1)] == [1, 1, 1]


def test_what_is_no_record_stands_between_passages_in_its_place() -> None:
    cutter = PassageCutter(KEY)
    assert cutter.add({"a": "1"}) == ()
    passage, stray = cutter.add(17)
    assert isinstance(passage, Passage)
    assert (passage.labels, stray.entry, stray.position) == ([1], 17, 2)
    assert cutter.finish() == ()


def test_a_passage_with_a_record_that_cannot_be_compared_has_no_name_and_the_next_one_has() -> None:
    first, second = cut([{"a": "1"}, {"a": ["x"]}, {"b": "1"}])
    assert (first.name, first.records) == (None, [["1"], [["x"]]])
    assert second.name is not None


def test_where_a_record_stands_does_not_matter() -> None:
    moved = [{**row, RECORD_LABEL: f"row {number + 7}"} for number, row in enumerate(rows(100))]
    assert [one.name for one in cut(rows(100))] == [one.name for one in cut(moved)]
    assert cut(moved)[0].labels[0] == "row 7"
    assert RECORD_LABEL not in cut(moved)[0].layout


def test_another_worker_gives_other_names() -> None:
    assert not {one.name for one in cut(rows(100))} & {one.name for one in cut(rows(100), b"o" * 16)}


def test_a_record_that_comes_or_changes_touches_few_passages() -> None:
    before = {one.name for one in cut(rows(3000))}
    changed = rows(3000)
    changed[1500]["name"] = "Other"
    for entries in ([*rows(1, start=9000), *rows(3000)], changed, rows(2999, start=1)):
        passages = cut(entries)
        assert sum(one.name not in before for one in passages) < len(passages) / 10


def test_passages_are_neither_tiny_nor_huge() -> None:
    lengths = [len(one.records) for one in cut(rows(3000))]
    assert 10 < sum(lengths) / len(lengths) < 25
    assert max(lengths) <= 64


def test_a_name_is_taken_once_and_only_if_it_is_there() -> None:
    names = PassageNames(KEY)
    for name in (7, 2**64 - 1, 0, 5):
        names.add(name)
    known = names.without({5})
    assert len(known) == 3
    assert [known.take(name) for name in (7, 7, 5, 6, 0, 2**64 - 1, 2**64 - 1)] == [
        True, False, False, False, True, True, False,
    ]  # fmt: skip
    assert not PassageNames().take(0)


def test_passages_are_known_again_to_the_writer_that_committed_them() -> None:
    known, writer = KnownPassages(), object()
    shown = PassageNames(known.begin(writer).key)
    for name in (1, 2):
        shown.add(name)
    assert known.commit(shown, writer=writer, unkept={2})
    names = known.begin(writer)
    assert (names.take(1), names.take(2)) == (True, False)


def test_passages_count_for_one_cycle_only() -> None:
    known, writer = KnownPassages(), object()
    shown = PassageNames(known.begin(writer).key)
    shown.add(1)
    known.commit(shown, writer=writer, unkept=())
    known.begin(writer)
    assert not known.begin(writer).take(1)


def test_another_writer_is_shown_everything() -> None:
    known, writer, successor = KnownPassages(), object(), object()
    shown = PassageNames(known.begin(writer).key)
    shown.add(1)
    assert known.commit(shown, writer=writer, unkept=())
    assert not known.begin(successor).take(1)
    assert not known.commit(shown, writer=writer, unkept=())
    assert not known.begin(successor).take(1)
