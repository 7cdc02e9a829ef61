"""Streams the rows of a query over a read-only connection, which is closed afterwards.

Lives in the worker of an SQL source; the only module of a source that imports SQLAlchemy. In: an address, a query;
out: rows as dictionaries. Passwords and patients' data stay out of messages.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from pylantir.data_sources.sql_session import prepare_session, session_clock
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
_CANCELLED_BY_TIMEOUT = "57014"
_MYSQL_TIMEOUTS = (1969, 3024)
_CLASS_OF_DATA_ERRORS = "22"
_RAISED_BY_ROUTINES = ("P0001", 1644)


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlAccess:
    """A database's address, and the limits for its answers.

    Attributes:
        url: SQLAlchemy URL; holds a password perhaps.
        statement_timeout_s: Longest time until the database answers with rows, in seconds.
        fetch_size: Rows per round trip.
        time_zone: Zone of the session, where the database has one; empty: as the server has it.
    """

    url: str = field(repr=False)
    statement_timeout_s: float = 60.0
    fetch_size: int = 1000
    time_zone: str = ""


def stream_rows(
    access: SqlAccess,
    query: str,
    since: Callable[[datetime.timedelta | None, datetime.datetime | None], datetime.datetime] | None,
) -> Generator[Sequence[Any], None, None]:
    """Run a query and give its rows; the connection is closed at the end, or when the caller stops.

    Args:
        access: The database.
        query: SQL text, with `:since` in it if `since` is given.
        since: Gives the value of `:since`, without a time zone, for a session that is so far ahead of UTC now, and a
            server with that time; None where it is not known.

    Yields:
        First the names of the columns, as the database gives them, then the values of each row.

    Raises:
        SourceUnavailable: The driver is missing, the database cannot be reached, or it refuses the query.
    """
    url = _parse_url(access.url)
    limit = _SqliteLimit(access.statement_timeout_s)
    try:
        engine = _make_engine(url, access.statement_timeout_s)
        with _connect(engine, url) as connection:
            prepare_session(connection, statement_timeout_s=access.statement_timeout_s, time_zone=access.time_zone)
            if isinstance(driver := connection.connection.driver_connection, sqlite3.Connection):
                driver.set_progress_handler(limit.is_over, _STEPS_BETWEEN_LOOKS)
                # Otherwise one text that is not UTF-8 ends the query, and SQLite's message quotes it. What cannot be
                # decoded becomes surrogates, which no identifier and no name may contain.
                driver.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
            text, parameters = sa.text(query), {}
            if since is not None:
                parameters = {"since": since(*session_clock(connection))}
                text = text.bindparams(sa.bindparam("since", type_=sa.DateTime()))
            reading = connection.execution_options(stream_results=True, max_row_buffer=access.fetch_size)
            # Closed before the connection: some drivers complain about unread rows.
            with contextlib.closing(reading.execute(text, parameters)) as result:
                if not result.returns_rows or result.cursor is None:
                    raise SourceUnavailable("the query gives no rows; expected a SELECT")
                # Not `keys()`: of two columns with one name it may keep one.
                yield [str(column[0]) for column in result.cursor.description]
                limit.begin()
                for rows in result.partitions(access.fetch_size):
                    yield from rows
                    limit.begin()
    except SQLAlchemyError as error:
        raise SourceUnavailable(f"{_place(url)}: {_describe(error, url, access)}") from None


class _SqliteLimit:
    """SQLite has no statement timeout: it asks now and then whether to go on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.begin()

    def begin(self) -> None:
        self._deadline = time.monotonic() + self._seconds

    def is_over(self) -> int:
        return int(time.monotonic() > self._deadline)


def _parse_url(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        # ValueError: a port that is no number.
        msg = "not a database address; expected one such as postgresql+psycopg://user:password@host:5432/database"
        raise SourceUnavailable(msg) from None
    # The driver that comes with Pylantir's extra, whichever SQLAlchemy takes for the usual one.
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _make_engine(url: sa.URL, statement_timeout_s: float) -> sa.Engine:
    options: dict[str, Any] = {"poolclass": NullPool, "hide_parameters": True}
    try:
        dialect = url.get_dialect()
        if dialect.driver == "pysqlite" and "uri" not in url.query:
            # Options of the address would be for a connection that we do not make.
            url, options["creator"] = url.set(query={}), _sqlite_reader(url)
        elif dialect.driver in _TAKES_CONNECT_TIMEOUT:
            limits = {"connect_timeout": _CONNECT_TIMEOUT_S}
            if dialect.driver == "pymysql":
                # A server that has stopped keeps no time limit of its own.
                limits["read_timeout"] = int(statement_timeout_s) + _CONNECT_TIMEOUT_S
            options["connect_args"] = {name: limit for name, limit in limits.items() if name not in url.query}
        return sa.create_engine(url, **options)
    except NoSuchModuleError:
        raise SourceUnavailable(f'unknown kind of database "{url.drivername}"; is its driver installed?') from None
    except ModuleNotFoundError as error:
        advice = _DRIVERS.get(error.name or "", f"pip install the package that provides {error.name}")
        msg = f'the driver "{error.name}" for {url.get_backend_name()} is missing: {advice}'
        raise SourceUnavailable(msg) from None


def _connect(engine: sa.Engine, url: sa.URL) -> sa.Connection:
    """Connect; what a driver says of the options in an address, it says in exceptions of any kind."""
    try:
        return engine.connect()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SourceUnavailable(f"{_place(url)}: a file that the address names cannot be read: {reason}") from None
    except (TypeError, ValueError):
        raise SourceUnavailable(f"{_place(url)}: the driver does not know an option of the address") from None


def _sqlite_reader(url: sa.URL) -> Callable[[], sqlite3.Connection]:
    """Open the file for reading only: an address with a typo must not make an empty database."""
    path = Path(url.database or "")

    def connect() -> sqlite3.Connection:
        if not os.path.isfile(path):
            raise SourceUnavailable(f"the SQLite file {path} is not there")
        return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)

    return connect


def _place(url: sa.URL) -> str:
    return f"{url.get_backend_name()} {url.host or ''}".strip() + f" {url.database or ''}".rstrip()


def _describe(error: SQLAlchemyError, url: sa.URL, access: SqlAccess) -> str:
    """Describe an error without the values in it, which are patients' data."""
    if not isinstance(error, DBAPIError):
        return f"the query cannot be run ({type(error).__name__})"
    cause = error.orig
    code, *words = cause.args if cause is not None and cause.args else ("",)
    numbered = isinstance(code, int) and len(words) == 1  # as the drivers of MySQL have it
    text = str(words[0] if numbered else cause).strip().partition("\n")[0]
    state = str(getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or "")
    interrupted = isinstance(cause, sqlite3.Error) and text == "interrupted"
    if state == _CANCELLED_BY_TIMEOUT or interrupted or (numbered and code in _MYSQL_TIMEOUTS):
        return f"no rows within {access.statement_timeout_s:g} s; speed the query up or raise statement_timeout"
    if state in _RAISED_BY_ROUTINES or (numbered and code in _RAISED_BY_ROUTINES):
        return "a routine of the database refuses the query; its message is not shown, as it may name a patient"
    if state.startswith(_CLASS_OF_DATA_ERRORS) or isinstance(error, DataError):
        return f"a value in the data breaks the query ({type(cause).__name__})"
    return text.replace(url.password, "***") if url.password else text
