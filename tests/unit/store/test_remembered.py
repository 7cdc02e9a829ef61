"""What the writer remembers of the passages of a cycle, and what it recognises in the next one."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pylantir.store.intake.remembered import Passages

NAMES = st.integers(0, 2**64 - 1)
IDS = st.lists(st.integers(1, 2**40), min_size=1, max_size=20)
RUNS = st.builds(lambda first, length: list(range(first, first + length)), st.integers(1, 2**40), st.integers(1, 20))


def has_seen_none(_ids: Sequence[int]) -> bool:
    return False


@given(st.dictionaries(NAMES, IDS | RUNS))
def test_the_records_of_a_passage_are_kept_as_they_were(records: dict[int, list[int]]) -> None:
    passages, successor = Passages(), Passages()
    everything = [number for ids in records.values() for number in ids]
    assert passages.remember([(name, len(ids)) for name, ids in records.items()], everything) == []
    assert {name: list(passages.find(name) or ()) for name in records} == records
    passages.move(records, successor)
    assert [passages.find(name) for name in records] == [None] * len(records)
    assert {name: list(successor.find(name) or ()) for name in records} == records


def test_a_passage_with_a_record_to_check_again_or_without_any_is_not_remembered() -> None:
    passages = Passages()
    assert passages.remember([(7, 2), (None, 1), (8, 2), (9, 0), (10, 1)], [1, 2, 3, 4, None, 5]) == [8, 9]
    assert [list(passages.find(name) or ()) for name in (7, 8, 9, 10)] == [[1, 2], [], [], [5]]


def test_named_passages_show_their_records_again() -> None:
    passages = Passages()
    passages.remember([(7, 2), (8, 1)], [1, 2, 9])
    again = passages.recognise([8, 7], has_seen_none)
    assert (again.names, again.ids, again.has_unknown) == ([8, 7], {1, 2, 9}, False)


def test_a_passage_that_is_unknown_or_shows_a_record_twice_is_not_recognised() -> None:
    passages = Passages()
    passages.remember([(7, 2), (8, 2), (9, 1)], [1, 2, 2, 3, 4])
    assert passages.recognise([6], has_seen_none).has_unknown
    twice = passages.recognise([7, 8, 9], has_seen_none)
    assert (twice.names, twice.ids, twice.has_unknown) == ([7, 9], {1, 2, 4}, True)
    shown = passages.recognise([7, 9], lambda ids: 4 in ids)
    assert (shown.names, shown.ids, shown.has_unknown) == ([7], {1, 2}, True)
