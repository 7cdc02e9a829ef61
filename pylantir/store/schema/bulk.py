"""Reads and writes many rows at once, because SQLAlchemy's ordinary way costs more per row than the database itself.

`bulk_sqlite` and `bulk_postgresql` have the same functions for the SQL that differs between the two databases.
Names of tables and columns are our own, so they need no quoting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, cast

from sqlalchemy import Connection, Select, Table
from sqlalchemy.exc import DBAPIError

from pylantir.store.schema import bulk_postgresql, bulk_sqlite
from pylantir.store.schema.engine import hear, is_pipelined

RowTuple = tuple[Any, ...]
FEW = 32
"""At most so many rows are read to find out whether reading the range of the values is enough."""
CHUNK = 500
T = TypeVar("T")


def chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """Split into lists that fit one statement."""
    sequence = list(values)
    for start in range(0, len(sequence), CHUNK):
        yield sequence[start : start + CHUNK]


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
        table: The table.
        columns: Column -> its values, one per row.
        constants: Column -> the one value that it has in every row. The SQL names it once, because a parameter costs as
            much per row as an index.
        repeated: Column -> the column in `columns` that it repeats, as text.
    """
    if any(columns.values()):
        connection.exec_driver_sql(*_dialect(connection).insertion(table, columns, constants, repeated))


def insert_copies(
    connection: Connection,
    table: Table,
    origin: Table,
    ids: range | Sequence[int],
    copied: Mapping[str, str],
    columns: Mapping[str, Sequence[str | None]] = MappingProxyType({}),
    constants: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Insert one row for each of some rows of another table, and copy most columns from there.

    Args:
        connection: In a transaction.
        table: The table.
        origin: The other table.
        ids: Ids of its rows; a range, if columns are given.
        copied: Column -> SQL that computes it from the other row `o`.
        columns: Column -> its values in the order of the ids, for columns that the other row lacks.
        constants: As for `insert_columns`.
    """
    sql = _dialect(connection)
    if not isinstance(ids, range):
        comparison, parameter = sql.among(ids)
        rows, parameters = f"WHERE o.id {comparison} ORDER BY o.id", cast("tuple[object, ...]", (parameter,))
    elif columns:
        rows, parameters = sql.rows_beside(ids, columns)
    else:
        rows, parameters = f"WHERE o.id BETWEEN {sql.MARK} AND {sql.MARK}", (ids[0], ids[-1])
    beside = (sql.value_beside(place) for place in range(len(columns)))
    values = ", ".join((*copied.values(), *beside, *map(sql.literal, constants.values())))
    names = ", ".join((*copied, *columns, *constants))
    statement = f"INSERT INTO {table.name} ({names}) SELECT {values} FROM {origin.name} AS o {rows}"  # noqa: S608
    connection.exec_driver_sql(statement, parameters)


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows; a column that no row has keeps its default, and a column that some rows lack is NULL in them.

    Args:
        connection: In a transaction.
        table: The table.
        rows: Column -> value.
    """
    if rows:
        given = set().union(*rows)
        names = [column.name for column in table.columns if column.name in given]
        insert_columns(connection, table, {name: [row.get(name) for row in rows] for name in names})


def update_rows(connection: Connection, table: Table, changes: Iterable[tuple[int, Mapping[str, object]]]) -> None:
    """Change some columns of rows; indexes of other columns are not written.

    Args:
        connection: In a transaction.
        table: The table.
        changes: Row id, and column -> new value; each id comes once.
    """
    mark = _dialect(connection).MARK
    alike: dict[tuple[str, ...], list[RowTuple]] = {}
    for row_id, values in changes:
        alike.setdefault(tuple(values), []).append((*values.values(), row_id))
    for names, rows in alike.items():
        setting = ", ".join(f"{name} = {mark}" for name in names)
        connection.exec_driver_sql(f"UPDATE {table.name} SET {setting} WHERE id = {mark}", rows)  # noqa: S608


def delete_among(connection: Connection, table: Table, column: str, values: Sequence[object]) -> None:
    """Delete the rows that have one of many values in a column.

    Args:
        connection: In a transaction.
        table: The table.
        column: The column to compare; it should have an index.
        values: The values.
    """
    comparison, parameter = _dialect(connection).among(list(values))
    connection.exec_driver_sql(f"DELETE FROM {table.name} WHERE {column} {comparison}", (parameter,))  # noqa: S608


def select_among(
    connection: Connection,
    table: Table,
    wanted: Sequence[str],
    column: str,
    values: Iterable[object],
    *,
    source: str | None = None,
    condition: str = "",
    distinct: bool = False,
) -> Iterable[RowTuple]:
    """Ask for the rows that have one of many values in a column; the values are one parameter, however many they are.

    Args:
        connection: Any connection.
        table: The table.
        wanted: Columns to read.
        column: The column to compare; without an index the database reads every row.
        values: The accepted values.
        source: Only rows of this `data_source`.
        condition: A further condition, in SQL.
        distinct: Equal rows need to come only once.

    Returns:
        The rows, as tuples; see `ask`.
    """
    sql = _dialect(connection)
    comparison, parameter = sql.among(list(values))
    conditions, parameters = [f"{column} {comparison}"], [parameter]
    if source is not None:
        conditions.insert(0, f"data_source = {sql.MARK}")
        parameters.insert(0, source)
    if condition:
        conditions.insert(0, condition)
    names = f"DISTINCT {', '.join(wanted)}" if distinct else ", ".join(wanted)
    statement = f"SELECT {names} FROM {table.name} WHERE {' AND '.join(conditions)}"  # noqa: S608
    return ask(connection, statement, parameters)


def select_among_new(
    connection: Connection,
    table: Table,
    wanted: Sequence[str],
    column: str,
    values: Sequence[str],
    *,
    source: str | None = None,
    distinct: bool = False,
) -> Iterable[RowTuple]:
    """Do what `select_among` does, but faster if most values are in no row yet.

    New values often come in numerical order: then no stored value lies between the first and the last of them.
    """
    # Only SQLite compares text as Python does.
    if connection.dialect.name == "sqlite" and len(values) > FEW:
        owned, owner = ("data_source = ? AND ", (source,)) if source is not None else ("", ())
        within = f"{owned}{column} BETWEEN ? AND ? LIMIT {FEW + 1}"
        statement = f"SELECT {', '.join(wanted)}, {column} FROM {table.name} WHERE {within}"  # noqa: S608
        rows = _fetch(connection, statement, (*owner, min(values), max(values)))
        if len(rows) <= FEW:
            among = set(values) if rows else ()
            return [row[:-1] for row in rows if row[-1] in among]
    return select_among(connection, table, wanted, column, values, source=source, distinct=distinct)


class _Dialect(Protocol):
    """The functions that `bulk_sqlite` and `bulk_postgresql` share."""

    MARK: str

    def literal(self, value: str) -> str: ...
    def insertion(
        self,
        table: Table,
        columns: Mapping[str, Sequence[object]],
        constants: Mapping[str, str],
        repeated: Mapping[str, str],
    ) -> tuple[str, Any]: ...
    def rows_beside(
        self, ids: range, columns: Mapping[str, Sequence[str | None]]
    ) -> tuple[str, tuple[object, ...]]: ...
    def value_beside(self, place: int) -> str: ...
    def among(self, values: Sequence[object]) -> tuple[str, object]: ...


def _dialect(connection: Connection) -> _Dialect:
    return bulk_sqlite if connection.dialect.name == "sqlite" else bulk_postgresql


def ask(connection: Connection, statement: str, parameters: Sequence[object] = ()) -> Iterable[RowTuple]:
    """Ask for rows, which are the driver's own: SQLAlchemy would copy each of them.

    In a pipelined transaction they come when the first of them is read, and with them the answers to everything that
    was asked before. So whoever needs several answers asks for all of them before reading one: it is one round trip.
    """
    if is_pipelined(connection):
        return _Asked(connection, statement, parameters)
    return _fetch(connection, statement, parameters)


def ask_statement(
    connection: Connection, statement: Select[Any], values: dict[str, Any] | None = None
) -> Iterable[RowTuple]:
    """Do what `ask` does for a statement of SQLAlchemy's."""
    if not is_pipelined(connection):
        return [tuple(row) for row in connection.execute(statement, values)]
    compiled = statement.compile(dialect=connection.dialect)
    expanded = compiled.construct_expanded_state(values)
    return _Asked(connection, expanded.statement, expanded.parameters)


class _Asked:
    """Rows that come with the next answer of a pipelined transaction.

    Args:
        connection: In a pipelined transaction.
        statement: The query.
        parameters: Its parameters.
    """

    def __init__(self, connection: Connection, statement: str, parameters: Any) -> None:
        from psycopg import Error

        self._connection = connection
        self._cursor: Any = None
        self._rows: list[RowTuple] | None = None
        driver: Any = connection.connection.driver_connection
        try:
            self._cursor = driver.ask(statement, parameters)
        except Error as error:
            # It may be an earlier statement's, and is the first cause of all that follows. If the connection is broken,
            # `hear` says so in SQLAlchemy's way.
            if error.sqlstate is not None:
                raise DBAPIError.instance(
                    statement, parameters, error, Error, hide_parameters=True, dialect=connection.dialect
                ) from error

    def __iter__(self) -> Iterator[RowTuple]:
        if self._rows is None:
            if self._cursor is None or self._cursor.pgresult is None:
                hear(self._connection)
            self._rows = self._cursor.fetchall()
        return iter(self._rows)


def _fetch(connection: Connection, statement: str, parameters: Sequence[object]) -> list[RowTuple]:
    result = connection.exec_driver_sql(statement, tuple(parameters))
    rows: list[RowTuple] = list(result.cursor.fetchall())
    result.close()
    return rows
