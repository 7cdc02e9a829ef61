"""The database as the commands see it: read-only, whether a supervisor runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from pylantir.errors import StoreError
from pylantir.store.read.worklist import describe_error
from pylantir.store.schema.engine import open_for_reading, sqlite_path


@contextmanager
def reading(db_url: str) -> Iterator[Connection]:
    """Open the database for reading.

    Raises:
        StoreError: There is none yet, or it cannot be opened.
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
        with connection:
            yield connection
    finally:
        engine.dispose()
