"""Prints the commands' results: rows as a table for people, or as JSON for scripts.

Results go to stdout; remarks about them (nothing found, progress) go to stderr.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime

from pylantir.entry import CONSTANT_FALLBACKS
from pylantir.printing import printable

NO_TIME = CONSTANT_FALLBACKS["scheduled_start_time"]

_WIDTH_WITHOUT_TERMINAL = 100_000


def print_json(value: object) -> None:
    """Print one value as JSON; NaN and infinity, which JSON lacks, are replaced."""
    try:
        print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
    except ValueError:
        print(json.dumps(_finite(value), indent=2, ensure_ascii=False))


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(columns: Mapping[str, str], rows: Sequence[Mapping[str, object]]) -> None:
    """Print a table; in a pipe, each row is one line, however long.

    Args:
        columns: Key of a row -> heading; a column without any value is left out.
        rows: What to print; None and missing values stay empty.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
    table = Table(box=None, header_style="bold", pad_edge=False)
    # Wrapped in Text, because a source's values may look like rich's markup.
    cells = {key: [Text(printable(row.get(key))) for row in rows] for key in columns}
    for key, heading in columns.items():
        if any(cells[key]):
            # Folded rather than cropped: a narrow terminal must not cut off part of a name or an identifier.
            table.add_column(heading, overflow="fold")
    for row in zip(*(column for column in cells.values() if any(column)), strict=True):
        table.add_row(*row)
    console.print(table)


def print_rows(columns: Mapping[str, str], rows: Sequence[Mapping[str, object]], *, nothing: str) -> None:
    """Print a table, or the text `nothing` on stderr if there are no rows."""
    if rows:
        print_table(columns, rows)
    else:
        print(nothing, file=sys.stderr)


def readable_item(item: Mapping[str, object]) -> dict[str, object]:
    """Write an item's dates as 2026-08-03 and its time as 09:30; midnight, stored for an unknown time, becomes "-"."""
    readable = dict(item)
    for name, form, parts in _DICOM_FORMS:
        if name == "scheduled_start_time" and item.get(name) == NO_TIME:
            readable[name] = "-"
            continue
        match = re.fullmatch(form, str(item.get(name)))
        if match:
            readable[name] = parts.join(part for part in match.groups() if part)
    return readable


_DA, _TM = r"(\d{4})(\d\d)(\d\d)", r"(\d\d)(\d\d)(?:00|(\d\d))"
_DICOM_FORMS = (
    ("scheduled_start_date", _DA, "-"),
    ("patient_birth_date", _DA, "-"),
    ("scheduled_start_time", _TM, ":"),
)


def local_time(moment: object) -> str:
    """Write a moment of the database (ISO 8601, UTC) in local time, to the second; other text as it is."""
    text = "" if moment is None else str(moment)
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text
