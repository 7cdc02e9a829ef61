"""Opens the worklist database, SQLite or PostgreSQL, for one writer and any number of readers.

The writer process opens it for writing. Every other process opens it read-only, and the database enforces that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import OperationalError

from pylantir.store.failures import lacks_tables
from pylantir.store.schema.sqlite_file import open_file_for_reading, open_file_for_writing, sqlite_path
from pylantir.store.schema.writers_lock import IDLE_S, WRITER_TIMEOUT_MS, lock_statements

_HOST, _DURABLE, _ANSWER = "pylantir_host", "pylantir_durable", "pylantir_answer_s"
_PIPELINED, _READING = "pylantir_pipelined", "pylantir_reading"
KEPT_READERS = 4
"""So many connections of a process stay open between reads; more open when needed."""
MOST_READERS = 16
"""A process opens no more connections to a PostgreSQL server; one is needed while rows are read, not while sent."""
WAIT_FOR_READER_S = 3.0
READ_S = 5.0
"""A scanner waits: a PostgreSQL server has so long for its query."""
ANSWER_S = 15.0
"""How long the writer waits for one answer of a PostgreSQL server."""
UPGRADE_S = 3600.0
"""The same while it makes tables and indexes."""
LOOK_AGAIN_S = 10
_QUIET: dict[str, Any] = {"hide_parameters": True}
"""Exceptions and echoed statements quote no values, because values are patient data."""


@contextmanager
def transaction(
    engine: Engine, *, dry_run: bool = False, pipelined: bool = False, durable: bool = True
) -> Iterator[Connection]:
    """Begin a transaction that is committed at the end, or rolled back on a dry run.

    Args:
        engine: The database, opened for writing.
        dry_run: Roll it back.
        pipelined: A PostgreSQL server gets statements that give no rows together with the next query or the COMMIT, and
            what is wrong with them is known no earlier; see `hear`. Their `rowcount` is not known.
        durable: The COMMIT also survives a power cut, whatever the server's default. Scanners and operators rely on
            what they were told; what a source gives can be fetched again.
    """
    with engine.connect() as connection:
        connection.execution_options(**{_DURABLE: durable, _PIPELINED: pipelined})
        driver = connection.connection.driver_connection if durable and engine.dialect.name == "sqlite" else None
        _set_synchronous(driver, "FULL")
        try:
            with connection.begin() as begun:
                yield connection
                if dry_run:
                    begun.rollback()
        finally:
            _set_synchronous(driver, "NORMAL")


def _set_synchronous(driver: Any, level: str) -> None:
    """Set when SQLite waits for the disk, through the driver: SQLAlchemy would begin a transaction, where it fails."""
    if driver is None:
        return
    statement = f"PRAGMA synchronous={level}"
    try:
        driver.execute(statement)
    except sqlite3.Error as error:
        raise OperationalError(statement, None, error) from error


def is_pipelined(connection: Connection) -> bool:
    """Return whether statements wait for the next query."""
    driver: Any = connection.connection.driver_connection
    return connection.dialect.name == "postgresql" and bool(driver.is_pipelined)


def role_of(connection: Connection) -> str | None:
    """Return whether a PostgreSQL server is the "primary" or a "standby"; None for SQLite. Asks nothing."""
    if connection.dialect.name != "postgresql":
        return None
    driver: Any = connection.connection.driver_connection
    return "standby" if driver.info.parameter_status("in_hot_standby") == "on" else "primary"


def hear(connection: Connection) -> None:
    """Make sure that all statements of a pipelined transaction so far have succeeded.

    Raises:
        sqlalchemy.exc.DBAPIError: One has not.
    """
    if is_pipelined(connection):
        connection.exec_driver_sql("SELECT 1")


def open_for_writing(
    db_url: str, *, echo: bool = False, host: str | None = None, process: str = "writer", idle_s: float = IDLE_S
) -> Engine:
    """Open the database for the writer process.

    Every transaction begins with the database's one lock for writers, because a read that turns into a write would
    decide by what another writer is about to change. SQLite: BEGIN IMMEDIATE; PostgreSQL: an advisory lock.

    Args:
        db_url: The database.
        echo: Log every statement.
        host: This host's name, for the audit log and the server's administrator.
        process: The process, for the latter.
        idle_s: PostgreSQL ends a transaction in which the writer has asked nothing for so long.
    """
    if sqlite_path(db_url) is None:
        engine = _open_server(
            db_url, _name(host, process), ANSWER_S, echo=echo, execution_options={_HOST: host},
            pool_size=1, max_overflow=0,
        )  # fmt: skip
        event.listen(engine, "begin", _lock_out_writers(idle_s))
        event.listen(engine, "connect", _prepare_session)
        return engine
    return open_file_for_writing(db_url, echo=echo, execution_options={_HOST: host}, **_QUIET)


def with_patience(engine: Engine) -> Engine:
    """Return the same engine for statements that take long, such as making an index."""
    return engine.execution_options(**{_ANSWER: UPGRADE_S})


def host_of(connection: Connection) -> str | None:
    """Return the host that writes with this connection; None if it has no name."""
    host: str | None = connection.get_execution_options().get(_HOST)
    return host


def _lock_out_writers(idle_s: float) -> Callable[[Connection], None]:
    """Return what begins every writing transaction on PostgreSQL with the writers' lock."""

    def lock(connection: Connection) -> None:
        options = connection.get_execution_options()
        driver: Any = connection.connection.driver_connection
        driver.answer_s = options.get(_ANSWER, ANSWER_S)
        if options.get(_READING):
            return
        statements = [_BEGIN, *lock_statements(driver.answer_s, idle_s, durable=options.get(_DURABLE, False))]
        if options.get(_PIPELINED):
            driver.begin_pipeline()
        else:
            statements = ["; ".join(statements)]
        for statement in statements:
            connection.exec_driver_sql(statement)

    return lock


def _prepare_session(driver: Any, _record: object) -> None:
    """Replace the role's defaults that would end the writer's idle session, as if it were dead, or a look at the hosts.

    Only where the session is the writer's own: a pooler tells its clients other numbers, and ends its own sessions.
    """
    settings = {"statement_timeout": f"{ANSWER_S * 1000:.0f}", "lock_timeout": f"{WRITER_TIMEOUT_MS:.0f}"}
    if driver.info.server_version >= _KNOWS_IDLE_SESSIONS:
        settings["idle_session_timeout"] = "0"
    said = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    driver.execute(f"SELECT {said} WHERE pg_backend_pid() = {driver.info.backend_pid}")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Read with the writer's connection, without waiting for another host's writer."""
    with engine.connect() as connection:
        connection.execution_options(**{_READING: True})
        yield connection


def open_for_reading(
    db_url: str,
    *,
    read_url: str | None = None,
    host: str | None = None,
    process: str = "reader",
    statement_s: float = READ_S,
) -> Engine:
    """Open the database read-only; the first use fails if there is no database.

    A PostgreSQL server is read wherever one answers: first at `read_url`, then at any host of `db_url`, a primary
    before a standby. A query then needs three round trips: BEGIN, the statement, ROLLBACK.

    Args:
        db_url: The database.
        read_url: Another address of it that is only good for reading.
        host: This host's name, for the server's administrator; a database that does not know it is not read at
            `read_url`.
        process: The process, likewise.
        statement_s: The longest time for a statement, and between two of them, on PostgreSQL.
    """
    path = sqlite_path(db_url)
    if path is None:
        begin = (
            f"{_BEGIN} READ ONLY; SET LOCAL statement_timeout = {statement_s * 1000:.0f}; "
            # Shorter, so that a locked table is told as such.
            f"SET LOCAL lock_timeout = {statement_s * 900:.0f}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {statement_s * 1000:.0f}"
        )
        engine = _open_server(
            db_url, _name(host, process), statement_s + 1, read_url=read_url, host=host, is_reader=True,
            pool_size=KEPT_READERS, max_overflow=MOST_READERS - KEPT_READERS, pool_timeout=WAIT_FOR_READER_S,
        )  # fmt: skip
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return engine
    return open_file_for_reading(path, pool_size=KEPT_READERS, **_QUIET)


_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""After the lock, each statement has to see what the others have committed before."""
_KNOWS_IDLE_SESSIONS = 140000


def _open_server(
    db_url: str, application: str, answer_s: float, *, read_url: str | None = None, host: str | None = None,
    is_reader: bool = False, **options: Any,
) -> Engine:  # fmt: skip
    """Open a PostgreSQL database without connecting; each use connects as `pylantir.store.schema.server` says."""
    from pylantir.store.schema import server

    arguments = server.read_arguments(_with_driver(db_url), application)
    attempts = [arguments]
    is_one = "," not in str(arguments.get("host", ""))
    replica = None
    if is_reader:
        if read_url:
            replica = server.Replica(server.read_arguments(_with_driver(read_url), application), answer_s, host)
        attempts = server.each_host({**arguments, "target_session_attrs": "any"})
        # A reader soon looks again which of several servers is the primary.
        options["pool_recycle"] = -1 if is_one and not read_url else LOOK_AGAIN_S
    elif not is_one or "target_session_attrs" in arguments:
        # Whatever else the URL asks for, a writer needs a server that takes writes.
        is_primary = arguments.get("target_session_attrs") == "primary"
        attempts = server.each_host({**arguments, "target_session_attrs": "primary" if is_primary else "read-write"})
    engine = create_engine(_with_driver(db_url), **_QUIET, **options, use_native_hstore=False)

    @event.listens_for(engine, "do_connect")
    def connect(*_arguments: object) -> Any:
        if not is_reader:
            return server.connect(attempts, answer_s)
        return (replica.connect() if replica else None) or server.connect(attempts, answer_s)

    event.listen(engine, "checkout", server.refuse_broken)
    if is_reader:
        event.listen(engine, "handle_error", _leave_session_without_tables)
    return engine


def _leave_session_without_tables(context: ExceptionContext) -> None:
    """Let the next read connect anew: an administrator may have mended the search path, which an old session keeps."""
    if context.sqlalchemy_exception is not None and lacks_tables(context.sqlalchemy_exception):
        context.is_disconnect = True


def _name(host: str | None, process: str) -> str:
    return f"pylantir {host} {process}" if host else f"pylantir {process}"


def _with_driver(db_url: str) -> str:
    """Let a plain `postgresql://` select psycopg 3, the driver that the `postgresql` extra installs."""
    for plain in ("postgresql://", "postgres://"):
        if db_url.startswith(plain):
            return "postgresql+psycopg://" + db_url.removeprefix(plain)
    return db_url
