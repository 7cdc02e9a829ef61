"""Inserting many rows at once. The ordinary way through SQLAlchemy costs more per row than SQLite itself does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Table


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows; a column that none of them has keeps its default, one that some lack is NULL there.

    Args:
        connection: In a transaction.
        table: Where to; its column names are our own, so they need no quoting.
        rows: Column -> value.
    """
    if not rows:
        return
    given = set().union(*rows)
    columns = [column.name for column in table.columns if column.name in given]
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    statement = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join([mark] * len(columns))})"  # noqa: S608
    connection.exec_driver_sql(statement, [tuple([row.get(name) for name in columns]) for row in rows])
