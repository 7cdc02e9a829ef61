"""How PostgreSQL takes many rows in one statement: the pieces of SQL that `bulk` puts together. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

MARK = "%s"
"""Stands for a parameter."""


def literal(value: str) -> str:
    """Write a constant into a statement."""
    return "'" + value.replace("'", "''").replace("%", "%%") + "'"


def values_of_row(
    columns: Mapping[str, Sequence[object]], repeated: Mapping[str, str]
) -> tuple[dict[str, str], Mapping[str, Sequence[object]]]:
    """Return column -> its value in SQL, and the columns that become parameters; see `bulk.insert_columns`."""
    columns = {**columns, **{name: list(map(str, columns[first])) for name, first in repeated.items()}}
    return dict.fromkeys(columns, MARK), columns


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
