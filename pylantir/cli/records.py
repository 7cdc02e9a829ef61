"""`rejects`, `audit`, `accept --show`: print refused records, the history of changes, and removals held back."""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Mapping
from typing import Any

from pylantir.cli.accesses.shown import note_shown
from pylantir.cli.database import check_source, reading
from pylantir.cli.output import local_time, print_json, print_result, print_rows, readable_item
from pylantir.cli.periods import read_moment
from pylantir.errors import ExitStatus
from pylantir.settings import Settings
from pylantir.store.read.listings import find_audited, find_held, find_rejected, find_warnings
from pylantir.store.schema.tables import audit_log, rejected_entries

_REJECTED = {
    "data_source": "SOURCE",
    "record_key": "RECORD",
    "field": "FIELD",
    "reason": "REASON",
    "patient_id": "PATIENT",
    "first_seen_at": "FIRST SEEN",
    "last_seen_at": "LAST SEEN",
    "times_seen": "TIMES",
}
_HELD = {
    "patient_id": "PATIENT",
    "scheduled_start_date": "DATE",
    "scheduled_start_time": "TIME",
    "item_id": "ITEM",
    "record_key": "RECORD",
    "held_since": "MISSING SINCE",
    "held_times": "FETCHES",
}
_WARNED = {
    "data_source": "SOURCE",
    "field": "FIELD",
    "reason": "REASON",
    "count": "VALUES",
    "last_seen_at": "LAST SEEN",
}
_AUDITED = {
    "at": "AT",
    "actor": "BY",
    "action": "DID",
    "item_id": "ITEM",
    "patient_id": "PATIENT",
    "changes": "CHANGES",
}
_REJECTED_KEYS = tuple(column.name for column in rejected_entries.columns if column.name != "id")
_AUDITED_KEYS = tuple(audit_log.columns.keys())


def show_rejects(settings: Settings, options: argparse.Namespace) -> int:
    """Print the records that could not become worklist items."""
    with reading(settings) as connection:
        check_source(options.source, settings.config_path, connection)
        rows = [dict(row) for row in find_rejected(connection, source=options.source)]
    note_shown(options, len(rows), (row["other_item"] for row in rows))
    print_result(
        options, rows, keys=_REJECTED_KEYS, columns=_REJECTED, readable=_seen_locally, nothing="nothing is rejected"
    )
    return ExitStatus.OK


def show_held(settings: Settings, options: argparse.Namespace) -> int:
    """Print the records that a source no longer gives, but whose removal is held back."""
    with reading(settings) as connection:
        check_source(options.source, settings.config_path, connection)
        rows = list(find_held(connection, options.source))
    note_shown(options, len(rows), (row["item_id"] for row in rows))
    if options.json:
        print_json(rows)
    else:
        shown = [{**readable_item(row), "held_since": local_time(row["held_since"])} for row in rows]
        print_rows(_HELD, shown, nothing=f"{options.source}: nothing is held back")
    return ExitStatus.OK


def show_warnings(settings: Settings, options: argparse.Namespace) -> int:
    """Print the values that were left out or changed in accepted records."""
    with reading(settings) as connection:
        check_source(options.source, settings.config_path, connection)
        rows = [dict(row) for row in find_warnings(connection, source=options.source)]
    keys = tuple(_WARNED)
    print_result(options, rows, keys=keys, columns=_WARNED, readable=_seen_locally, nothing="no value is left out")
    return ExitStatus.OK


def show_audit(settings: Settings, options: argparse.Namespace) -> int:
    """Print what happened to the items, the oldest first."""
    since = read_moment(options.since, datetime.datetime.now().astimezone()) if options.since else None
    with reading(settings) as connection:
        check_source(options.source, settings.config_path, connection)
        found = find_audited(
            connection, patient_id=options.patient, source=options.source, item_id=options.entry, since=since
        )
        rows = [{**row, "changes": json.loads(row["changes"])} for row in found]
    note_shown(options, len(rows), (row["item_id"] for row in rows))
    print_result(options, rows, keys=_AUDITED_KEYS, columns=_AUDITED, readable=_readable, nothing="nothing is recorded")
    return ExitStatus.OK


def _seen_locally(row: Mapping[str, object]) -> dict[str, object]:
    return {**row, **{name: local_time(row[name]) for name in ("first_seen_at", "last_seen_at") if name in row}}


def _readable(row: Mapping[str, Any]) -> dict[str, object]:
    return {**row, "at": local_time(row["at"]), "changes": _in_words(row["changes"])}


def _in_words(changes: Mapping[str, object]) -> str:
    """Write `field: old → new` for every change; other remarks as they are."""
    said = []
    for name, change in changes.items():
        if isinstance(change, list) and len(change) == 2:
            before, after = ("-" if value is None else str(value) for value in change)
            said.append(f"{name}: {after}" if before == "-" else f"{name}: {before} → {after}")
        elif isinstance(change, dict) and {"winner", "value", "loser", "lost"} <= change.keys():
            said.append(f"{name}: {change['value']} ({change['winner']}), not {change['lost']} ({change['loser']})")
        else:
            said.append(f"{name}: {change if isinstance(change, str) else json.dumps(change, ensure_ascii=False)}")
    return "; ".join(said)
