"""Adds missing tables, columns and indexes to an older database when the writer starts.

It only adds. Before it changes an existing SQLite file, it makes a copy in the same folder.
"""

from __future__ import annotations

import glob
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateColumn, CreateIndex

from pylantir.errors import SchemaMismatch, StoreError
from pylantir.store.clock import utc_now
from pylantir.store.failures import describe_failure, is_passing, lacks_right, lacks_tables
from pylantir.store.schema.adoption import claim_old_items
from pylantir.store.schema.audit_guard import forbid_changes
from pylantir.store.schema.engine import with_patience
from pylantir.store.schema.sqlite_file import sqlite_file, sqlite_uri
from pylantir.store.schema.tables import metadata

logger = logging.getLogger(__name__)


def create_private_file(path: Path) -> None:
    """Make sure that a SQLite file exists and that only this user can read it: it holds patient data.

    SQLite gives its side files (WAL and the like) the mode of the file itself.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)


def prepare_database(engine: Engine) -> None:
    """Bring the database to the present form; does nothing if it already has that form.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database cannot be opened or changed now.
        StoreError, OSError: The file or its copy cannot be written now.
        SchemaMismatch: A table with one of our names cannot be completed.
    """
    path = sqlite_file(engine)
    if path:
        create_private_file(path)
    engine = with_patience(engine)
    with engine.connect() as connection:
        refuse_encoding(connection)
        existing, missing = _find_form(connection)
        _refuse_foreign_columns(connection, existing, engine)
    if path and existing and (missing or existing != set(metadata.tables)):
        logger.info("the database is of an earlier version; a copy is in %s", copy_aside(path))
    with engine.begin() as connection:
        # Another host's writer may have done it meanwhile.
        present, missing = _find_form(connection)
        for table in metadata.sorted_tables:
            with _blaming(table.name, engine, present):
                _complete_table(connection, table, [name for name in missing if name[0] == table.name])
        with _blaming("audit_log", engine, present):
            forbid_changes(connection)
        with _blaming("worklist_items", engine, present):
            adopted = claim_old_items(connection, utc_now())
    if adopted:
        logger.info("%d items of an earlier version are kept; their source takes them over", adopted)


def _complete_table(connection: Connection, table: Table, missing: Sequence[tuple[str, str]]) -> None:
    metadata.create_all(connection, tables=[table])
    for _, column in missing:
        definition = CreateColumn(table.columns[column]).compile(dialect=connection.dialect)
        connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {definition}"))
    for index in table.indexes:
        # Not `create(checkfirst=True)`: SQLAlchemy does not see an index of an expression.
        connection.execute(CreateIndex(index, if_not_exists=True))


@contextmanager
def _blaming(table: str, engine: Engine, present: Collection[str]) -> Iterator[None]:
    """Name the table that cannot be brought to the present form, unless the failure is a passing one.

    While an administrator restores a backup, tables belong to somebody else for a moment, or until told otherwise.
    """
    try:
        yield
    except SQLAlchemyError as error:
        is_forbidden = lacks_right(error) and table not in present
        if is_passing(error) and not (is_forbidden or lacks_tables(error)):
            raise
        raise _mismatch(table, describe_failure(error), engine) from None


def refuse_encoding(connection: Connection) -> None:
    """See that the database can hold every patient's name.

    Raises:
        SchemaMismatch: It cannot.
    """
    if connection.dialect.name != "postgresql":
        return
    driver: Any = connection.connection.driver_connection
    encoding = driver.info.parameter_status("server_encoding")
    if encoding not in {None, "UTF8"}:
        msg = f"the database's encoding is {encoding}, which cannot hold every name; make one with ENCODING 'UTF8'"
        raise SchemaMismatch([msg])


def _mismatch(table: str, why: str, engine: Engine) -> SchemaMismatch:
    msg = (
        f"{sqlite_file(engine) or 'the database'}: table {table} cannot be brought to the form that Pylantir needs "
        f"({why}); it may be another program's: rename it there, or set another db_path"
    )
    return SchemaMismatch([msg])


def _refuse_foreign_columns(connection: Connection, existing: set[str], engine: Engine) -> None:
    """See that no table demands a value that Pylantir does not have: not a single row could be added to it."""
    for table in sorted(existing):
        for column in inspect(connection).get_columns(table):
            is_demanded = not column["nullable"] and column["default"] is None and not column.get("identity")
            if is_demanded and column["name"] not in metadata.tables[table].columns:
                raise _mismatch(table, f"its column {column['name']} must have a value", engine)


def _find_form(connection: Connection) -> tuple[set[str], list[tuple[str, str]]]:
    """Return which of our tables exist, and which of their columns are missing."""
    existing = set(inspect(connection).get_table_names()) & set(metadata.tables)
    return existing, _missing_columns(connection, existing)


def _missing_columns(connection: Connection, existing: set[str]) -> list[tuple[str, str]]:
    found = {table: {column["name"] for column in inspect(connection).get_columns(table)} for table in existing}
    return [
        (table, column.name)
        for table in existing
        for column in metadata.tables[table].columns
        if column.name not in found[table]
    ]


def copy_aside(path: Path) -> Path:
    """Copy a SQLite file, in its folder, before it is changed; there is one copy for each earlier form of the file.

    An unfinished copy has a name ending in `.part` and is removed.

    Raises:
        StoreError, OSError: The copy cannot be made, so the file must not be changed yet.
    """
    with closing(sqlite3.connect(sqlite_uri(path, "rw"), uri=True)) as source:
        try:
            made = sorted(path.parent.glob(f"{glob.escape(path.name)}.*.backup"))
            if made and made[-1].stat().st_mtime >= path.stat().st_mtime and _form(made[-1]) == _form(path):
                return made[-1]
            needed, free = path.stat().st_size, shutil.disk_usage(path.parent).free
            if free < needed:
                msg = f"{path.parent}: {needed} bytes are needed for a copy of the database, {free} are free"
                raise StoreError(msg)
            copy = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}.backup")
            part = copy.with_name(copy.name + ".part")
            try:
                create_private_file(part)
                with closing(sqlite3.connect(sqlite_uri(part, "rw"), uri=True)) as target:
                    source.backup(target)
                    # One file without side files, whoever reads it.
                    target.execute("PRAGMA journal_mode=DELETE")
                part.replace(copy)
            finally:
                part.unlink(missing_ok=True)
        except sqlite3.Error as error:
            msg = f"{path.parent}: no copy of the database can be made ({error}); it is not changed before there is one"
            raise StoreError(msg) from None
    return copy


def _form(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(sqlite_uri(path, "ro"), uri=True)) as connection:
        return connection.execute("SELECT name, COALESCE(sql, '') FROM sqlite_master ORDER BY name").fetchall()
