"""Days, ranges of days and moments as an operator writes them."""

from __future__ import annotations

import datetime
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.cli.periods import read_day, read_days, read_moment
from pylantir.errors import PylantirError, WrongUsage

TODAY = datetime.date(2026, 8, 3)
NOW = datetime.datetime(2026, 8, 3, 12, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=-7)))
DATES = st.dates(min_value=datetime.date(1000, 1, 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("today", ("20260803", "20260803")),
        ("yesterday..tomorrow", ("20260802", "20260804")),
        ("2026-08-05", ("20260805", "20260805")),
        ("20260805", ("20260805", "20260805")),
        ("2026-08-01..2026-08-31", ("20260801", "20260831")),
        ("20260801-20260831", ("20260801", "20260831")),
        ("today..", ("20260803", None)),
        ("..today", (None, "20260803")),
        ("20260801-", ("20260801", None)),
        ("-20260801", (None, "20260801")),
        ("today-", ("20260803", None)),
    ],
)
def test_days_are_understood(text: str, expected: tuple[str | None, str | None]) -> None:
    assert read_days(text, TODAY) == expected


@given(DATES, DATES)
def test_a_range_may_be_written_in_iso_or_in_dicom_form(first: datetime.date, last: datetime.date) -> None:
    first, last = sorted((first, last))
    expected = (first.strftime("%Y%m%d"), last.strftime("%Y%m%d"))
    assert read_days(f"{first}..{last}", TODAY) == expected
    assert read_days("-".join(expected), TODAY) == expected


@pytest.mark.parametrize("text", ["", "..", "-", "soon", "2026-8-3", "2026-02-30", "01/02/2026", "2026"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(PylantirError, match=r"2026-08-03|no such day"):
        read_days(text, TODAY)


@pytest.mark.parametrize("text", ["2026-08-02..2026-08-01", "today..yesterday", "20260802-20260801"])
def test_a_range_that_ends_before_it_begins_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match="ends before it begins"):
        read_days(text, TODAY)


@pytest.mark.parametrize(
    ("text", "expected"), [("today", "20260803"), (" 2026-08-05", "20260805"), ("20260805", "20260805")]
)
def test_a_single_day_is_understood(text: str, expected: str) -> None:
    assert read_day(text, TODAY) == expected


@pytest.mark.parametrize(
    "text", ["", "today..", "..today", "2026-08-01..2026-08-31", "20260801-", "01.08.2026", "2026-02-30"]
)
def test_a_range_is_no_single_day(text: str) -> None:
    with pytest.raises(WrongUsage, match=r"expected one day|no such day"):
        read_day(text, TODAY)


def test_the_near_name_of_a_day_is_told() -> None:
    with pytest.raises(PylantirError, match='did you mean "yesterday"'):
        read_days("yesteday", TODAY)
    with pytest.raises(PylantirError, match='did you mean "today"'):
        read_moment("tody", NOW)


def test_a_moment_with_an_offset_is_kept_and_one_without_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    time.tzset()
    try:
        assert read_moment("2026-08-03T12:30:00+02:00", NOW) == "2026-08-03T10:30:00.000000+00:00"
        assert read_moment("2026-08-03 14:30", NOW) == "2026-08-03T21:30:00.000000+00:00"
        assert read_moment("2026-01-03", NOW) == "2026-01-03T08:00:00.000000+00:00"
        assert read_moment("today", NOW) == "2026-08-03T07:00:00.000000+00:00"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "14:30"])
def test_a_moment_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(PylantirError, match="2026-08-03T14:30"):
        read_moment(text, NOW)


def test_a_moment_at_the_end_of_time_is_refused() -> None:
    with pytest.raises(PylantirError, match="too far away"):
        read_moment("0001-01-01T00:00:00+14:00", NOW)
