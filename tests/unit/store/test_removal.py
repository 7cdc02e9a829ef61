"""The guard: half an export does not cancel a day's patients."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.store.decide.removal import HELD_AT_LEAST, SNAPSHOTS, WAIT, HeldRemoval, is_due, is_suspicious

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("missing", "of", "new", "held"),
    [
        (0, 0, False, False),
        (0, 50, False, False),
        (1, 2, False, False),
        (2, 3, False, False),
        (3, 6, False, False),
        (3, 5, False, True),
        (3, 5, True, True),
        (10, 20, False, False),
        (11, 20, True, True),
        (1, 1, False, True),
        (1, 1, True, False),
        (2, 2, False, True),
        (2, 2, True, False),
        (3, 3, True, True),
        (500, 500, False, True),
    ],
)
def test_more_than_half_and_at_least_three_or_all_with_nothing_new_is_held(
    missing: int, of: int, new: bool, held: bool
) -> None:
    assert is_suspicious(missing, of=of, anything_new=new) is held


@given(st.integers(0, 60), st.integers(0, 60), st.booleans())
def test_few_removals_of_many_are_never_held(missing: int, more: int, new: bool) -> None:
    of = missing + more
    if is_suspicious(missing, of=of, anything_new=new):
        assert (missing == of and not new) or (missing >= HELD_AT_LEAST and missing > of / 2)


@pytest.mark.parametrize(
    ("times", "after", "seldom", "due"),
    [
        (3, WAIT, False, True),
        (3, WAIT - timedelta(seconds=1), False, False),
        (2, WAIT * 40, False, False),
        (2, WAIT, True, True),
        (2, WAIT - timedelta(seconds=1), True, False),
        (1, WAIT * 400, True, False),
    ],
)
def test_a_held_record_goes_after_three_snapshots_or_two_rare_ones_and_a_quarter_of_an_hour(
    times: int, after: timedelta, seldom: bool, due: bool
) -> None:
    assert is_due(since=NOON.isoformat(), times=times, now=NOON + after, seldom=seldom) is due


@given(st.integers(1, 10), st.integers(0, 3600), st.booleans())
def test_nothing_goes_at_its_first_sighting_or_within_a_quarter_of_an_hour(
    times: int, seconds: int, seldom: bool
) -> None:
    due = is_due(since=NOON.isoformat(), times=times, now=NOON + timedelta(seconds=seconds), seldom=seldom)
    if due:
        assert times >= SNAPSHOTS - 1
        assert timedelta(seconds=seconds) >= WAIT


def test_what_is_held_is_stored_and_an_earlier_form_of_it_is_judged_anew() -> None:
    held = HeldRemoval(would_cancel=3, of=4, since=NOON.isoformat(), times=1)
    assert HeldRemoval.from_json(held.as_json()) == held
    assert HeldRemoval.from_json({**held.as_json(), "picture": "a"}) is None
