"""Lays rows out as the lines of a table, or as cards where a table would be too wide. Pure.

An identifier, a name or a date is never broken over two lines, because half of one may be taken for the whole. Only the
columns with free text are wrapped: lists at their separators, sentences between words.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from rich.cells import cell_len

from pylantir.printing import printable

ITEM_COLUMNS = {
    "scheduled_start_date": "DATE",
    "scheduled_start_time": "TIME",
    "patient_id": "PATIENT",
    "patient_name": "NAME",
    "patient_birth_date": "BORN",
    "patient_sex": "SEX",
    "modality": "MODALITY",
    "scheduled_station_aetitle": "STATION",
    "procedure_description": "PROCEDURE",
}
"""The columns by which every list shows an item, and their headings."""
LISTS = frozenset({"changes", "sources"})
"""The columns that hold several texts with a semicolon between them."""
FREE_TEXT = LISTS | {"reason", "what_to_do", "remark", "note", "procedure_description", "asked", "answer"}
"""The columns that may be wrapped."""
_GAP = "  "
_NARROWEST_TEXT = 24
"""A column of free text that would be narrower makes the table a list of cards."""
_TALLEST_WITHOUT_GAP = 2
_SEPARATORS = ("; ", " → ", " ")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d)")
_NO_BREAK = "\N{NO-BREAK SPACE}"


def lay_out(
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, object]],
    width: int | None = None,
    *,
    right: Collection[str] = (),
) -> list[str]:
    """Write rows as lines, the heading first; cards have no heading, and the first line is empty.

    Args:
        columns: Key of a row -> heading; a column without any value is left out.
        rows: None and missing values stay empty.
        width: The terminal's width in cells; None: each row is one line.
        right: Keys of the columns that are aligned on the right.

    Returns:
        The heading and the rows, or an empty line and the cards.
    """
    cells = {key: [printable(row.get(key)) for row in rows] for key in columns}
    shown = {key: heading for key, heading in columns.items() if any(cells[key])}
    natural = {key: max(cell_len(text) for text in (heading, *cells[key])) for key, heading in shown.items()}
    widths = natural if width is None else _fitted(natural, {key: cells[key] for key in shown}, width)
    if widths is None:
        return ["", *_cards(shown, cells, len(rows), width or 0)]
    lines = [_line(shown, widths, right)]
    for place in range(len(rows)):
        wrapped = {key: wrap(cells[key][place], widths[key], _separators(key)) for key in shown}
        height = max((len(parts) for parts in wrapped.values()), default=1)
        for level in range(height):
            part = {key: parts[level] if level < len(parts) else "" for key, parts in wrapped.items()}
            lines.append(_line(part, widths, right))
    return lines


def _line(cells: Mapping[str, str], widths: Mapping[str, int], right: Collection[str]) -> str:
    padded = []
    for key, text in cells.items():
        space = " " * (widths[key] - cell_len(text))
        padded.append(space + text if key in right else text + space)
    return _GAP.join(padded).rstrip()


def _fitted(natural: Mapping[str, int], cells: Mapping[str, Sequence[str]], width: int) -> dict[str, int] | None:
    """Return the columns' widths, the free text narrowed to what is left; None if a table does not fit."""
    over = sum(natural.values()) + len(_GAP) * (len(natural) - 1) - width
    widths = dict(natural)
    for key in sorted(FREE_TEXT & natural.keys(), key=lambda key: -natural[key]):
        if over > 0:
            # No part that stays in one piece may be wider than its column.
            longest = max((cell_len(part) for text in cells[key] for part in _unbreakable(text)), default=0)
            narrow = max(widths[key] - over, _NARROWEST_TEXT, longest)
            if narrow < widths[key]:
                over -= widths[key] - narrow
                widths[key] = narrow
    return widths if over <= 0 else None


def _unbreakable(text: str) -> list[str]:
    return _MOMENT.sub(rf"\1{_NO_BREAK}\2", text).split(" ")


def _cards(shown: Mapping[str, str], cells: Mapping[str, Sequence[str]], count: int, width: int) -> list[str]:
    """Write each row as lines of `HEADING value` pairs; only the first line of a row is not indented."""
    cards = [list(_card(shown, {key: cells[key][place] for key in shown}, width)) for place in range(count)]
    lines: list[str] = []
    for card in cards:
        if lines and max(map(len, cards)) > _TALLEST_WITHOUT_GAP:
            lines.append("")
        lines += card
    return lines


def _card(shown: Mapping[str, str], values: Mapping[str, str], width: int) -> Iterator[str]:
    indent, line = "", ""
    for key, heading in shown.items():
        if not values[key]:
            continue
        pair = f"{heading} {values[key]}"
        together = f"{line}{_GAP}{pair}" if line else indent + pair
        if cell_len(together) <= width:
            line = together
            continue
        if line:
            yield line
            indent, line = _GAP, ""
        if cell_len(indent + pair) <= width or key not in FREE_TEXT:
            line = indent + pair
            continue
        for place, part in enumerate(wrap(pair, width - 2 * len(_GAP), _separators(key))):
            yield indent + (part if not place else _GAP + part)
        indent = _GAP
    if line:
        yield line


def _separators(key: str) -> Sequence[str]:
    return _SEPARATORS if key in LISTS else _SEPARATORS[-1:] if key in FREE_TEXT else ()


def wrap(text: str, width: int, separators: Sequence[str] = _SEPARATORS) -> list[str]:
    """Break a text into lines: at the first of the separators if that does, else at the next ones.

    A part without any separator that is wider than `width` is a line of its own.
    """
    if cell_len(text) <= width or not separators:
        return [text]
    separator, *rest = separators
    if separator == " ":
        text = _MOMENT.sub(rf"\1{_NO_BREAK}\2", text)
    pieces = text.split(separator)
    parts = [piece + separator.rstrip() for piece in pieces[:-1]] + pieces[-1:]
    lines: list[str] = []
    for part in parts:
        for piece in wrap(part, width, rest):
            if lines and cell_len(lines[-1]) + 1 + cell_len(piece) <= width:
                lines[-1] += " " + piece
            else:
                lines.append(piece)
    return [line.replace(_NO_BREAK, " ") for line in lines] if separator == " " else lines
