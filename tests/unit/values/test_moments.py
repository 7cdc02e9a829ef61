"""Dates and times: what is read means one thing only, and offsets are converted, never stripped."""

# ruff: noqa: DTZ001, DTZ007, DTZ011 - wall clocks

from __future__ import annotations

import datetime
import re
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.errors import RecordRejected
from pylantir.values.formats import Format, compile_format
from pylantir.values.moments import move_to_zone
from pylantir.values.normalise import ValueRules, normalise_value
from pylantir.values.readings import MomentRules

EDMONTON = ZoneInfo("America/Edmonton")
DATE_FORMATS = ("%d.%m.%Y", "%m/%d/%Y", "%d%m%Y", "%m%d%Y", "%d/%m/%y", "%d-%b-%Y", "%B %d, %Y", "%Y%j", "%y%m%d")
TIME_FORMATS = ("%H:%M", "%H%M", "%H.%M", "%I:%M %p", "%H%M%S", "%Hh%M", "%I%M%p")
DIGITS = st.text("0123456789", min_size=1, max_size=16)


def read(
    field: str, value: object, *, dates: tuple[str, ...] = (), times: tuple[str, ...] = (), zone: str | None = None
) -> str | None:
    moments = MomentRules(date_formats=dates, time_formats=times, zone=ZoneInfo(zone) if zone else None)
    return normalise_value(field, value, ValueRules(moments=moments))


def refused(field: str, value: object, **rules: tuple[str, ...]) -> str:
    with pytest.raises(RecordRejected) as caught:
        read(field, value, **rules)  # type: ignore[arg-type]
    return caught.value.reason


@given(
    moment=st.datetimes(datetime.datetime(1969, 1, 1), datetime.datetime(2068, 12, 31)),
    form=st.sampled_from(DATE_FORMATS),
)
def test_a_date_is_read_by_its_format_as_that_format_writes_it(moment: datetime.datetime, form: str) -> None:
    assert read("scheduled_start_date", moment.strftime(form), dates=(form,)) == f"{moment:%Y%m%d}"


@given(moment=st.datetimes(), form=st.sampled_from(TIME_FORMATS))
def test_a_time_is_read_by_its_format_as_that_format_writes_it(moment: datetime.datetime, form: str) -> None:
    second = f"{moment:%S}" if "%S" in form else "00"
    assert read("scheduled_start_time", moment.strftime(form), times=(form,)) == f"{moment:%H%M}{second}"


@pytest.mark.parametrize(
    ("formats", "text", "day"),
    [
        (("%d/%m/%Y", "%m/%d/%Y"), "13/02/2026", "20260213"),
        (("%d/%m/%Y", "%m/%d/%Y"), "02/13/2026", "20260213"),
        (("%d/%m/%Y", "%m/%d/%Y"), "02/02/2026", "20260202"),
        (("%d.%m.%Y", "%d.%m.%y", "excel"), "01.02.26", "20260201"),
        (("epoch", "epoch_ms"), "1796112600", "20261201"),
        (("epoch", "epoch_ms"), "1796112600000", "20261201"),
        (("excel", "%d%m%y"), "45992", "20251201"),
    ],
)
def test_each_of_several_formats_is_understood(formats: tuple[str, ...], text: str, day: str) -> None:
    assert read("scheduled_start_date", text, dates=formats, zone="Europe/Berlin") == day


@pytest.mark.parametrize("clock", ["", " 09:30"])
@pytest.mark.parametrize(
    ("formats", "day"), [(("%d/%m/%Y", "%m/%d/%Y"), "01/02/2026"), (("%d.%m.%y", "%y.%m.%d"), "01.02.03")]
)
def test_a_day_that_two_formats_read_differently_is_not_guessed(formats: tuple[str, ...], day: str, clock: str) -> None:
    for one in (formats, formats[::-1]):
        assert "as different days" in refused("scheduled_start", day + clock, dates=one, times=("%H:%M",))
        assert "as different days" in refused("patient_birth_date", day, dates=one)


@given(text=DIGITS, form=st.sampled_from(("%m%d%Y", "%d%m%Y", "%Y%m%d", "%y%m%d", "%d%m%y")))
def test_digits_that_are_read_as_a_date_have_the_whole_width_of_their_format(text: str, form: str) -> None:
    try:
        found = read("scheduled_start_date", text, dates=(form,))
    except RecordRejected:
        return
    assert found is not None
    day = datetime.datetime.strptime(found, "%Y%m%d")
    assert text in {day.strftime(form), day.strftime("%Y%m%d"), day.strftime("%Y%m%d") + text[8:]}


@given(text=DIGITS, form=st.sampled_from(("%H%M", "%H%M%S")))
def test_digits_that_are_read_as_a_time_have_the_whole_width_of_their_format(text: str, form: str) -> None:
    try:
        found = read("scheduled_start_time", text, times=(form,))
    except RecordRejected:
        return
    assert found is not None
    # Twelve or fourteen digits are DICOM's date and time in one, whatever the format says.
    assert text in {found, found[:4]} or text[8:] in {found, found[:4]}
    assert len(text) >= Format(form).digits


NUMBERS = st.integers(0, 32).flatmap(lambda number: st.sampled_from([str(number), f"{number:02}"]))


@given(
    day=NUMBERS,
    month=NUMBERS,
    year=st.sampled_from(["0", "26", "1999", "2026", "12026"]),
    form=st.sampled_from(("/", ".")),
)
def test_what_a_format_accepts_strptime_reads_the_same_way(day: str, month: str, year: str, form: str) -> None:
    text, form = form.join((day, month, year)), form.join(("%d", "%m", "%Y"))
    said = compile_format(form).read(text)
    if said is None:
        return
    moment = datetime.datetime.strptime(text, form)
    assert (said["year"], said["month"], said["day"]) == (moment.year, moment.month, moment.day)


@pytest.mark.parametrize(
    ("field", "text", "form"),
    [
        ("scheduled_start_date", "1122026", "%m%d%Y"),
        ("patient_birth_date", "1121980", "%d%m%Y"),
        ("scheduled_start_time", "130", "%H%M"),
        ("scheduled_start_time", "15", "%H%M"),
        ("scheduled_start", "202612010930", "%Y%m%d%H%M%S"),
        ("scheduled_start_date", "112026", "%d%m%Y"),
        ("scheduled_start_date", "13/13/2026", "%d/%m/%Y"),
        ("scheduled_start_date", "1/12/26", "%d/%m/%Y"),
    ],
)
def test_a_text_that_has_lost_a_digit_is_refused(field: str, text: str, form: str) -> None:
    assert "expected" in refused(field, text, dates=(form,), times=(form,))


@pytest.mark.parametrize("form", ["%d.%m.%Y", "%m/%d/%Y", "%d%m%Y", "excel", "epoch"])
def test_iso_and_dicom_forms_are_understood_beside_every_format(form: str) -> None:
    assert read("scheduled_start_date", "2026-12-01", dates=(form,)) == "20261201"
    assert read("scheduled_start_date", "20261201", dates=(form,)) == "20261201"
    assert read("scheduled_start", "2026-12-01T08:30", dates=(form,)) == "20261201083000"


@pytest.mark.parametrize(
    ("text", "forms", "expected"),
    [
        ("01/02/2026", ("%d/%m/%Y",), "20260201"),
        ("01/02/2026", ("%m/%d/%Y",), "20260102"),
        ("1-Dec-2026", ("%d-%b-%Y",), "20261201"),
        ("1. März 2026", ("%d. %B %Y",), "20260301"),
        ("3 août 2026", ("%d %B %Y",), "20260803"),
        ("03 ago 2026", ("%d %b %Y",), "20260803"),
        ("2026.12.1", ("%d.%m.%Y",), "20261201"),
        ("1.12.2026", ("%m/%d/%Y", "%d.%m.%Y"), "20261201"),
        ("45992", ("excel",), "20251201"),
        ("45992.75", ("excel",), "20251201"),
        ("1764547200", ("epoch",), "20251201"),
        ("1764547200000", ("epoch_ms",), "20251201"),
    ],
)
def test_one_column_may_have_several_formats(text: str, forms: tuple[str, ...], expected: str) -> None:
    assert read("scheduled_start_date", text, dates=forms, zone="UTC") == expected


@pytest.mark.parametrize(
    ("text", "dates", "times", "expected"),
    [
        ("12/1/2026 9:30 AM", ("%m/%d/%Y",), ("%I:%M %p",), "20261201093000"),
        ("12/1/2026", ("%m/%d/%Y",), ("%I:%M %p",), "20261201"),
        ("1.2.2026 8:30", ("%d.%m.%Y %H:%M",), (), "20260201083000"),
        ("45992.3958", ("excel",), (), "20251201093000"),
        ("1764581400", ("epoch",), (), "20251201023000"),
        ("1764581400000", ("epoch_ms",), (), "20251201023000"),
        ("01.12.2026 09:30 +0100", ("%d.%m.%Y %H:%M %z",), (), "20261201013000"),
    ],
)
def test_date_and_time_in_one_field(text: str, dates: tuple[str, ...], times: tuple[str, ...], expected: str) -> None:
    assert read("scheduled_start", text, dates=dates, times=times, zone="America/Edmonton") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.3958", "093000"),
        ("0,3958", "093000"),
        ("0.395833333333333", "093000"),
        ("0", "000000"),
        ("45992.75", "180000"),
        ("0.99999999", "000000"),
    ],
)
def test_a_spreadsheets_fraction_of_a_day_is_the_time_that_it_shows(text: str, expected: str) -> None:
    assert read("scheduled_start_time", text, times=("excel",)) == expected


@pytest.mark.parametrize("text", ["15", "9", "930"])
def test_a_whole_number_is_no_spreadsheets_time(text: str) -> None:
    refused("scheduled_start_time", text, times=("excel",))


def test_a_year_alone_is_not_guessed_where_days_are_counted() -> None:
    assert "could be a year" in refused("patient_birth_date", "1980", dates=("excel",))
    assert read("patient_birth_date", "29000", dates=("excel",)) == "19790525"


@pytest.mark.parametrize(
    "value",
    [
        "2026-12-02T06:30:00Z", "2026-12-02 06:30+00:00", "2026-12-02T07:30:00+01:00", "20261202063000+0000",
        "2026-12-02T06:30:00.000Z", "2026-12-02T06:30:00 UTC", "2026-12-02T07:30+01:00[Europe/Zurich]",
        datetime.datetime(2026, 12, 2, 6, 30, tzinfo=datetime.UTC),
    ],
)  # fmt: skip
def test_a_moment_with_an_offset_is_converted_to_the_sources_zone(value: object) -> None:
    assert read("scheduled_start", value, zone="America/Edmonton") == "20261201233000"
    assert read("scheduled_start_date", value, zone="America/Edmonton") == "20261201"
    assert read("scheduled_start_time", value, zone="America/Edmonton") == "233000"


def test_without_a_zone_of_the_source_this_machines_counts() -> None:
    moment = datetime.datetime(2026, 12, 2, 6, 30, tzinfo=datetime.UTC)
    assert read("scheduled_start", "2026-12-02T06:30:00Z") == f"{moment.astimezone():%Y%m%d%H%M%S}"


def test_a_time_with_an_offset_waits_for_its_date() -> None:
    assert read("scheduled_start_time", "06:30Z") == "063000+0000"
    assert read("scheduled_start_time", datetime.time(7, 30, tzinfo=datetime.UTC)) == "073000+0000"
    rules = MomentRules(zone=EDMONTON)
    assert move_to_zone("20261202", "063000+0000", rules) == ("20261201", "233000")
    assert move_to_zone("20260702", "063000+0000", rules) == ("20260702", "003000")


@pytest.mark.parametrize(
    ("text", "expected"), [("02/01/55", "19550102"), ("02/01/00", "20000102"), ("31/12/99", "19991231")]
)
def test_two_digits_of_a_birth_year_are_the_past(text: str, expected: str) -> None:
    assert read("patient_birth_date", text, dates=("%d/%m/%y",)) == expected


@given(day=st.dates(datetime.date(1930, 1, 1), datetime.date(2068, 12, 31)))
def test_no_birth_date_lies_in_the_future(day: datetime.date) -> None:
    for text, forms in ((day.strftime("%d/%m/%y"), ("%d/%m/%y",)), (day.isoformat(), ()), (day, ())):
        try:
            found = read("patient_birth_date", text, dates=forms)
        except RecordRejected:
            continue
        assert found is not None
        assert datetime.datetime.strptime(found, "%Y%m%d").date() <= datetime.date.today() + datetime.timedelta(days=1)


@given(offset=st.integers(-12, 14), day=st.dates(datetime.date(1900, 1, 1), datetime.date(2020, 1, 1)))
def test_no_zone_moves_a_birth_date(offset: int, day: datetime.date) -> None:
    sign = "-" if offset < 0 else "+"
    text = f"{day.isoformat()}T00:00:00{sign}{abs(offset):02}:00"
    assert read("patient_birth_date", text, zone="Pacific/Auckland") == f"{day:%Y%m%d}"


def test_a_count_of_seconds_is_a_birth_date_only_at_midnight() -> None:
    assert read("patient_birth_date", "327369600", dates=("epoch",), zone="Europe/Zurich") == "19800517"
    assert read("patient_birth_date", "327366000", dates=("epoch",), zone="Europe/Zurich") == "19800517"
    refused("patient_birth_date", "327380000", dates=("epoch",))


@pytest.mark.parametrize("form", ["%d.%d.%Y", "%d.%m.%Q", "%U %Y"])
def test_a_format_that_cannot_be_read_is_an_error(form: str) -> None:
    with pytest.raises(ValueError, match=re.compile("twice|supported")):
        compile_format(form)


@pytest.mark.parametrize("text", ["09:30-10:15", "0930-1030", "22:00-06:00", "2026-12-01 09:30-11:00"])
def test_a_range_of_times_is_not_taken_for_an_offset(text: str) -> None:
    field = "scheduled_start" if len(text) > 11 else "scheduled_start_time"
    assert "range of times" in refused(field, text)


@pytest.mark.parametrize("offset", ["+99:99", "+2500", "-13:00", "+14:30", "+01:75"])
def test_an_offset_that_no_place_has_is_refused(offset: str) -> None:
    assert "no place on earth" in refused("scheduled_start", f"2026-12-01T09:30:00{offset}")


@pytest.mark.parametrize(
    ("text", "dates", "expected"),
    [
        ("12/1/2026, 9:30 AM", ("%m/%d/%Y",), "20261201093000"),
        ("12/1/2026 9:30\u202fAM", ("%m/%d/%Y",), "20261201093000"),
        ("1. Dez. 2026 09:30 Uhr", ("%d. %b %Y",), "20261201093000"),
        ("01.12.2026 - 09:30:15", ("%d.%m.%Y",), "20261201093015"),
        ("01.12.2026 24:00", ("%d.%m.%Y",), "20261201"),
        ("01.12.2026 vormittags", ("%d.%m.%Y",), "20261201"),
        ("2026-12-01 TBD", (), "20261201"),
    ],
)
def test_an_iso_time_behind_a_day_of_any_format_is_read_and_what_is_no_time_costs_the_time(
    text: str, dates: tuple[str, ...], expected: str
) -> None:
    assert read("scheduled_start", text, dates=dates) == expected
    if len(expected) > 8:
        assert read("scheduled_start_time", text, dates=dates) == expected[8:]
    assert read("scheduled_start_date", text, dates=dates) == "20261201"


def test_a_zone_that_is_not_known_may_be_another_day() -> None:
    assert "behind the time of day" in refused("scheduled_start", "2026-12-01 23:30 PST")


def test_a_birth_date_may_have_midnight_behind_it() -> None:
    assert read("patient_birth_date", "17.05.1980 00:00:00", dates=("%d.%m.%Y",)) == "19800517"
    assert "time of day" in refused("patient_birth_date", "17.05.1980 22:00:00", dates=("%d.%m.%Y",))


@pytest.mark.parametrize(("text", "form"), [("9.5", "%H.%M"), ("9:5", "%H:%M"), ("09:30:5", "%H:%M:%S")])
def test_minutes_and_seconds_have_two_digits(text: str, form: str) -> None:
    refused("scheduled_start_time", text, times=(form,))
