"""Connects to a PostgreSQL server within bounded time, and waits for its answers no longer than agreed.

A server may be stopped, or the network may swallow what is sent: then neither the server's own time limits nor TCP end
the waiting. Imported only where the database is PostgreSQL, because it needs psycopg.
"""

from __future__ import annotations

import select
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DisconnectionError

CONNECT_S = 8
"""How long all attempts to connect may take together; libpq waits at least 2 seconds for each host."""
_DEFAULTS: Mapping[str, Any] = {
    # Nothing stays prepared in a session, because a pooler gives each transaction another one.
    "prepare_threshold": None,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
T = TypeVar("T")


class TimedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server does not answer in time.

    Attributes:
        answer_s: How long one answer may take.
    """

    answer_s: float = 15.0

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """Wait for the server as psycopg does, but not for ever."""
        return super().wait(self._bounded(gen), *arguments, **options)

    def _bounded(self, steps: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        """Pass on what psycopg waits for, until the time is over. At least ten times a second it says "not ready"."""
        give_up_at = time.monotonic() + self.answer_s
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() >= give_up_at:
                    self.pgconn.finish()
                    msg = f"the database server has not answered for {self.answer_s:g} seconds"
                    raise psycopg.OperationalError(msg)
                wanted = steps.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # mypy does not know a generator's result


def read_arguments(db_url: str, application: str) -> dict[str, Any]:
    """Return what psycopg is to connect with; what the URL says counts, except for the name of the application.

    Args:
        db_url: The database; it may name several hosts.
        application: How the server's administrator sees this process; the host comes first.
    """
    dialect: Any = PGDialect_psycopg
    _, arguments = dialect().create_connect_args(make_url(db_url))
    # The server cuts a longer name.
    return {**_DEFAULTS, **arguments, "application_name": application[:63]}


def each_host(arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the arguments for each single host of several."""
    hosts = str(arguments.get("host", "")).split(",")
    ports = str(arguments.get("port", "")).split(",")
    if len(ports) != len(hosts):
        ports = ports * len(hosts)
    attempts = []
    for host, port in zip(hosts, ports, strict=False):
        one = {**arguments, "host": host, "port": port}
        attempts.append({name: value for name, value in one.items() if value != ""})
    return attempts


def connect(attempts: Sequence[Mapping[str, Any]], answer_s: float) -> TimedConnection:
    """Connect to the first of several servers that takes writes, or to the first that answers if none does.

    Args:
        attempts: Arguments of the servers, in order.
        answer_s: How long each answer may take afterwards.

    Raises:
        psycopg.Error: None can be reached in time.
    """
    end_at = time.monotonic() + CONNECT_S
    timeout_s = max(2, min(3, CONNECT_S // len(attempts)))
    standby: TimedConnection | None = None
    failure: psycopg.Error | None = None
    for arguments in attempts:
        if failure and time.monotonic() >= end_at:
            break
        try:
            connection = TimedConnection.connect(**{"connect_timeout": timeout_s, **arguments})
        except psycopg.Error as error:
            failure = error
            continue
        connection.answer_s = answer_s
        if connection.info.parameter_status("in_hot_standby") != "on":
            if standby:
                standby.close()
            return connection
        if standby:
            connection.close()
        else:
            standby = connection
    if standby is None:
        raise failure or psycopg.OperationalError("no host to connect to")
    return standby


def connect_to_replica(attempts: Sequence[Mapping[str, Any]], answer_s: float) -> TimedConnection | None:
    """Connect to the address that is good for reading; None if there is none, or it cannot be reached."""
    try:
        return connect(attempts, answer_s) if attempts else None
    except psycopg.Error:
        return None


def refuse_broken(connection: TimedConnection, _record: object, _proxy: object) -> None:
    """Let the pool replace a connection that the server has closed; without asking the server, which takes a while.

    Raises:
        DisconnectionError: There is something to read though nothing was asked: the end, or the server's last words.
    """
    if connection.closed:
        raise DisconnectionError("the connection is closed")
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    if waiting.poll(0):
        raise DisconnectionError("the server has closed the connection")
