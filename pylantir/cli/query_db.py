"""`pylantir query-db`: shows the worklist, and the sources of each item."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Mapping, Sequence

from pylantir.cli.accesses.shown import note_shown
from pylantir.cli.database import check_source, reading
from pylantir.cli.layout import ITEM_COLUMNS
from pylantir.cli.output import local_time, print_result, readable_item
from pylantir.cli.periods import read_days
from pylantir.dicom.find.serving import STATUS_FIELD, limited, serving_limits
from pylantir.errors import ExitStatus
from pylantir.query import WorklistQuery
from pylantir.settings import ServingSettings, Settings
from pylantir.store.read.listings import find_claims
from pylantir.store.read.worklist import SERVED_FIELDS, find_matching

_COLUMNS = {
    "id": "ITEM",
    **ITEM_COLUMNS,
    "performed_procedure_step_status": "STATUS",
    "sources": "GIVEN BY, SINCE",
}
_KEYS = (*SERVED_FIELDS, "sources")


def show_worklist(settings: Settings, options: argparse.Namespace) -> int:
    """Print the items that the options select, in the order in which a scanner gets them."""
    query = make_query(options, settings.dicom.serving, datetime.date.today())  # noqa: DTZ011 - the operator's day
    with reading(settings) as connection:
        check_source(options.source, settings.config_path, connection)
        items = list(find_matching(connection, query))
        claims = find_claims(connection, [int(str(item["id"])) for item in items])
    rows: list[dict[str, object]] = [{**item, "sources": _attribution(item, claims)} for item in items]
    if options.source is not None:
        rows = [row for row in rows if any(source["source"] == options.source for source in _sources(row))]
    note_shown(options, len(rows), (row["id"] for row in rows))
    print_result(options, rows, keys=_KEYS, columns=_COLUMNS, readable=_readable, nothing="no items")
    return ExitStatus.OK


def _readable(row: Mapping[str, object]) -> dict[str, object]:
    return {**readable_item(row), "sources": _in_words(_sources(row))}


def make_query(options: argparse.Namespace, serving: ServingSettings, today: datetime.date) -> WorklistQuery:
    """Turn the options into a query, limited to what a scanner may be shown unless `--all` is given.

    Raises:
        PylantirError: `--date` is no day or range.
    """
    equal: dict[str, tuple[str, ...]] = {}
    like: dict[str, str] = {}
    for name, value in (("patient_id", options.patient), ("modality", options.modality)):
        if value and ("*" in value or "?" in value):
            like[name] = value
        elif value:
            equal[name] = (value,)
    if options.status:
        equal[STATUS_FIELD] = tuple(status.upper() for status in options.status)
    ranges = {"scheduled_start_date": read_days(options.date, today)} if options.date else {}
    query = WorklistQuery(equal=equal, like=like, ranges=ranges)
    return query if options.all else limited(query, serving_limits(query, serving, today))


def _attribution(
    item: Mapping[str, object], claims: Mapping[int, Sequence[Mapping[str, object]]]
) -> list[dict[str, object]]:
    """List an item's sources, its owner first. An item of an older version may have an owner without a claim."""
    owner = item["data_source"]
    given = [
        {"source": claim["data_source"], "record": claim["record_key"], "since": claim["first_seen_at"]}
        for claim in claims.get(int(str(item["id"])), ())
    ]
    if owner and all(one["source"] != owner for one in given):
        given.insert(0, {"source": owner, "record": item["source_record_id"], "since": None})
    return sorted(given, key=lambda one: one["source"] != owner)


def _sources(row: Mapping[str, object]) -> list[dict[str, object]]:
    return row["sources"]  # type: ignore[return-value]


def _in_words(sources: Sequence[Mapping[str, object]]) -> str:
    return "; ".join(f"{one['source']} {local_time(one['since'])}".strip() for one in sources)
