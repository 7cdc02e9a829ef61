"""What the configuration lets scanners see."""

from __future__ import annotations

import datetime

import pytest

from pylantir.dicom.find.serving import STATION_FIELD, for_station, limited, profile_limits, serving_limits
from pylantir.query import WorklistQuery, item_matches
from pylantir.settings import ScannerProfile, ServingSettings

TODAY = datetime.date(2026, 3, 1)


EVERYTHING = WorklistQuery()
DEFAULTS = ServingSettings()


def seen(item: dict[str, str], serving: ServingSettings = DEFAULTS, query: WorklistQuery = EVERYTHING) -> bool:
    item = {"performed_procedure_step_status": "SCHEDULED", "scheduled_start_date": "20260301", **item}
    return item_matches(limited(query, serving_limits(query, serving, TODAY)), item)


@pytest.mark.parametrize(
    ("status", "is_seen"),
    [
        ("SCHEDULED", True),
        ("IN_PROGRESS", True),
        ("DISCONTINUED", True),
        ("COMPLETED", False),
        ("CANCELED", False),
    ],
)
def test_finished_and_cancelled_items_are_not_served(status: str, is_seen: bool) -> None:
    assert seen({"performed_procedure_step_status": status}) is is_seen


def test_a_query_that_names_a_status_gets_it_whatever_is_served() -> None:
    only_scheduled = ServingSettings(serve_statuses=("SCHEDULED",))
    query = WorklistQuery(equal={"performed_procedure_step_status": ("COMPLETED",)})
    assert seen({"performed_procedure_step_status": "COMPLETED"}, only_scheduled, query)
    assert not seen({"performed_procedure_step_status": "IN_PROGRESS"}, only_scheduled)


@pytest.mark.parametrize(
    ("day", "is_seen"),
    [("20260226", False), ("20260227", True), ("20260301", True), ("20260308", True), ("20260309", False)],
)
def test_days_around_today_are_served_both_ends_included(day: str, is_seen: bool) -> None:
    assert seen({"scheduled_start_date": day}, ServingSettings(expire_after_days=2, days_ahead=7)) is is_seen


def test_a_range_in_the_query_does_not_widen_the_days() -> None:
    serving = ServingSettings(expire_after_days=0, days_ahead=0)
    for query in (
        WorklistQuery(ranges={"scheduled_start_date": ("20260101", None)}),
        WorklistQuery(period=("20260101000000", "20261231000000")),
        WorklistQuery(equal={"scheduled_start_date": ("20260302",)}),
    ):
        assert not seen({"scheduled_start_date": "20260302", "scheduled_start_time": "080000"}, serving, query)


def test_each_limit_names_the_setting_that_makes_it() -> None:
    limits = serving_limits(WorklistQuery(), ServingSettings(expire_after_days=2, days_ahead=7), TODAY)
    assert [limit.origin for limit in limits] == ["mwl.serve_statuses", "mwl.expire_after_days", "mwl.days_ahead"]


@pytest.mark.parametrize(("station", "is_seen"), [("MR1", True), ("", True), ("MR2", False)])
def test_a_scanner_that_sees_its_own_items_sees_those_of_nobody_too(station: str, is_seen: bool) -> None:
    limits = profile_limits(ScannerProfile(only_own_station=True), "MR1")
    assert item_matches(limited(EVERYTHING, limits), {"scheduled_station_aetitle": station}) is is_seen


def test_a_scanner_sees_its_modalities_even_when_it_asks_for_another() -> None:
    limits = profile_limits(ScannerProfile(modalities=("MR", "PT")), "MR1")
    for query in (EVERYTHING, WorklistQuery(equal={"modality": ("PT", "CT")})):
        assert item_matches(limited(query, limits), {"modality": "PT"})
        assert not item_matches(limited(query, limits), {"modality": "CT"})


@pytest.mark.parametrize(
    ("wanted", "station", "stations"),
    [
        (WorklistQuery(equal={STATION_FIELD: ("MR1",)}), "MR1", ["MR1", ""]),
        (WorklistQuery(equal={STATION_FIELD: ("MR2",)}), "MR1", ["MR2"]),
        (WorklistQuery(equal={STATION_FIELD: ("MR1", "MR2")}), "MR1", ["MR1", "MR2", ""]),
        (WorklistQuery(like={STATION_FIELD: "MR*"}), "MR1", ["MR1", "MR2", ""]),
        (WorklistQuery(like={STATION_FIELD: "MR*"}), "CT1", ["MR1", "MR2"]),
        (WorklistQuery(), "MR1", ["MR1", "MR2", ""]),
    ],
)
def test_an_item_of_no_station_is_found_by_the_callers_own_title(
    wanted: WorklistQuery, station: str, stations: list[str]
) -> None:
    query = for_station(wanted, station)
    assert [one for one in ("MR1", "MR2", "") if item_matches(query, {STATION_FIELD: one})] == stations
