"""Making the database ready at the writer's start: tables, columns and indexes that an older file lacks.

Additions only. Before an existing SQLite file is changed, a copy is laid beside it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.schema import CreateColumn

from pylantir.store.intake.state import utc_now
from pylantir.store.schema.adoption import claim_old_items
from pylantir.store.schema.audit_guard import forbid_changes
from pylantir.store.schema.engine import sqlite_path
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
    """Bring the database to the present form; does nothing to one that has it.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: It cannot be opened or changed just now.
        OSError: The file or the copy beside it cannot be written.
    """
    path = sqlite_path(engine.url.render_as_string(hide_password=False))
    if path:
        create_private_file(path)
    with engine.connect() as connection:
        existing = set(inspect(connection).get_table_names()) & set(metadata.tables)
        missing = _missing_columns(connection, existing)
    if path and existing and (missing or existing != set(metadata.tables)):
        logger.info("the database is of an earlier version; a copy is in %s", _copy_aside(path))
    with engine.begin() as connection:
        metadata.create_all(connection)
        for table, column in missing:
            definition = CreateColumn(metadata.tables[table].columns[column]).compile(dialect=connection.dialect)
            connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {definition}"))
        for table_name in existing:
            for index in metadata.tables[table_name].indexes:
                index.create(connection, checkfirst=True)
        forbid_changes(connection)
        adopted = claim_old_items(connection, utc_now())
    if adopted:
        logger.info("%d items of an earlier version are kept; their source takes them over", adopted)


def _missing_columns(connection: Connection, existing: set[str]) -> list[tuple[str, str]]:
    found = {table: {column["name"] for column in inspect(connection).get_columns(table)} for table in existing}
    return [
        (table, column.name)
        for table in existing
        for column in metadata.tables[table].columns
        if column.name not in found[table]
    ]


def _copy_aside(path: Path) -> Path:
    copy = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}.backup")
    create_private_file(copy)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy
