"""Prints the commands' results: rows as a table for people, or as JSON or CSV for scripts.

Results go to stdout; remarks about them (nothing found, progress) go to stderr.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pylantir.cli.layout import lay_out
from pylantir.entry import CONSTANT_FALLBACKS

if TYPE_CHECKING:
    from rich.console import Console

NO_TIME = CONSTANT_FALLBACKS["scheduled_start_time"]


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


def print_table(
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, object]],
    *,
    right: Collection[str] = (),
    console: Console | None = None,
) -> None:
    """Print a table as wide as the terminal allows, else a card per row; in a pipe, each row is one line.

    Args:
        columns: Key of a row -> heading; a column without any value is left out.
        rows: What to print; None and missing values stay empty.
        right: Keys of the columns that are aligned on the right.
        console: Where to; by default stdout.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    heading, *lines = lay_out(columns, rows, console.width if console.is_terminal else None, right=right)
    if heading:
        console.print(Text(heading, style="bold"), soft_wrap=True)
    for line in lines:
        # As Text, because a source's values may look like rich's markup.
        console.print(Text(line), soft_wrap=True)


def print_rows(columns: Mapping[str, str], rows: Sequence[Mapping[str, object]], *, nothing: str) -> None:
    """Print a table, or the text `nothing` on stderr if there are no rows."""
    if rows:
        print_table(columns, rows)
    else:
        print(nothing, file=sys.stderr)


def print_result(
    options: argparse.Namespace,
    rows: Sequence[Mapping[str, object]],
    *,
    keys: Sequence[str],
    columns: Mapping[str, str],
    readable: Callable[[Mapping[str, object]], Mapping[str, object]],
    nothing: str,
) -> None:
    """Print a command's rows as `--json` or `--csv` asks, else as a table.

    Args:
        options: The command's options, with `json` and `csv`.
        rows: As the database has them.
        keys: The keys of a row, in the order of the CSV's columns.
        columns: The table's columns, as for `print_table`.
        readable: Writes a row as the table shows it.
        nothing: What the table's reader is told if there are no rows.
    """
    if options.json:
        print_json(rows)
    elif options.csv:
        print_csv(keys, rows)
    else:
        print_rows(columns, [readable(row) for row in rows], nothing=nothing)


def print_csv(keys: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Print a header and a line per row. A list is written with commas, an object as JSON."""
    import csv

    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(keys)
    table.writerows([_as_cell(row.get(key)) for key in keys] for row in rows)


def _as_cell(value: object) -> object:
    if isinstance(value, list) and not any(isinstance(one, Mapping | list) for one in value):
        return ", ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping | list) else value


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
