"""`pylantir access` shows who was shown which items."""

from __future__ import annotations

import argparse
import datetime
import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

from pylantir.cli.database import reading
from pylantir.cli.output import local_time, print_csv, print_json
from pylantir.cli.periods import read_moment
from pylantir.errors import ExitStatus
from pylantir.printing import printable
from pylantir.settings import Settings
from pylantir.store.read.accesses import find_accesses

FIELDS = (
    "id", "at", "last_at", "count", "service", "address", "peer", "certificate", "asked", "status", "matches",
    "item_ids",
)  # fmt: skip
_SHOWN_ITEMS = 20
_WIDTH_WITHOUT_TERMINAL = 100_000
_WHOLE_WORDS: Mapping[str, Any] = {
    "subsequent_indent": "    ", "break_long_words": False, "break_on_hyphens": False, "drop_whitespace": True,
}  # fmt: skip


def show_accesses(settings: Settings, options: argparse.Namespace) -> int:
    """Print who was shown what, the oldest first."""
    since = read_moment(options.since, datetime.datetime.now().astimezone()) if options.since else None
    with reading(settings) as connection:
        rows = list(find_accesses(connection, patient_id=options.patient, peer=options.scanner, since=since))
    if options.json:
        print_json(rows)
    elif options.csv:
        print_csv(FIELDS, rows)
    elif rows:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL
        for row in rows:
            print(*_lines(row, width), sep="\n")
    else:
        print("nobody was shown anything", file=sys.stderr)
    return ExitStatus.OK


def _lines(row: Mapping[str, Any], width: int) -> list[str]:
    """Say in a line who was shown something and when, and below it what; no name, number or date is divided."""
    began, ended = local_time(row["at"]), local_time(row["last_at"])
    when = began if ended == began else f"{began} to {ended.removeprefix(began[:11])}"
    times = f" ({row['count']} times)" if row["count"] > 1 else ""
    who = f"{row['peer'] or 'nobody by name'} at {row['address'] or 'an unknown address'}"
    certificate = f", certificate {row['certificate']}" if row["certificate"] else ""
    asked = f" for {row['asked']}" if row["asked"] else ""
    items = row["item_ids"][:_SHOWN_ITEMS]
    which = (": items " if len(row["item_ids"]) > 1 else ": item ") + ", ".join(map(str, items)) if items else ""
    more = ", …" if len(row["item_ids"]) > len(items) else ""
    what = f"{row['service']}{asked}: status {row['status']}, {row['matches']} shown{which}{more}"
    return [
        *textwrap.wrap(printable(f"{when}{times}  {who}{certificate}"), width, **_WHOLE_WORDS),
        *textwrap.wrap(printable(what), width, initial_indent="    ", **_WHOLE_WORDS),
    ]
