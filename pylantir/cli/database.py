"""Gives the commands read-only access to the database, whether a supervisor runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from pylantir.config.locate import source_names
from pylantir.errors import StoreError, WrongUsage
from pylantir.programs.arguments import unknown_name
from pylantir.programs.progress import progress
from pylantir.store.read.listings import find_sources
from pylantir.store.read.worklist import describe_error
from pylantir.store.schema.engine import open_for_reading, sqlite_path


def check_source(name: str | None, config_path: str, connection: Connection) -> None:
    """Check that a source named on the command line exists, in the configuration or in the database.

    Raises:
        WrongUsage: It does not exist; the message suggests a similar name.
    """
    if name is None:
        return
    known = find_sources(connection) | source_names(Path(config_path))
    if name not in known:
        raise WrongUsage(unknown_name("source", name, sorted(known)))


@contextmanager
def reading(db_url: str) -> Iterator[Connection]:
    """Open the database for reading.

    Raises:
        StoreError: There is no database yet, or it cannot be opened.
    """
    path = sqlite_path(db_url)
    if path is not None and not path.is_file():
        raise StoreError(f"{path}: no database yet; `pylantir-supervisor start` makes it")
    engine = open_for_reading(db_url)
    try:
        try:
            connection = engine.connect()
        except SQLAlchemyError as error:
            raise StoreError(f"{path or 'the database'} cannot be opened: {describe_error(error)}") from None
        with connection, progress("reading the database"):
            yield connection
    finally:
        engine.dispose()
