"""Rows of a query: one connection that only reads, streams, and is gone afterwards.

Lives in the worker of an SQL source; the only module of a source that imports SQLAlchemy. In: an address, a query;
out: rows as dictionaries. Passwords and patients' data stay out of messages.
"""

from __future__ import annotations

import datetime
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from pylantir.errors import SourceUnavailable

_CONNECT_TIMEOUT_S = 15
_STEPS_BETWEEN_LOOKS = 10_000
_TAKES_CONNECT_TIMEOUT = ("psycopg", "psycopg2", "pymysql", "mysqldb", "mariadbconnector")
_DRIVERS = {
    "psycopg": 'pip install "pylantir[postgresql]"',
    "psycopg2": 'pip install "pylantir[postgresql]" and an address that begins with postgresql+psycopg://',
    "MySQLdb": "pip install pymysql and an address that begins with mysql+pymysql://",
    "cx_Oracle": "pip install oracledb and an address that begins with oracle+oracledb://",
}
_READ_ONLY = {
    "postgresql": "SET TRANSACTION READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}
_CANCELLED_BY_TIMEOUT = "57014"
_CLASS_OF_DATA_ERRORS = "22"


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlAccess:
    """Where the database is, and how patient to be with it.

    Attributes:
        url: SQLAlchemy URL; holds a password perhaps.
        statement_timeout_s: Longest time until the database answers with rows, in seconds.
        fetch_size: Rows per round trip.
        time_zone: Zone of the session, where the database has one.
    """

    url: str = field(repr=False)
    statement_timeout_s: float = 60.0
    fetch_size: int = 1000
    time_zone: str = "UTC"


def stream_rows(access: SqlAccess, query: str, since: datetime.datetime | None) -> Iterator[Mapping[str, Any]]:
    """Run a query and give its rows; the connection is closed at the end, or when the caller stops.

    Args:
        access: The database.
        query: SQL text, with `:since` in it if `since` is given.
        since: Without a time zone.

    Yields:
        First the columns, with None for a value, then column -> value per row.

    Raises:
        SourceUnavailable: The driver is missing, the database cannot be reached, or it refuses the query.
    """
    url = _parse_url(access.url)
    limit = _SqliteLimit(access.statement_timeout_s)
    try:
        engine = _make_engine(url)
        with engine.connect() as connection:
            for statement in _session_statements(url, access):
                connection.exec_driver_sql(statement)
            if isinstance(driver := connection.connection.driver_connection, sqlite3.Connection):
                driver.set_progress_handler(limit.is_over, _STEPS_BETWEEN_LOOKS)
            parameters = {} if since is None else {"since": since}
            text = sa.text(query)
            if since is not None:
                text = text.bindparams(sa.bindparam("since", type_=sa.DateTime()))
            result = connection.execution_options(stream_results=True, max_row_buffer=access.fetch_size).execute(
                text, parameters
            )
            if not result.returns_rows:
                raise SourceUnavailable("the query gives no rows; expected a SELECT")
            columns = tuple(result.keys())
            yield dict.fromkeys(columns)
            limit.begin()
            for rows in result.partitions(access.fetch_size):
                for row in rows:
                    yield dict(zip(columns, row, strict=True))
                limit.begin()
    except SQLAlchemyError as error:
        raise SourceUnavailable(f"{_place(url)}: {_describe(error, url, access)}") from None


class _SqliteLimit:
    """SQLite has no statement timeout: it asks now and then whether to go on."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self.begin()

    def begin(self) -> None:
        self._deadline = self._monotonic() + self._seconds

    def is_over(self) -> int:
        return int(self._monotonic() > self._deadline)


def _parse_url(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except ArgumentError:
        msg = "not a database address; expected one such as postgresql+psycopg://user:password@host/database"
        raise SourceUnavailable(msg) from None
    # The driver that comes with Pylantir's extra, whichever SQLAlchemy takes for the usual one.
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _make_engine(url: sa.URL) -> sa.Engine:
    options: dict[str, Any] = {"poolclass": NullPool, "hide_parameters": True}
    try:
        dialect = url.get_dialect()
        if url.get_backend_name() == "sqlite" and not url.query:
            options["creator"] = _sqlite_reader(url)
        elif dialect.driver in _TAKES_CONNECT_TIMEOUT and "connect_timeout" not in url.query:
            options["connect_args"] = {"connect_timeout": _CONNECT_TIMEOUT_S}
        return sa.create_engine(url, **options)
    except NoSuchModuleError:
        raise SourceUnavailable(f'unknown kind of database "{url.drivername}"; is its driver installed?') from None
    except ModuleNotFoundError as error:
        advice = _DRIVERS.get(error.name or "", f"pip install the package that provides {error.name}")
        msg = f'the driver "{error.name}" for {url.get_backend_name()} is missing: {advice}'
        raise SourceUnavailable(msg) from None


def _sqlite_reader(url: sa.URL) -> Callable[[], sqlite3.Connection]:
    """Open the file for reading only: an address with a typo must not make an empty database."""
    path = Path(url.database or "")

    def connect() -> sqlite3.Connection:
        if not path.is_file():
            raise SourceUnavailable(f"the SQLite file {path} is not there")
        return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)

    return connect


def _session_statements(url: sa.URL, access: SqlAccess) -> Iterator[str]:
    backend = url.get_backend_name()
    timeout_ms = int(access.statement_timeout_s * 1000)
    if backend in _READ_ONLY:
        yield _READ_ONLY[backend]
    if backend == "postgresql":
        yield f"SET LOCAL statement_timeout = {timeout_ms}"
        yield f"SET LOCAL TIME ZONE '{access.time_zone}'"
    elif backend == "mysql":
        yield f"SET SESSION max_execution_time = {timeout_ms}"
    elif backend == "mariadb":
        yield f"SET SESSION max_statement_time = {access.statement_timeout_s:g}"


def _place(url: sa.URL) -> str:
    return f"{url.get_backend_name()} {url.host or ''}".strip() + f" {url.database or ''}".rstrip()


def _describe(error: SQLAlchemyError, url: sa.URL, access: SqlAccess) -> str:
    """Say what is wrong, without the values in it: those are patients'."""
    if not isinstance(error, DBAPIError):
        return f"the query cannot be run ({type(error).__name__})"
    cause = error.orig
    text = str(cause).strip().partition("\n")[0]
    state = str(getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or "")
    if state == _CANCELLED_BY_TIMEOUT or (isinstance(cause, sqlite3.Error) and text == "interrupted"):
        return f"no rows within {access.statement_timeout_s:g} s; speed the query up or raise statement_timeout"
    if state.startswith(_CLASS_OF_DATA_ERRORS) or isinstance(error, DataError):
        return f"a value in the data breaks the query ({type(cause).__name__})"
    return text.replace(url.password, "***") if url.password else text
