"""The records of a batch are sorted by what is to be done, before anything is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.ipc.records import RecordColumns
from pylantir.store.decide.classify import Classified, Existing, classify
from pylantir.store.decide.records import LIVE, REFUSED, WITHDRAWN


def columns(*said: tuple[str, str]) -> RecordColumns:
    """Records of a key and a protocol each, all of one patient."""
    return RecordColumns(
        [key for key, _ in said], {"patient_id": ["P"] * len(said), "protocol_name": [name for _, name in said]}
    )


def stored(number: int, name: str, state: str = LIVE) -> Existing:
    return Existing(number, state, "P", ["P", name])


def compare(
    records: RecordColumns, existing: dict[str, Existing], *, seen: frozenset[int] = frozenset(), snapshot: bool = True
) -> Classified:
    return classify(records, existing, seen.__contains__, snapshot=snapshot)


def test_new_changed_and_unchanged_records_are_told_apart() -> None:
    existing = {"same": stored(1, "HEAD"), "other": stored(2, "HEAD"), "refused": stored(3, "HEAD", REFUSED)}
    result = compare(columns(("same", "HEAD"), ("other", "KNEE"), ("new", "HEAD"), ("refused", "HEAD")), existing)
    assert result == Classified(fresh=[1, 2], unchanged={"same": existing["same"], "refused": existing["refused"]})


def test_a_withdrawn_record_that_returns_is_fresh() -> None:
    assert compare(columns(("a", "HEAD")), {"a": stored(1, "HEAD", WITHDRAWN)}) == Classified(fresh=[0])


@pytest.mark.parametrize("snapshot", [True, False])
def test_an_exact_repeat_counts_once(snapshot: bool) -> None:
    result = compare(columns(("a", "HEAD"), ("a", "HEAD")), {}, snapshot=snapshot)
    assert result == Classified(repeats=["a"], fresh=[0])


def test_a_key_with_other_values_is_a_conflict_in_a_snapshot_and_news_otherwise() -> None:
    twice = columns(("a", "HEAD"), ("a", "KNEE"))
    assert compare(twice, {}) == Classified(conflicts=[1], fresh=[0])
    assert compare(twice, {}, snapshot=False) == Classified(fresh=[0, 1])


def test_what_an_earlier_batch_of_the_cycle_showed_counts_as_shown() -> None:
    existing = {"a": stored(1, "HEAD"), "b": stored(2, "HEAD")}
    result = compare(columns(("a", "HEAD"), ("b", "KNEE")), existing, seen=frozenset({1, 2}))
    assert result == Classified(repeats=["a"], conflicts=[1])


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"))),
    st.dictionaries(st.sampled_from("abc"), st.tuples(st.sampled_from("xy"), st.sampled_from((LIVE, WITHDRAWN)))),
    st.booleans(),
)
def test_every_record_is_exactly_one_of_four(
    said: list[tuple[str, str]], prior: dict[str, tuple[str, str]], snapshot: bool
) -> None:
    existing = {key: stored(number, *values) for number, (key, values) in enumerate(prior.items())}
    result = compare(columns(*said), existing, snapshot=snapshot) if said else Classified()
    unchanged_or_repeated = len(said) - len(result.conflicts) - len(result.fresh)
    assert len(result.repeats) <= unchanged_or_repeated <= len(result.repeats) + len(said)
    assert set(result.conflicts).isdisjoint(result.fresh)
    if snapshot:
        assert len({said[place][0] for place in result.fresh}) == len(result.fresh)
        assert unchanged_or_repeated == len(result.repeats) + len(result.unchanged)
