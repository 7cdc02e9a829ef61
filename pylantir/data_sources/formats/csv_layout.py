"""Finds the layout of a CSV file: its delimiter, its header, and the places of the mapped columns.

Lives in source workers and in `pylantir init`. Pure: lines in, decisions and messages out. No message repeats a line
that may hold a patient's data.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from pylantir.data_sources.formats.columns import repeated_names
from pylantir.data_sources.options import near_name

DELIMITERS = (",", ";", "\t", "|")
BLANK = " \t\r\n\v\f\x00\x1a\xa0\ufeff"
"""Characters that an empty cell may hold: spaces, and the characters that programs write after the end of a text."""

_HINT = re.compile(r'"?sep=(.)"?[\s,;|]*', re.IGNORECASE)


def delimiter_hint(line: str) -> str:
    """Read the delimiter from a first line `sep=;`, quoted or not, as spreadsheets write it; "" for any other line."""
    match = _HINT.fullmatch(line)
    return match[1] if match else ""


def detect_delimiter(line: str, wanted: Sequence[str]) -> str:
    """Choose the delimiter that finds the most wanted columns in a header; among equals, the one with most columns."""

    def columns_found(delimiter: str) -> tuple[int, int]:
        names = split_line(line, delimiter)
        return sum(name in wanted for name in names), len(names)

    return max(DELIMITERS, key=columns_found)


def split_line(line: str, delimiter: str) -> list[str]:
    """Return the stripped cells of one line; none if the line cannot be parsed by itself."""
    try:
        row = next(csv.reader([line], delimiter=delimiter, skipinitialspace=delimiter != " "), [])
        return [cell.strip(BLANK) for cell in row]
    except csv.Error:
        return []


def is_blank(row: Sequence[str]) -> bool:
    """Say whether all cells of a row are empty."""
    return not any(cell.strip(BLANK) for cell in row)


def is_header(row: Sequence[str], header: Sequence[str]) -> bool:
    """Say whether a row holds names of columns instead of a record, as where files were put one behind the other."""
    cells = [name for cell in row if (name := cell.strip(BLANK))]
    return len(cells) >= min(2, len(header)) and 2 * sum(name in header for name in cells) > len(cells)


def header_problems(header: Sequence[str], columns: Sequence[str]) -> list[str]:
    """List the problems that keep the mapped columns from being found in a header."""
    if not set(columns).intersection(header):
        # Without a header this row holds a patient's data: repeat only names that the configuration has (in any case).
        alike = {_bare(name): name for name in header}
        near = [f'"{name}" stands there as "{alike[_bare(name)]}"' for name in columns if _bare(name) in alike]
        if near:
            return [f"none of the mapped columns is here; write the names as the header has them: {', '.join(near)}"]
        return ["none of the mapped columns is here; does the file have a header?"]
    known = tuple(filter(None, header))
    otherwise = f" (known: {', '.join(known)})"
    problems = [f'no column "{name}"{near_name(name, known) or otherwise}' for name in columns if name not in header]
    for name, places in repeated_names(header).items():
        if name in columns:
            problems.append(f"{told_twice(name, places)}; rename one")
    return problems


def told_twice(name: str, places: Sequence[int]) -> str:
    """Say that several columns have the same name."""
    return f'the name "{name}" stands over columns {" and ".join(map(str, places))}'


def lines_above_header(lines: Sequence[str], delimiter: str, columns: Sequence[str]) -> int:
    """Look for the header below other lines.

    Args:
        lines: The lines that follow the one taken for the header.
        delimiter: As configured or found; "" to try all.
        columns: The mapped columns.

    Returns:
        How many lines further down it is; 0 if it is not there.
    """
    for number, line in enumerate(lines, 1):
        for one in (delimiter,) if delimiter else DELIMITERS:
            if len(set(columns).intersection(split_line(line, one))) * 2 > len(columns):
                return number
    return 0


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
