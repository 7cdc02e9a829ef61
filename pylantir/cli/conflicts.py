"""`pylantir conflicts`: shows where the sources disagree, and what to do about it."""

from __future__ import annotations

import argparse
import csv
import sys

from pylantir.cli.database import reading
from pylantir.cli.output import print_json, print_rows
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
    with reading(settings.db_url) as connection:
        rows = list(find_conflicts(connection, source=options.source))
    if options.json:
        print_json(rows)
        return ExitStatus.OK
    flat = [
        {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in row.items()}
        for row in rows
    ]
    if options.csv:
        table = csv.DictWriter(sys.stdout, list(_COLUMNS), lineterminator="\n")
        table.writeheader()
        table.writerows(flat)
    else:
        print_rows(_COLUMNS, flat, nothing="the sources agree")
    return ExitStatus.OK
