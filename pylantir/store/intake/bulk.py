"""Many rows at once. The ordinary way through SQLAlchemy costs more per row than the database itself does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Table

_RowTuple = tuple[Any, ...]
_FEW = 32
"""So many rows are read in vain at most, to find out whether a look at the range of the values is enough."""


def insert_columns(
    connection: Connection,
    table: Table,
    columns: Mapping[str, Sequence[object]],
    constants: Mapping[str, str] = MappingProxyType({}),
    repeated: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Insert rows that are given column by column.

    Args:
        connection: In a transaction.
        table: Where to; its column names are our own, so they need no quoting.
        columns: Column -> its values, one per row.
        constants: Column -> the one value that it has in every row. Named once: a parameter costs as much per row as an
            index.
        repeated: Column -> the one of `columns` that it repeats, as text.
    """
    if connection.dialect.name == "sqlite":
        marks = {name: f"?{place}" for place, name in enumerate(columns, start=1)}
        marks |= {name: f"CAST({marks[first]} AS TEXT)" for name, first in repeated.items()}
    else:
        columns = {**columns, **{name: list(map(str, columns[first])) for name, first in repeated.items()}}
        marks = dict.fromkeys(columns, _mark(connection))
    names = ", ".join((*marks, *constants))
    values = ", ".join((*marks.values(), *(_literal(connection, value) for value in constants.values())))
    rows = list(zip(*columns.values(), strict=True))
    if rows:
        connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({values})", rows)  # noqa: S608


def insert_copies(
    connection: Connection,
    table: Table,
    origin: Table,
    ids: range,
    copied: Mapping[str, str],
    columns: Mapping[str, Sequence[str | None]] = MappingProxyType({}),
    constants: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Insert a row for each of some rows of another table, which says most of it already.

    Args:
        connection: In a transaction.
        table: Where to.
        origin: The other table.
        ids: Which rows of it.
        copied: Column -> what it is, in SQL, in terms of the other row.
        columns: Column -> its values, in the order of the ids, where the other row does not have them.
        constants: As for `insert_columns`.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    mark = _mark(connection)
    parameters: tuple[object, ...]
    if columns:
        # One parameter for all of them, which the database takes apart by itself.
        each = "json_each({0}) AS k ON o.id = k.key" if is_sqlite else (
            "json_array_elements(CAST({0} AS json)) WITH ORDINALITY AS k(value, place) ON o.id = k.place - 1"
        )  # fmt: skip
        source = f"{origin.name} AS o JOIN {each.format(mark)} + {mark}"
        parameters = (json.dumps(list(zip(*columns.values(), strict=True))), ids.start)
    else:
        source = f"{origin.name} AS o WHERE o.id BETWEEN {mark} AND {mark}"
        parameters = (ids.start, ids.stop - 1)
    value = "json_extract(k.value, '$[{}]')" if is_sqlite else "k.value ->> {}"
    values = [
        *copied.values(),
        *(value.format(place) for place in range(len(columns))),
        *(_literal(connection, constant) for constant in constants.values()),
    ]
    names = ", ".join((*copied, *columns, *constants))
    statement = f"INSERT INTO {table.name} ({names}) SELECT {', '.join(values)} FROM {source}"  # noqa: S608
    connection.exec_driver_sql(statement, parameters)


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows; a column that none of them has keeps its default, one that some lack is NULL there.

    Args:
        connection: In a transaction.
        table: Where to.
        rows: Column -> value.
    """
    if rows:
        given = set().union(*rows)
        names = [column.name for column in table.columns if column.name in given]
        insert_columns(connection, table, {name: [row.get(name) for row in rows] for name in names})


def update_rows(connection: Connection, table: Table, changes: Iterable[tuple[int, Mapping[str, object]]]) -> None:
    """Change rows: id, and column -> value for what is to change; indexes of other columns are left alone.

    Args:
        connection: In a transaction.
        table: Where; no row comes twice.
        changes: What is to change.
    """
    mark = _mark(connection)
    alike: dict[tuple[str, ...], list[_RowTuple]] = {}
    for row_id, values in changes:
        alike.setdefault(tuple(values), []).append((*values.values(), row_id))
    for names, rows in alike.items():
        setting = ", ".join(f"{name} = {mark}" for name in names)
        connection.exec_driver_sql(f"UPDATE {table.name} SET {setting} WHERE id = {mark}", rows)  # noqa: S608


def select_among(
    connection: Connection,
    table: Table,
    wanted: Sequence[str],
    column: str,
    values: Iterable[str],
    *,
    source: str | None = None,
    condition: str = "",
    distinct: bool = False,
) -> list[_RowTuple]:
    """Read the rows that have one of many values in a column; the values are one parameter, however many they are.

    Args:
        connection: Any.
        table: Where from.
        wanted: Columns to read.
        column: The column that is compared; indexed, or every row is read.
        values: What it may be.
        source: Only rows of this `data_source`.
        condition: A further one, in SQL.
        distinct: Rows that are equal in what is wanted need not come more than once.

    Returns:
        The rows, as tuples.
    """
    values = list(values)
    names, mark = ", ".join(wanted), _mark(connection)
    owned, owner = (f"data_source = {mark} AND ", (source,)) if source is not None else ("", ())
    is_sqlite = connection.dialect.name == "sqlite"
    if is_sqlite and not condition and len(values) > _FEW:
        # What is new often comes in order, as it was numbered: nothing stored lies between its first and its last then.
        within = f"{owned}{column} BETWEEN ? AND ? LIMIT {_FEW + 1}"
        statement = f"SELECT {names}, {column} FROM {table.name} WHERE {within}"  # noqa: S608
        rows = _fetch(connection, statement, (*owner, min(values), max(values)))
        if len(rows) <= _FEW:
            among = set(values) if rows else ()
            return [row[:-1] for row in rows if row[-1] in among]
    restricted = f"{condition} AND {owned}" if condition else owned
    listed = "IN (SELECT value FROM json_each(?))" if is_sqlite else f"= ANY({mark})"
    once = "DISTINCT " if distinct else ""
    statement = f"SELECT {once}{names} FROM {table.name} WHERE {restricted}{column} {listed}"  # noqa: S608
    return _fetch(connection, statement, (*owner, json.dumps(values) if is_sqlite else values))


def _fetch(connection: Connection, statement: str, parameters: tuple[object, ...]) -> list[_RowTuple]:
    """The driver's own rows: SQLAlchemy would make each of them anew."""
    result = connection.exec_driver_sql(statement, parameters)
    rows: list[_RowTuple] = list(result.cursor.fetchall())
    result.close()
    return rows


def _mark(connection: Connection) -> str:
    return "?" if connection.dialect.paramstyle == "qmark" else "%s"


def _literal(connection: Connection, value: str) -> str:
    quoted = "'" + value.replace("'", "''") + "'"
    return quoted if connection.dialect.paramstyle == "qmark" else quoted.replace("%", "%%")
