"""How SQLite takes many rows in one statement: the pieces of SQL that `bulk` puts together. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import Table

MARK = "?"
"""Stands for a parameter."""


def literal(value: str) -> str:
    """Write a constant into a statement."""
    return "'" + value.replace("'", "''") + "'"


def insertion(
    table: Table, columns: Mapping[str, Sequence[object]], constants: Mapping[str, str], repeated: Mapping[str, str]
) -> tuple[str, list[tuple[object, ...]]]:
    """Return the statement that inserts one row, and the parameters of each row; see `bulk.insert_columns`."""
    values = {name: f"?{place}" for place, name in enumerate(columns, start=1)}
    values |= {name: f"CAST({values[first]} AS TEXT)" for name, first in repeated.items()}
    values |= {name: literal(value) for name, value in constants.items()}
    statement = f"INSERT INTO {table.name} ({', '.join(values)}) VALUES ({', '.join(values.values())})"  # noqa: S608
    return statement, list(zip(*columns.values(), strict=True))


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
