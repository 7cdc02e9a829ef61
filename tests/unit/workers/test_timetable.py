"""When a source is fetched next: intervals, windows, failures, changes, and an operator's wish."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.settings import OperationWindow
from workers.source.timetable import Timetable, pause_after_failures

ALWAYS = OperationWindow(start_minute=0, end_minute=1439)
OFFICE_HOURS = OperationWindow(start_minute=8 * 60, end_minute=17 * 60)


def at(hour: int, minute: int = 0) -> datetime.datetime:
    return datetime.datetime(2030, 1, 1, hour, minute, tzinfo=ZoneInfo("Europe/Paris"))


def run_cycle(timetable: Timetable, begin: float, end: float, *, succeeded: bool = True) -> None:
    timetable.begin(begin)
    timetable.end(end, succeeded=succeeded)


def test_cycles_follow_from_start_to_start_however_long_they_take() -> None:
    timetable = Timetable(60, ALWAYS, due=100)
    assert timetable.is_due(100, at(9))
    run_cycle(timetable, 100.5, 130)
    assert timetable.next_start(130, at(9)) == 160
    run_cycle(timetable, 160, 290)
    assert timetable.next_start(290, at(9)) == 340


def test_a_source_that_has_never_been_fetched_waits_for_its_window() -> None:
    timetable = Timetable(60, OFFICE_HOURS, due=0)
    assert not timetable.is_due(5, at(7, 30))
    assert timetable.next_start(5, at(7, 30)) == 5 + 1800
    assert timetable.waits_for_window(5, at(7, 30))
    assert timetable.is_due(1805, at(8))
    assert not timetable.waits_for_window(1805, at(8))


def test_the_first_cycle_begins_the_grid() -> None:
    timetable = Timetable(60, ALWAYS)
    assert timetable.is_due(7, at(9))
    run_cycle(timetable, 7, 8)
    assert timetable.next_start(8, at(9)) == 67


def test_the_point_after_the_last_one_in_the_window_is_the_next_opening() -> None:
    timetable = Timetable(3600, OFFICE_HOURS, due=0)
    run_cycle(timetable, 0, 10)
    assert timetable.next_start(10, at(16, 30)) == 10 + 15.5 * 3600
    assert timetable.waits_for_window(10, at(16, 30))


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(1, 100_000), st.integers(0, 1439), st.integers(0, 10**6))
def test_the_next_start_is_never_past_and_always_in_the_window(
    start: int, end: int, interval: int, minute: int, now: int
) -> None:
    window = OperationWindow(start_minute=start, end_minute=end)
    timetable = Timetable(interval, window, due=0)
    run_cycle(timetable, 0, 1)
    local_now = datetime.datetime(2030, 1, 1, *divmod(minute, 60), tzinfo=datetime.UTC)
    begins = timetable.next_start(now, local_now)
    assert begins >= now
    local_start = local_now + datetime.timedelta(seconds=begins - now)
    assert timetable.is_due(begins, local_start)


def test_an_operator_is_obeyed_at_once_also_outside_the_window() -> None:
    timetable = Timetable(60, OFFICE_HOURS, due=0)
    timetable.ask()
    assert timetable.is_due(1, at(3))
    assert timetable.begin(1)
    timetable.end(2, succeeded=True)
    assert not timetable.is_due(2, at(3))
    assert not timetable.begin(3)


def test_a_cycle_that_spanned_two_writers_is_repeated_at_once() -> None:
    timetable = Timetable(3600, ALWAYS, due=0)
    timetable.begin(0)
    timetable.end(50, succeeded=True, again=True)
    assert timetable.is_due(50, at(9))


def test_a_watched_source_is_fetched_once_a_second_at_most() -> None:
    timetable = Timetable(3600, ALWAYS, due=0)
    run_cycle(timetable, 0, 0.1)
    assert not timetable.may_watch(0.9, at(9))
    assert timetable.may_watch(1.0, at(9))
    run_cycle(timetable, 1.0, 4.0)
    assert timetable.may_watch(4.0, at(9))


def test_a_watched_source_is_left_alone_outside_its_window() -> None:
    assert not Timetable(3600, OFFICE_HOURS, due=0).may_watch(0, at(7))


@pytest.mark.parametrize("interval", [1, 60, 3600])
def test_after_a_failure_comes_a_pause_of_the_watch_interval_at_least(interval: int) -> None:
    timetable = Timetable(interval, ALWAYS, due=0)
    run_cycle(timetable, 0, 5, succeeded=False)
    assert not timetable.is_due(5.9, at(9))
    assert not timetable.may_watch(5.9, at(9))
    assert timetable.may_watch(6.0, at(9))


@pytest.mark.parametrize(
    ("interval", "pauses"),
    [
        (1, [1, 2, 4, 8, 16, 30, 30]),
        (60, [10, 20, 40, 60, 60, 60, 60]),
        (3600, [10, 20, 40, 80, 160, 300, 300]),
    ],
)
def test_a_source_that_keeps_failing_is_asked_less_and_less(interval: int, pauses: list[float]) -> None:
    assert [pause_after_failures(failures, interval) for failures in range(1, 8)] == pauses
    assert pause_after_failures(10**6, interval) == pauses[-1]


def test_a_success_ends_the_backoff() -> None:
    timetable = Timetable(60, ALWAYS, due=0)
    for _ in range(3):
        run_cycle(timetable, 0, 0, succeeded=False)
    run_cycle(timetable, 100, 101)
    run_cycle(timetable, 160, 161, succeeded=False)
    assert timetable.next_start(161, at(9)) == 171


def test_a_source_that_begins_anew_is_fetched_at_once_but_in_its_window() -> None:
    timetable = Timetable(3600, OFFICE_HOURS, due=0)
    run_cycle(timetable, 0, 1)
    timetable.begin_anew(10)
    assert timetable.is_due(10, at(9))
    assert not timetable.is_due(10, at(7))
    run_cycle(timetable, 10, 11)
    assert timetable.next_start(11, at(9)) == 3610


def test_a_request_that_is_dropped_begins_no_cycle() -> None:
    timetable = Timetable(60, ALWAYS, due=100)
    timetable.ask()
    assert timetable.is_due(50, at(9))
    timetable.drop_request()
    assert not timetable.is_due(50, at(9))
