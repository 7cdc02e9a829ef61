"""How SQLite takes many rows in one statement: the pieces of SQL that `bulk` puts together. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

MARK = "?"
"""Stands for a parameter."""


def literal(value: str) -> str:
    """Write a constant into a statement."""
    return "'" + value.replace("'", "''") + "'"


def values_of_row(
    columns: Mapping[str, Sequence[object]], repeated: Mapping[str, str]
) -> tuple[dict[str, str], Mapping[str, Sequence[object]]]:
    """Return column -> its value in SQL, and the columns that become parameters; see `bulk.insert_columns`."""
    marks = {name: f"?{place}" for place, name in enumerate(columns, start=1)}
    return marks | {name: f"CAST({marks[first]} AS TEXT)" for name, first in repeated.items()}, columns


def rows_beside(ids: range, columns: Mapping[str, Sequence[str | None]]) -> tuple[str, tuple[object, ...]]:
    """Return a join that adds columns to the rows `o` with these ids, and its parameters."""
    # One parameter for all of them, which the database takes apart by itself.
    return "JOIN json_each(?) AS k ON o.id = k.key + ?", (json.dumps(list(zip(*columns.values(), strict=True))), ids[0])


def value_beside(place: int) -> str:
    """Write the n-th column that `rows_beside` added."""
    return f"json_extract(k.value, '$[{place}]')"


def among(values: Sequence[object]) -> tuple[str, object]:
    """Return a comparison with any of these values, and its one parameter."""
    return "IN (SELECT value FROM json_each(?))", json.dumps(values)
