"""How PostgreSQL takes many rows in one statement: the pieces of SQL that `bulk` puts together. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import Float, Integer, Table

MARK = "%s"
"""Stands for a parameter."""


def literal(value: str) -> str:
    """Write a constant into a statement."""
    return "'" + value.replace("'", "''").replace("%", "%%") + "'"


def insertion(
    table: Table, columns: Mapping[str, Sequence[object]], constants: Mapping[str, str], repeated: Mapping[str, str]
) -> tuple[str, tuple[str, ...]]:
    """Return the statement that inserts all rows, and its parameters; see `bulk.insert_columns`.

    A column is one parameter: by rows, the server would read and plan the statement again for each of them.
    """
    values = {name: _typed(table, name, f"v.{name}") for name in columns}
    values |= {name: f"v.{first}" for name, first in repeated.items()}
    values |= {name: literal(value) for name, value in constants.items()}
    each = ", ".join(["json_array_elements_text(CAST(%s AS json))"] * len(columns))
    statement = (
        f"INSERT INTO {table.name} ({', '.join(values)}) SELECT {', '.join(values.values())} "  # noqa: S608
        f"FROM ROWS FROM ({each}) AS v({', '.join(columns)})"
    )
    return statement, tuple(json.dumps(list(column), ensure_ascii=False) for column in columns.values())


def _typed(table: Table, name: str, text: str) -> str:
    """Write a text as a value of a column."""
    of_column = table.columns[name].type
    if isinstance(of_column, Integer):
        return f"CAST({text} AS bigint)"
    return f"CAST({text} AS double precision)" if isinstance(of_column, Float) else text


def rows_beside(ids: range, columns: Mapping[str, Sequence[str | None]]) -> tuple[str, tuple[object, ...]]:
    """Return a join that adds columns to the rows `o` with these ids, and its parameters."""
    # One parameter for all of them, which the database takes apart by itself.
    each = "json_array_elements(CAST(%s AS json)) WITH ORDINALITY AS k(value, place)"
    return f"JOIN {each} ON o.id = k.place - 1 + %s", (json.dumps(list(zip(*columns.values(), strict=True))), ids[0])


def value_beside(place: int) -> str:
    """Write the n-th column that `rows_beside` added."""
    return f"k.value ->> {place}"


def among(values: Sequence[object]) -> tuple[str, object]:
    """Return a comparison with any of these values, and its one parameter."""
    return "= ANY(%s)", list(values)
