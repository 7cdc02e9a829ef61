"""The guard: half an export does not cancel a day's patients."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.store.decide.removal import HELD_AT_LEAST, SIGHTINGS, WAIT, HeldRemoval, judge_removal, make_picture

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


def judge(
    would_cancel: int,
    of: int,
    *,
    held: HeldRemoval | None = None,
    accepted: bool = False,
    now: datetime = NOON,
    picture: str = "a",
) -> HeldRemoval | None:
    return judge_removal(picture=picture, would_cancel=would_cancel, of=of, accepted=accepted, held=held, now=now)


@pytest.mark.parametrize(
    ("would_cancel", "of", "is_held"),
    [
        (0, 0, False),
        (0, 50, False),
        (1, 2, False),
        (9, 10, False),
        (9, 17, False),
        (10, 20, False),
        (10, 19, True),
        (51, 100, True),
        (50, 100, False),
        (1, 1, True),
        (9, 9, True),
        (500, 500, True),
    ],
)
def test_more_than_half_and_at_least_ten_or_all_is_held(would_cancel: int, of: int, is_held: bool) -> None:
    assert (judge(would_cancel, of) is not None) is is_held


def test_what_an_operator_accepts_goes_ahead() -> None:
    assert judge(500, 500, accepted=True) is None


def test_the_same_picture_three_times_over_fifteen_minutes_goes_ahead() -> None:
    held = judge(20, 20)
    held = judge(20, 20, held=held, now=NOON + WAIT / 2)
    assert held is not None
    assert held.times == SIGHTINGS - 1
    assert judge(20, 20, held=held, now=NOON + WAIT) is None


def test_three_times_in_a_minute_is_not_enough() -> None:
    held = None
    for second in range(10):
        held = judge(20, 20, held=held, now=NOON + timedelta(seconds=second))
        assert held is not None
        assert held.since == NOON.isoformat()


def test_twice_in_a_day_is_not_enough() -> None:
    assert judge(20, 20, held=judge(20, 20), now=NOON + timedelta(days=1)) is not None


def test_another_picture_begins_to_wait_anew() -> None:
    held = judge(20, 20, held=judge(20, 20), now=NOON + WAIT)
    other = judge(20, 20, held=held, now=NOON + 2 * WAIT, picture="b")
    assert other is not None
    assert (other.times, other.since) == (1, (NOON + 2 * WAIT).isoformat())


@given(st.integers(0, 60), st.integers(0, 60))
def test_few_removals_of_many_are_never_held(would_cancel: int, more: int) -> None:
    of = would_cancel + more
    held = judge(would_cancel, of)
    if held is not None:
        assert would_cancel == of or (would_cancel >= HELD_AT_LEAST and would_cancel > of / 2)
        assert (held.would_cancel, held.of, held.times) == (would_cancel, of, 1)


@given(st.lists(st.text(), unique=True), st.randoms())
def test_a_picture_is_the_set_of_keys(keys: list[str], random: object) -> None:
    shuffled = list(keys)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert make_picture(shuffled) == make_picture(keys)
    assert make_picture([*keys, "one more\n"]) != make_picture(keys)


def test_a_picture_takes_any_text() -> None:
    assert make_picture(["\ud800"]) != make_picture([])
