"""Prepares a session of each kind of database: read-only, with a time limit, in the right time zone.

Lives in the worker of an SQL source. In: an open connection; out: the same, prepared. Knows no query and no mapping.
"""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from pylantir.errors import SourceUnavailable

_READ_ONLY = {
    "postgresql": "SET TRANSACTION READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}


def prepare_session(connection: sa.Connection, *, statement_timeout_s: float, time_zone: str) -> None:
    """Make the session read-only, limit its time, set its zone; values that Python cannot represent come as text."""
    backend = "mariadb" if getattr(connection.dialect, "is_mariadb", False) else connection.dialect.name
    timeout_ms = int(statement_timeout_s * 1000)
    statements = [_READ_ONLY[backend]] if backend in _READ_ONLY else []
    if backend == "postgresql":
        statements.append(f"SET LOCAL statement_timeout = {timeout_ms}")
        if time_zone:
            statements.append(f"SET LOCAL TIME ZONE '{time_zone}'")
        _keep_strange_moments(connection.connection.driver_connection)
    elif backend == "mysql":
        statements.append(f"SET SESSION max_execution_time = {timeout_ms}")
    elif backend == "mariadb":
        statements.append(f"SET SESSION max_statement_time = {statement_timeout_s:g}")
    for statement in statements:
        connection.exec_driver_sql(statement)
    if backend in {"mysql", "mariadb"} and time_zone:
        _set_mysql_zone(connection, time_zone)


def _keep_strange_moments(driver: Any) -> None:
    """Let psycopg give `infinity`, years before Christ and 24:00 as text: one such value must not end the query."""
    try:
        from psycopg import DataError as PsycopgDataError
        from psycopg.types import datetime as types
    except ImportError:  # another driver for PostgreSQL
        return
    loaders = {
        "date": types.DateLoader,
        "time": types.TimeLoader,
        "timetz": types.TimetzLoader,
        "timestamp": types.TimestampLoader,
        "timestamptz": types.TimestamptzLoader,
    }

    def lenient(loader: type[Any]) -> type[Any]:
        class Lenient(loader):  # type: ignore[misc]
            def load(self, data: Any) -> Any:
                try:
                    return super().load(data)
                except PsycopgDataError:
                    return bytes(data).decode("ascii", "replace")

        return Lenient

    if hasattr(driver, "adapters"):
        for name, loader in loaders.items():
            driver.adapters.register_loader(name, lenient(loader))


def _set_mysql_zone(connection: sa.Connection, name: str) -> None:
    """Set the session's zone; a server without time zone tables accepts only its own zone."""
    try:
        connection.exec_driver_sql(f"SET time_zone = '{name}'")
    except DBAPIError:
        from zoneinfo import ZoneInfo

        year = datetime.datetime.now(datetime.UTC).year
        for month in (1, 7):
            moment = datetime.datetime(year, month, 15, 12, tzinfo=datetime.UTC)
            shown = connection.exec_driver_sql(f"SELECT FROM_UNIXTIME({int(moment.timestamp())})").scalar()
            if shown != moment.astimezone(ZoneInfo(name)).replace(tzinfo=None):
                msg = (
                    f"the database server does not know the time zone {name} and has another one itself; load its"
                    " tables of zones (mysql_tzinfo_to_sql)"
                )
                raise SourceUnavailable(msg) from None


def session_clock(connection: sa.Connection) -> tuple[datetime.timedelta | None, datetime.datetime | None]:
    """Say how far ahead of UTC the session's clock is now, and the server's time; None where it cannot be asked."""
    mysql = "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), NOW()), UNIX_TIMESTAMP()"
    question = {
        "postgresql": "SELECT extract(timezone FROM now()), extract(epoch FROM clock_timestamp())",
        "mysql": mysql,
        "mariadb": mysql,
    }.get(connection.dialect.name)
    if question is None:
        return None, None
    ahead, now = connection.exec_driver_sql(question).one()
    return datetime.timedelta(seconds=int(ahead)), datetime.datetime.fromtimestamp(int(now), datetime.UTC)
