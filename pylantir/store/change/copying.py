"""Copies a whole worklist database into an empty one, from SQLite to PostgreSQL or the other way round.

Lives in `pylantir copy-db`. Every table of ours is copied as it is, ids included; no decision is made. The source is
only read, in one transaction, so that the copy shows one moment. What is in the target is compared with what was read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Connection, Engine, Integer, Table, func, inspect, select, text

from pylantir.errors import StoreError
from pylantir.store.schema.audit_guard import forbid_changes
from pylantir.store.schema.bulk import insert_columns
from pylantir.store.schema.engine import with_patience
from pylantir.store.schema.tables import metadata

ROWS_AT_ONCE = 2000
TEXT_AT_ONCE = 8_000_000
"""A portion ends with the row with which it has so many characters: a scanner's report may have millions."""
READ_AT_ONCE = 100


@dataclass(slots=True)
class _Sum:
    """Count and checksum of a table's rows, whatever their order."""

    rows: int = 0
    checksum: int = 0

    def add(self, row: Sequence[object]) -> None:
        digest = hashlib.blake2b(json.dumps(list(row), ensure_ascii=True, default=str).encode(), digest_size=8).digest()
        self.rows += 1
        self.checksum = (self.checksum + int.from_bytes(digest, "big")) % 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCopy:
    """One table that was copied: how many rows, and the checksum of both sides."""

    name: str
    rows: int
    checksum: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What was copied.

    Attributes:
        tables: Each table.
        left_out: Columns of the source that this version does not know, as table.column.
    """

    tables: Sequence[TableCopy] = field(default_factory=list)
    left_out: Sequence[str] = ()


def find_contents(connection: Connection) -> list[str]:
    """Return the tables and views of a database that are in the way of a copy: others' ones, and ours with rows."""
    found = inspect(connection)
    names = {*found.get_table_names(), *found.get_view_names()}
    return sorted(
        name for name in names
        if name not in metadata.tables or connection.execute(select(metadata.tables[name]).limit(1)).first() is not None
    )  # fmt: skip


def copy_database(source: Connection, target: Engine, progress: Callable[[str, int, int], None]) -> Copy:
    """Copy all rows into an empty database, in one transaction: if anything fails, the target stays empty.

    Args:
        source: A connection that has asked nothing yet.
        target: An empty database, opened for writing.
        progress: Told after each portion: the table, its copied rows, its rows in all.

    Raises:
        StoreError: The target is not empty, or does not have the same rows afterwards.
        sqlalchemy.exc.SQLAlchemyError: One of the two fails.
    """
    # All tables as they are at one moment.
    is_sqlite = source.dialect.name == "sqlite"
    source.exec_driver_sql("BEGIN" if is_sqlite else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    stored = {
        name: {column["name"] for column in inspect(source).get_columns(name)}
        for name in set(inspect(source).get_table_names()) & set(metadata.tables)
    }
    tables = [table for table in metadata.sorted_tables if table.name in stored]
    with with_patience(target).begin() as connection:
        if contents := find_contents(connection):
            msg = f"the target is not empty: it has {', '.join(contents[:5])}{' …' if len(contents) > 5 else ''}"
            raise StoreError(msg)
        metadata.create_all(connection)
        copied = [_copy_table(source, connection, table, stored[table.name], progress) for table in tables]
        _set_sequences(connection)
        forbid_changes(connection)
    known = {name: set(table.columns.keys()) for name, table in metadata.tables.items()}
    left_out = [f"{table}.{name}" for table, names in stored.items() for name in sorted(names - known[table])]
    return Copy(tables=copied, left_out=left_out)


def _copy_table(
    source: Connection, target: Connection, table: Table, stored: Set[str], progress: Callable[[str, int, int], None]
) -> TableCopy:
    columns = [column for column in table.columns if column.name in stored]
    total = source.scalar(select(func.count()).select_from(table)) or 0
    read, found = _Sum(), _Sum()
    progress(table.name, 0, total)
    for rows in _rows_of(source, columns):
        for row in rows:
            read.add(row)
        if target.dialect.name == "postgresql":
            _refuse_nul(table, rows)
        insert_columns(
            target, table, dict(zip((column.name for column in columns), zip(*rows, strict=True), strict=True))
        )
        progress(table.name, read.rows, total)
    for rows in _rows_of(target, columns):
        for row in rows:
            found.add(row)
    if read != found:
        msg = (
            f"{table.name}: {read.rows} rows were read, {found.rows} are in the copy, or they differ; nothing is copied"
        )
        raise StoreError(msg)
    return TableCopy(name=table.name, rows=read.rows, checksum=f"{read.checksum:016x}")


def _rows_of(connection: Connection, columns: Sequence[Column[Any]]) -> Iterator[list[tuple[object, ...]]]:
    """Yield rows in portions, each value in the type of its column: older files hold numbers where text belongs."""
    readers = [_whole_number if isinstance(column.type, Integer) else _text for column in columns]
    names = ", ".join(column.name for column in columns)
    # In plain SQL: SQLAlchemy would read a column of text as text, whatever is there.
    statement = text(f"SELECT {names} FROM {columns[0].table.name}")  # noqa: S608 - names of our own
    portion: list[tuple[object, ...]] = []
    size = 0
    with connection.execute(statement, execution_options={"yield_per": READ_AT_ONCE}) as result:
        for row in result:
            try:
                values = tuple(read(value) for read, value in zip(readers, row, strict=True))
            except _OtherType:
                raise StoreError(_describe_other_type(columns, readers, row)) from None
            portion.append(values)
            size += sum(len(value) for value in values if isinstance(value, str))
            if len(portion) == ROWS_AT_ONCE or size >= TEXT_AT_ONCE:
                yield portion
                portion, size = [], 0
    if portion:
        yield portion


class _OtherType(Exception):
    """A value that cannot become one of its column's type without a change of its meaning."""


def _whole_number(value: Any) -> int | None:
    if value is None or isinstance(value, int):
        return value
    try:
        number = int(value)
    except (ValueError, OverflowError, TypeError):
        raise _OtherType from None
    if isinstance(value, float) and number != value:
        raise _OtherType
    return number


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        raise _OtherType
    return str(value)


def _describe_other_type(
    columns: Sequence[Column[Any]], readers: Sequence[Callable[[Any], object]], row: Sequence[Any]
) -> str:
    """Name the column and the row, without the value."""
    for column, read, value in zip(columns, readers, row, strict=True):
        try:
            read(value)
        except _OtherType:
            wanted = "whole number" if read is _whole_number else "text"
            which = f"the row whose {columns[0].name} is {row[0]}"
            return f"{column.table.name}.{column.name}: {which} has no {wanted} there; nothing is copied"
    return "a value is of another type than its column; nothing is copied"


def _refuse_nul(table: Table, rows: Sequence[Sequence[object]]) -> None:
    """Name the row of a text that PostgreSQL does not take.

    Raises:
        StoreError: There is one.
    """
    for row in rows:
        if any(isinstance(value, str) and "\0" in value for value in row):
            msg = (
                f"{table.name}: the row that begins with {row[0]} holds the character NUL (U+0000), which PostgreSQL "
                "cannot store; nothing is copied"
            )
            raise StoreError(msg)


def _set_sequences(connection: Connection) -> None:
    """Let PostgreSQL count on from the highest id."""
    if connection.dialect.name != "postgresql":
        return
    for table in metadata.sorted_tables:
        (key, *others) = table.primary_key.columns
        if not others and isinstance(key.type, Integer):
            sequence = connection.scalar(text("SELECT pg_get_serial_sequence(:table, :column)"),
                                         {"table": table.name, "column": key.name})  # fmt: skip
            if sequence:
                highest = connection.scalar(select(func.max(key)))
                counted = {"name": sequence, "value": highest or 1, "called": highest is not None}
                connection.execute(text("SELECT setval(CAST(:name AS regclass), :value, :called)"), counted)
