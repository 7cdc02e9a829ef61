"""`pylantir conflicts`: shows where the sources disagree, and what to do about it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from pylantir.cli.accesses.shown import note_shown
from pylantir.cli.database import check_source, reading
from pylantir.cli.output import print_result
from pylantir.errors import ExitStatus
from pylantir.settings import Settings
from pylantir.store.read.conflicts import find_conflicts

_COLUMNS = {
    "kind": "KIND",
    "patient_id": "PATIENT",
    "items": "ITEMS",
    "sources": "SOURCES",
    "records": "RECORDS",
    "fields": "FIELDS",
    "what_to_do": "WHAT TO DO",
}


def show_conflicts(settings: Settings, options: argparse.Namespace) -> int:
    """Print the open differences."""
    with reading(settings) as connection:
        check_source(options.source, settings.config_path, connection)
        rows = list(find_conflicts(connection, source=options.source))
    note_shown(options, len(rows), (item_id for row in rows for item_id in row["items"]))
    print_result(options, rows, keys=tuple(_COLUMNS), columns=_COLUMNS, readable=_readable, nothing="the sources agree")
    return ExitStatus.OK


def _readable(row: Mapping[str, object]) -> dict[str, object]:
    return {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in row.items()}
