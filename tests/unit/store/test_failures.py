"""Which failures of a database pass by themselves, by what the databases say."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from pylantir.errors import StoreError
from pylantir.store.failures import (
    describe_error,
    describe_failure,
    is_passing,
    keeps_session,
    lacks_tables,
    telling_the_first_cause,
)


def wrapped(origin: BaseException, kind: type[DBAPIError] = OperationalError) -> DBAPIError:
    return kind("statement", {}, origin)


def raised_by(connection: sqlite3.Connection, *statements: str, **parameters: Any) -> sqlite3.Error:
    try:
        for statement in statements:
            connection.execute(statement, parameters or ())
    except sqlite3.Error as error:
        return error
    pytest.fail("the database took everything")


@pytest.fixture
def database(tmp_path: Path) -> Any:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None, timeout=0)) as connection:
        connection.execute("create table t (a text not null unique)")
        yield connection


def test_a_locked_database_passes(database: sqlite3.Connection, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        assert is_passing(wrapped(raised_by(database, "begin immediate")))


def test_a_full_disk_passes_also_where_the_savepoint_is_gone_afterwards(database: sqlite3.Connection) -> None:
    database.execute("pragma max_page_count=3")
    full = wrapped(raised_by(database, *["insert into t select hex(randomblob(9000))"] * 9))
    assert is_passing(full)
    after = wrapped(raised_by(database, "rollback to savepoint one"))
    assert not is_passing(after)
    after.__context__ = full
    assert is_passing(after)
    with pytest.raises(OperationalError, match="full"), telling_the_first_cause():
        raise after


def test_a_failure_is_told_with_what_to_do(database: sqlite3.Connection, tmp_path: Path) -> None:
    database.execute("pragma max_page_count=3")
    full = raised_by(database, *["insert into t select hex(randomblob(9000))"] * 9)
    assert describe_failure(wrapped(full)) == "OperationalError: database or disk is full; make room on the disk"
    (tmp_path / "b.db").write_text("no database at all, and long enough for SQLite to see that\n" * 9)
    with closing(sqlite3.connect(tmp_path / "b.db")) as other:
        told = describe_failure(wrapped(raised_by(other, "select * from t")))
    assert told.startswith("DatabaseError: file is not a database; put a backup in its place, or set another db_path")
    with pytest.raises(IsADirectoryError) as raised:
        tmp_path.open("rb")
    assert describe_failure(raised.value) == f"{tmp_path}: Is a directory"


def test_what_a_server_refuses_is_told_with_what_to_do() -> None:
    failure = OperationalError("statement", {}, psycopg.errors.ReadOnlySqlTransaction("it is read-only"))
    assert describe_failure(failure).startswith("ReadOnlySqlTransaction: it is read-only; db_url leads to a standby")


def test_a_locked_table_is_told_as_such_to_readers_and_writers() -> None:
    failure = wrapped(psycopg.errors.LockNotAvailable("canceling statement due to lock timeout"))
    assert describe_error(failure).startswith("another program has locked a table")
    assert describe_failure(failure) == describe_error(failure)


def test_a_folder_that_cannot_be_used_passes(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError) as raised:
        sqlite3.connect(tmp_path / "absent" / "a.db").execute("select 1")
    assert is_passing(wrapped(raised.value))


def test_what_is_no_database_passes_once_another_is_put_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_bytes(b"nonsense" * 1000)
    with closing(sqlite3.connect(tmp_path / "no.db")) as connection:
        assert is_passing(wrapped(raised_by(connection, "select * from sqlite_master")))


@pytest.mark.parametrize(
    "statement", ["insert into t values (null)", "select * from absent", "insert into t values (:a, :b)", "nonsense"]
)
def test_what_a_statement_or_its_values_are_to_blame_for_does_not_pass(
    database: sqlite3.Connection, statement: str
) -> None:
    assert not is_passing(wrapped(raised_by(database, statement)))


def test_too_many_parameters_do_not_pass(database: sqlite3.Connection) -> None:
    database.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 10)
    marks = ", ".join("?" * 11)
    with pytest.raises(sqlite3.OperationalError) as raised:
        database.execute(f"select {marks}", tuple(range(11)))
    assert not is_passing(wrapped(raised.value))


@pytest.mark.parametrize(
    "name",
    [
        "DiskFull", "DeadlockDetected", "SerializationFailure", "LockNotAvailable", "AdminShutdown", "QueryCanceled",
        "CannotConnectNow", "TooManyConnections", "ReadOnlySqlTransaction", "InsufficientPrivilege", "IoError",
        "IdleInTransactionSessionTimeout", "InvalidCatalogName", "DataCorrupted",
        "UndefinedTable", "UndefinedColumn",
    ],
)  # fmt: skip
def test_what_passes_in_postgresql(name: str) -> None:
    assert is_passing(wrapped(getattr(psycopg.errors, name)("told")))


@pytest.mark.parametrize(
    "name",
    [
        "UniqueViolation", "NotNullViolation", "StringDataRightTruncation", "InvalidTextRepresentation", "ProgramLimitExceeded", "InFailedSqlTransaction", "DuplicateColumn",
    ],
)  # fmt: skip
def test_what_does_not_pass_in_postgresql(name: str) -> None:
    assert not is_passing(wrapped(getattr(psycopg.errors, name)("told")))


def test_a_connection_that_fails_without_a_code_passes() -> None:
    assert is_passing(wrapped(psycopg.OperationalError("connection refused")))
    assert is_passing(wrapped(psycopg.errors.ConnectionTimeout("connection timeout expired")))
    assert not is_passing(wrapped(psycopg.errors.PipelineAborted("after another error")))
    assert not is_passing(wrapped(psycopg.ProgrammingError("the number of parameters is wrong")))


def test_a_database_without_our_tables_has_to_be_prepared_again() -> None:
    assert lacks_tables(wrapped(psycopg.errors.UndefinedColumn("no such column")))
    assert not lacks_tables(wrapped(psycopg.errors.InvalidSchemaName("no such schema")))
    assert not lacks_tables(StoreError("no such table"))


@pytest.mark.parametrize("name", ["DiskFull", "InsufficientPrivilege", "QueryCanceled", "LockNotAvailable"])
def test_a_server_that_only_refuses_keeps_the_session(name: str) -> None:
    assert keeps_session(wrapped(getattr(psycopg.errors, name)("told")))


@pytest.mark.parametrize("name", ["AdminShutdown", "ReadOnlySqlTransaction", "IdleInTransactionSessionTimeout"])
def test_after_other_failures_the_server_is_looked_for_anew(name: str) -> None:
    assert not keeps_session(wrapped(getattr(psycopg.errors, name)("told")))
    assert not keeps_session(wrapped(psycopg.OperationalError("server closed the connection")))
    assert not keeps_session(wrapped(sqlite3.OperationalError("database is locked")))
    assert not keeps_session(OSError(errno.ENOSPC, "no space"))


def test_the_systems_failures_pass_and_our_own_mistakes_do_not() -> None:
    assert is_passing(OSError(errno.ENOSPC, "no space"))
    assert is_passing(StoreError("no copy"))
    for error in (ValueError("nonsense"), KeyError("P1"), OverflowError("too large"), RecursionError()):
        assert not is_passing(error)


def test_a_failure_is_told_without_values() -> None:
    error = psycopg.errors.UniqueViolation("duplicate key value\nDETAIL:  Key (patient_id)=(P1) already exists.")
    assert describe_failure(wrapped(error, IntegrityError)) == "UniqueViolation: duplicate key value"
    undecodable = sqlite3.OperationalError("Could not decode to UTF-8 column 'patient_name' with text 'P1'")
    assert describe_failure(wrapped(undecodable)).endswith("column 'patient_name'")
    assert describe_failure(ValueError("P1")) == "ValueError"
    assert describe_failure(StoreError("full")) == "full"
