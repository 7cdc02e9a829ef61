"""When a source is asked: no drift, windows across midnight and clock changes, look-back, backoff."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.schedule import (
    OVERLAP_S,
    TEN_YEARS_S,
    backoff_delay,
    is_ahead,
    look_back_s,
    next_start,
    seconds_until_open,
    window_is_open,
)
from pylantir.settings import OperationWindow

MINUTES = st.integers(0, 24 * 60 - 1)
WINDOWS = st.builds(OperationWindow, start_minute=MINUTES, end_minute=MINUTES)
BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = OperationWindow(start_minute=22 * 60, end_minute=6 * 60)
DAY = OperationWindow(start_minute=7 * 60, end_minute=18 * 60)


def at(text: str, zone: datetime.tzinfo | None = None) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zone)


def test_the_next_start_is_one_interval_after_the_last_however_long_it_took() -> None:
    assert next_start(100.0, 60.0, 100.5) == 160.0
    assert next_start(100.0, 60.0, 159.9) == 160.0


def test_missed_starts_are_skipped() -> None:
    assert next_start(100.0, 60.0, 290.0) == 340.0


@given(previous=st.floats(0, 1e6), interval=st.floats(1, 1e5), late=st.floats(0, 1e6))
def test_starts_stay_on_the_grid_and_never_lie_far_back(previous: float, interval: float, late: float) -> None:
    now = previous + late
    start = next_start(previous, interval, now)
    steps = (start - previous) / interval
    assert steps == pytest.approx(round(steps), abs=1e-6)
    assert round(steps) >= 1
    assert now - 1e-3 <= start <= max(now, previous) + interval + 1e-3


@pytest.mark.parametrize(
    ("window", "minute", "is_open"),
    [
        (DAY, 7 * 60, True),
        (DAY, 18 * 60, True),
        (DAY, 18 * 60 + 1, False),
        (NIGHT, 23 * 60, True),
        (NIGHT, 6 * 60, True),
        (NIGHT, 12 * 60, False),
        (OperationWindow(), 0, True),
        (OperationWindow(), 24 * 60 - 1, True),
    ],
)
def test_a_window_holds_both_its_ends_and_may_cross_midnight(
    window: OperationWindow, minute: int, is_open: bool
) -> None:
    assert window_is_open(window, minute) is is_open


@given(window=WINDOWS)
def test_a_window_and_its_gap_make_a_day(window: OperationWindow) -> None:
    width = (window.end_minute - window.start_minute) % (24 * 60) + 1
    assert sum(window_is_open(window, minute) for minute in range(24 * 60)) == width


def test_an_open_window_needs_no_waiting() -> None:
    assert seconds_until_open(DAY, at("2026-12-01T12:00:00")) == 0


def test_the_wait_ends_at_the_opening_of_today_or_tomorrow() -> None:
    assert seconds_until_open(DAY, at("2026-12-01T06:59:30")) == 30
    assert seconds_until_open(DAY, at("2026-12-01T19:00:00")) == 12 * 3600
    assert seconds_until_open(NIGHT, at("2026-12-01T21:00:00")) == 3600


def test_the_hour_that_is_missing_in_spring_is_not_waited_for() -> None:
    assert seconds_until_open(DAY, at("2026-03-28T19:00:00", BERLIN)) == 11 * 3600


def test_the_hour_that_comes_twice_in_autumn_is_waited_for() -> None:
    assert seconds_until_open(DAY, at("2026-10-24T19:00:00", BERLIN)) == 13 * 3600


@given(
    window=WINDOWS,
    moment=st.one_of(
        st.datetimes(at("2026-01-01"), at("2027-01-01"), timezones=st.just(BERLIN)),
        st.datetimes(at("2026-03-28"), at("2026-03-30"), timezones=st.just(BERLIN)),
        st.datetimes(at("2026-10-24"), at("2026-10-26"), timezones=st.just(BERLIN)),
    ),
)
def test_a_closed_window_is_always_waited_for_a_while_and_never_much_over_a_day(
    window: OperationWindow, moment: datetime.datetime
) -> None:
    moment = moment.astimezone(datetime.UTC).astimezone(BERLIN)
    wait = seconds_until_open(window, moment)
    is_open = window_is_open(window, moment.hour * 60 + moment.minute)
    assert (wait == 0) is is_open
    assert 0 <= wait <= 25 * 3600


def test_the_first_sync_looks_back_ten_years() -> None:
    assert look_back_s(None, at("2026-12-01T12:00:00"), 60) == TEN_YEARS_S


@given(gap=st.integers(0, 10**8), interval=st.integers(1, 10**5))
def test_the_look_back_covers_the_gap_and_the_interval(gap: int, interval: int) -> None:
    now = at("2026-12-01T12:00:00", datetime.UTC)
    seconds = look_back_s(now - datetime.timedelta(seconds=gap), now, interval)
    assert seconds == max(gap, interval) + OVERLAP_S


@given(ahead=st.integers(-(10**9), 10**9))
def test_a_moment_of_the_past_that_lies_minutes_ahead_was_noted_by_a_wrong_clock(ahead: int) -> None:
    now = at("2026-12-01T12:00:00", datetime.UTC)
    assert is_ahead(now + datetime.timedelta(seconds=ahead), now) is (ahead > OVERLAP_S)


def test_a_clock_that_was_set_back_still_looks_back_an_interval() -> None:
    now = at("2026-12-01T12:00:00", datetime.UTC)
    assert look_back_s(now + datetime.timedelta(hours=1), now, 60) == 60 + OVERLAP_S


def test_the_first_failure_costs_nothing_and_the_next_ones_double() -> None:
    assert [backoff_delay(failures, 60) for failures in range(10)] == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]


@given(failures=st.integers(2, 10**9), cap=st.floats(1, 3600), jitter=st.floats(-0.2, 0.2))
def test_the_jitter_stays_within_a_fifth(failures: int, cap: float, jitter: float) -> None:
    plain = backoff_delay(failures, cap)
    assert 0.79 * plain <= backoff_delay(failures, cap, jitter) <= 1.21 * plain
    assert plain <= cap
