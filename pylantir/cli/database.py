"""Gives the commands read-only access to the database, whether a supervisor runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from pylantir.config.locate import fault_of, source_names
from pylantir.errors import StoreError, WrongUsage
from pylantir.programs.arguments import unknown_name
from pylantir.programs.progress import progress
from pylantir.settings import Settings
from pylantir.store.failures import describe_error
from pylantir.store.read.listings import find_hosts, find_sources
from pylantir.store.schema.engine import open_for_reading
from pylantir.store.schema.sqlite_file import sqlite_path

STATEMENT_S = 300.0
"""A person may wait, and may look at what is printed page by page."""


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


def check_host(name: str, connection: Connection) -> None:
    """Check that a host named on the command line exists in the database.

    Raises:
        WrongUsage: It does not exist; the message suggests a similar name.
    """
    known = find_hosts(connection)
    if name not in known:
        raise WrongUsage(unknown_name("host", name, sorted(known)))


@contextmanager
def reading(settings: Settings) -> Iterator[Connection]:
    """Open the database for reading, on a PostgreSQL server wherever one answers.

    Raises:
        StoreError: There is no database yet, it cannot be opened, or it is of an earlier version.
    """
    database = settings.database
    path = sqlite_path(database.url)
    if path is not None and (fault := fault_of(path, "no database yet; `pylantir-supervisor start` makes it")):
        raise StoreError(f"{path}: {fault}")
    engine = open_for_reading(
        database.url, read_url=database.read_url, host=database.host, process="command", statement_s=STATEMENT_S
    )
    try:
        try:
            connection = engine.connect()
        except SQLAlchemyError as error:
            raise StoreError(f"{path or 'the database'} cannot be opened: {describe_error(error)}") from None
        with connection, progress("reading the database"):
            yield connection
    except StoreError as error:
        if "no such column" not in str(error) and "no such table" not in str(error):
            raise
        advice = "`pylantir-supervisor start` completes it, after making a copy"
        raise StoreError(f"{path}: is a database of an earlier version; {advice}") from None
    finally:
        engine.dispose()
