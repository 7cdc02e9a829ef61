"""Classifies failures of the database by the error codes of SQLite and PostgreSQL. Pure.

There are three kinds. *Passing*: the database accepts nothing now (lock, disk, connection, broken file); the writer
waits and tries the same again. *This frame's*: any other failure while the writer stores frames; it gives up the frame
after three tries and stores the others meanwhile. *This schema's* (`SchemaMismatch`): any other failure while the
writer prepares the tables; no attempt can succeed until somebody has looked at the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from pylantir.errors import PylantirError, StoreError, describe_os_error

# https://www.sqlite.org/rescode.html: PERM, ABORT, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, CORRUPT, FULL,
# CANTOPEN, PROTOCOL, SCHEMA, AUTH, NOTADB. The upper bytes of an extended code say more about the same.
_PASSING_IN_SQLITE = frozenset({3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 17, 23, 26})
_PRIMARY_CODE = 0xFF
_ADVICE_FOR_SQLITE = {
    5: "another program holds the file; end it",
    8: "give the user that runs Pylantir the right to write the file and its folder",
    11: "put a backup in its place",
    13: "make room on the disk",
    14: "its folder is missing, or closed to the user that runs Pylantir",
    26: "put a backup in its place, or set another db_path",
}
"""Primary code -> what to do; it stands behind SQLite's own words, which name neither file nor remedy."""
_ADVICE_BY_STATE = {
    "25006": "db_url leads to a standby, or the database is set to default_transaction_read_only",
}
"""The same for PostgreSQL's codes."""

# https://www.postgresql.org/docs/current/errcodes-appendix.html: connection, a standby takes no writes, a transaction
# was idle or lasted for too long, authorization, no such database, deadlock, no such schema, no right to a table, no
# such table or column, insufficient resources, locks, shutdown or a time limit, system, configuration, broken pages.
_PASSING_IN_POSTGRESQL = (
    "08", "25006", "25P03", "25P04", "28", "3D", "40", "3F", "42501", "42P01", "42703", "53", "55", "57", "58", "F0",
    "XX001", "XX002",
)  # fmt: skip

# Of these, the ones where another connection may lead to another server, or to one that works again.
_OVER_WITH_SESSION = ("08", "25006", "25P03", "25P04", "28", "3D", "53200", "53300", "57P", "58", "XX")
_FAILED_CONNECTIONS = frozenset({"OperationalError", "ConnectionTimeout"})
"""psycopg's exceptions without a code of the server's."""


WRITERS_LOCK = "pg_advisory_xact_lock"
"""What PostgreSQL says where a writer has waited for the lock of all writers, and not for that of a table."""
_TABLE_LOCKED = "another program has locked a table of the database (pg_locks there shows it); it must let go"


def is_passing(error: BaseException) -> bool:
    """Return whether the database accepts nothing now, so that the caller may try the same again later.

    The first error decides: after a full disk has ended the transaction, its savepoint is missing as well.
    """
    if isinstance(error, OSError | StoreError):
        return True
    if not isinstance(error, DBAPIError):
        # The pool has no connection to give, say. What has no code of the database's never reached it.
        return isinstance(error, SQLAlchemyError) and type(error).__name__ == "TimeoutError"
    return _has_passing_code(_first_cause(error))


def is_lock_timeout(error: BaseException) -> bool:
    """Return whether PostgreSQL has only refused to wait longer for a lock, as for that of another host's writer."""
    return isinstance(error, DBAPIError) and getattr(_first_cause(error).orig, "sqlstate", None) == "55P03"


def _has_passing_code(error: DBAPIError) -> bool:
    origin = error.orig
    sqlite_code = getattr(origin, "sqlite_errorcode", None)
    if isinstance(sqlite_code, int):
        return sqlite_code & _PRIMARY_CODE in _PASSING_IN_SQLITE
    sqlstate = getattr(origin, "sqlstate", None)
    if isinstance(sqlstate, str):
        return sqlstate.startswith(_PASSING_IN_POSTGRESQL)
    # Neither gave a code: the connection failed (psycopg), or the driver did not take the values.
    return error.connection_invalidated or (
        type(origin).__module__.startswith("psycopg") and type(origin).__name__ in _FAILED_CONNECTIONS
    )


def keeps_session(error: BaseException) -> bool:
    """Return whether a PostgreSQL server has refused something and the connection to it goes on being of use."""
    sqlstate = getattr(_first_cause(error).orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    return isinstance(sqlstate, str) and not sqlstate.startswith(_OVER_WITH_SESSION)


def lacks_right(error: BaseException) -> bool:
    """Return whether a PostgreSQL role may not do something, or has no schema to make tables in."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) in {"42501", "3F000"}


def lacks_tables(error: BaseException) -> bool:
    """Return whether a table or a column is missing in PostgreSQL: the database is another, such as an older backup.

    Nothing helps but to prepare the database once more.
    """
    sqlstate = getattr(_first_cause(error).orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    return sqlstate in {"42P01", "42703"}


def describe_failure(error: BaseException) -> str:
    """Tell what has failed and what to do, without the statement and its values, which are patient data."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        told = describe_os_error(error)
        is_closed = isinstance(error, PermissionError)
        return f"{told}; give the user that runs Pylantir the right to write it" if is_closed else told
    if isinstance(error, PylantirError | OSError):
        return str(error)
    origin = getattr(error, "orig", None)
    if origin is None:
        return type(error).__name__
    if is_lock_timeout(error):
        context = str(getattr(getattr(origin, "diag", None), "context", None) or "")
        return "another host's writer is at work" if WRITERS_LOCK in context else describe_error(error)
    code = getattr(origin, "sqlite_errorcode", None)
    state = getattr(origin, "sqlstate", None)
    advice = _ADVICE_FOR_SQLITE.get(code & _PRIMARY_CODE) if isinstance(code, int) else _ADVICE_BY_STATE.get(str(state))
    return f"{type(origin).__name__}: {describe_error(error)}" + (f"; {advice}" if advice else "")


def describe_error(error: BaseException) -> str:
    """Return the driver's message without parameters and stored text, which are patient data."""
    if is_lock_timeout(error):
        return _TABLE_LOCKED
    said = str(getattr(error, "orig", None) or type(error).__name__)
    # PostgreSQL quotes the values that it did not take in the lines after the first, SQLite what it cannot decode.
    return said.partition("\n")[0].partition(" with text ")[0]


@contextmanager
def telling_the_first_cause() -> Iterator[None]:
    """Raise the first error instead of its consequences."""
    try:
        yield
    except DBAPIError as error:
        raise _first_cause(error) from None


def _first_cause(error: DBAPIError) -> DBAPIError:
    first, earlier = error, error.__context__
    while earlier is not None:
        first, earlier = earlier if isinstance(earlier, DBAPIError) else first, earlier.__context__
    return first
