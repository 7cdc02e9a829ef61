"""The limits that the configuration sets to every query: which scanner may see which items.

Lives in the server process and in `pylantir explain`. A query and the day come in, the limits come out as queries of
their own, each with its reason. Pure: the clock is passed in.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from functools import reduce

from pylantir.query import WorklistQuery, narrowed, pattern_test
from pylantir.settings import ScannerProfile, ServingSettings

STATUS_FIELD = "performed_procedure_step_status"
START_FIELD = "scheduled_start_date"
STATION_FIELD = "scheduled_station_aetitle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit: what an item has to meet, and which setting says so."""

    origin: str
    query: WorklistQuery


def serving_limits(query: WorklistQuery, serving: ServingSettings, today: datetime.date) -> list[Limit]:
    """List the limits to what a query may be answered with.

    Args:
        query: As the scanner put it. One that names a status is not limited to the served ones.
        serving: What the configuration says for all scanners.
        today: On the clock of the site.
    """
    limits = []
    if STATUS_FIELD not in query.equal:
        served = WorklistQuery(equal={STATUS_FIELD: serving.serve_statuses})
        limits.append(Limit(origin="mwl.serve_statuses", query=served))
    if serving.expire_after_days is not None:
        oldest = _day(today, -serving.expire_after_days)
        limits.append(Limit(origin="mwl.expire_after_days", query=WorklistQuery(ranges={START_FIELD: (oldest, None)})))
    if serving.days_ahead is not None:
        newest = _day(today, serving.days_ahead)
        limits.append(Limit(origin="mwl.days_ahead", query=WorklistQuery(ranges={START_FIELD: (None, newest)})))
    return limits


def profile_limits(profile: ScannerProfile, station_aet: str) -> list[Limit]:
    """List the limits to what one scanner may be answered with.

    Args:
        profile: What the configuration says for it.
        station_aet: Its AE title.
    """
    limits = []
    if profile.only_own_station:
        own = WorklistQuery(equal_or_unknown={STATION_FIELD: (station_aet,)})
        limits.append(Limit(origin="modalities.only_own_station", query=own))
    if profile.modalities:
        limits.append(Limit(origin="modalities.modality", query=WorklistQuery(equal={"modality": profile.modalities})))
    return limits


def for_station(query: WorklistQuery, station_aet: str) -> WorklistQuery:
    """Let a scanner that asks for its own AE title find what is planned for no station in particular.

    Such an item is offered to it as its own; another station's title does not find it.

    Args:
        query: As the scanner put it.
        station_aet: Its AE title.
    """
    equal = dict(query.equal)
    if station_aet in equal.get(STATION_FIELD, ()):
        either = {**query.equal_or_unknown, STATION_FIELD: equal.pop(STATION_FIELD)}
        return replace(query, equal=equal, equal_or_unknown=either)
    pattern = query.like.get(STATION_FIELD)
    if pattern is not None and pattern_test(STATION_FIELD, pattern)(station_aet):
        return replace(query, unknown_like=query.unknown_like | {STATION_FIELD})
    return query


def limited(query: WorklistQuery, limits: list[Limit]) -> WorklistQuery:
    """Apply the limits to the query."""
    return reduce(narrowed, (limit.query for limit in limits), query)


def _day(today: datetime.date, days: int) -> str:
    return (today + datetime.timedelta(days=days)).strftime("%Y%m%d")
