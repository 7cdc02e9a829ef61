"""Connects to a PostgreSQL server within bounded time, and waits for its answers no longer than agreed.

A server may be stopped, or the network may swallow what is sent: then neither the server's own time limits nor TCP end
the waiting. Imported only where the database is PostgreSQL, because it needs psycopg.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg.waiting import Ready
from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DisconnectionError

CONNECT_S = 8
"""How long all attempts to connect may take together; libpq waits at least 2 seconds for each address."""
_LEAST_S, _USUAL_S = 2, 3
_REPLICA_S = 4
"""The same for the address that is only good for reading: afterwards `db_url` is tried."""
_DEFAULTS: Mapping[str, Any] = {
    # Nothing stays prepared in a session, because a pooler gives each transaction another one.
    "prepare_threshold": None,
    # Whatever the role's own default: no other encoding holds every name.
    "client_encoding": "utf8",
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
T = TypeVar("T")
logger = logging.getLogger(__name__)


_GIVES_ROWS = ("SELECT", "WITH", "SHOW")


class TimedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server does not answer in time.

    Within a pipelined transaction (`begin_pipeline`) a statement that gives no rows is only collected. It is sent, and
    fails if it fails, with the next query or before the COMMIT: however many statements that are, it is one round trip.

    Attributes:
        answer_s: How long one answer may take.
    """

    answer_s: float = 15.0
    _line: psycopg.Pipeline | None = None
    _line_end: ExitStack | None = None

    @property
    def is_pipelined(self) -> bool:
        """Whether statements are collected."""
        return self._line is not None

    def begin_pipeline(self) -> None:
        """Collect statements until the transaction ends."""
        self._line_end = ExitStack()
        self._line = self._line_end.enter_context(self.pipeline())

    def hear(self) -> None:
        """Send what is collected, and wait for all answers."""
        if self._line is not None:
            self._line.sync()

    def ask(self, query: str, parameters: Any = ()) -> psycopg.Cursor[Any]:
        """Send a query together with the next one; its cursor has the rows after that."""
        return CollectingCursor(self).collect(query, parameters)

    def commit(self) -> None:
        """Commit, together with everything that is collected."""
        if self._line is None:
            super().commit()
            return
        # At the end of a pipeline psycopg may send a Flush, too. It must not come after the transaction: a pooler would
        # give it a connection, and wait for an answer that a Flush does not have.
        self._end_pipeline()
        committed = self.execute("COMMIT")
        if committed.statusmessage != "COMMIT":
            msg = f"the database server answered COMMIT with {committed.statusmessage}"
            raise psycopg.OperationalError(msg)

    def rollback(self) -> None:
        """Roll back; whatever is collected fails or is undone."""
        with suppress(psycopg.Error):
            self._end_pipeline()
        super().rollback()

    def _end_pipeline(self) -> None:
        end, self._line, self._line_end = self._line_end, None, None
        if end is not None:
            end.close()

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
                now = time.monotonic()
                if ready and ready & Ready.R and self.is_pipelined:
                    # Many answers come one after the other.
                    give_up_at = now + self.answer_s
                elif not ready and now >= give_up_at:
                    self.pgconn.finish()
                    msg = f"the database server has not answered for {self.answer_s:g} seconds"
                    raise psycopg.OperationalError(msg)
                wanted = steps.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # mypy does not know a generator's result


class CollectingCursor(psycopg.Cursor[Any]):
    """A cursor that waits in a pipelined transaction for rows only."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> CollectingCursor:
        """Execute a statement; wait for its answer if it gives rows."""
        connection = self.connection
        if not (isinstance(connection, TimedConnection) and connection.is_pipelined):
            super().execute(query, params, **options)
            return self
        self.collect(query, params)
        if str(query).lstrip().upper().startswith(_GIVES_ROWS) or " RETURNING " in str(query):
            connection.hear()
        return self

    def executemany(self, query: Any, params_seq: Iterable[Any], **options: Any) -> None:
        """Execute a statement for each of several rows of parameters."""
        with self._resuming():
            super().executemany(query, params_seq, **options)

    def collect(self, query: Any, parameters: Any) -> CollectingCursor:
        """Execute a statement of a pipelined transaction without waiting for its answer."""
        with self._resuming():
            super().execute(query, parameters)
        return self

    @contextmanager
    def _resuming(self) -> Iterator[None]:
        """After an error, which may be an earlier statement's, let the server take statements again."""
        try:
            yield
        except psycopg.Error:
            connection = self.connection
            if isinstance(connection, TimedConnection):
                with suppress(psycopg.Error):
                    connection.hear()
            raise


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
    named = [name for name in ("host", "hostaddr", "port") if arguments.get(name) is not None]
    places = {name: str(arguments[name]).split(",") for name in named}
    count = max(map(len, places.values()), default=1)
    if not {len(values) for values in places.values()} <= {1, count}:
        # psycopg says what is wrong.
        return [dict(arguments)]
    attempts = []
    for number in range(count):
        one = {**arguments, **{name: values[number % len(values)] for name, values in places.items()}}
        attempts.append({name: value for name, value in one.items() if value != ""})
    return attempts


def each_address(arguments: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the arguments for each address of one host: a name may have several, of which some say nothing.

    Raises:
        psycopg.OperationalError: Nobody knows the name.
    """
    host = str(arguments.get("host", ""))
    if not host or host.startswith("/") or "hostaddr" in arguments:
        return [arguments]
    try:
        found = socket.getaddrinfo(host, arguments.get("port", 5432), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        msg = f'failed to resolve host "{host}": {getattr(error, "strerror", None) or error}'
        raise psycopg.OperationalError(msg) from None
    return [{**arguments, "hostaddr": address} for address in dict.fromkeys(str(one[4][0]) for one in found)]


def timeout_s(given: object, attempts: int, within_s: float) -> int:
    """Return how long one of several attempts to connect may take, in whole seconds.

    Args:
        given: `connect_timeout` of the URL, if it has one; 0 or less is no limit.
        attempts: How many there are: none may leave the others without time.
        within_s: How long they may take together.
    """
    wanted = int(str(given or 0))
    return max(_LEAST_S, min(wanted if wanted > 0 else _USUAL_S, int(within_s // attempts)))


def connect(attempts: Sequence[Mapping[str, Any]], answer_s: float, within_s: float = CONNECT_S) -> TimedConnection:
    """Connect to the first of several servers that takes writes, or to the first that answers if none does.

    Args:
        attempts: Arguments of the servers, in order.
        answer_s: How long each answer may take afterwards.
        within_s: How long all attempts may take together.

    Raises:
        psycopg.Error: None can be reached in time.
    """
    end_at = time.monotonic() + within_s
    standby: TimedConnection | None = None
    failure: psycopg.Error | None = None
    addresses: list[Mapping[str, Any]] = []
    for one in attempts:
        try:
            addresses += each_address(one)
        except psycopg.Error as error:
            failure = error
    for number, arguments in enumerate(addresses):
        if number and time.monotonic() + _LEAST_S > end_at:
            break
        limit_s = timeout_s(arguments.get("connect_timeout"), len(addresses), within_s)
        try:
            connection = TimedConnection.connect(**{**arguments, "connect_timeout": limit_s})
        except psycopg.errors.ConnectionTimeout as error:
            failure = type(error)(f"{error}: {_place(arguments)} has not answered within {limit_s} seconds")
            continue
        except psycopg.Error as error:
            failure = error
            continue
        connection.cursor_factory = CollectingCursor
        # `begin` of the engine says more than psycopg's own BEGIN.
        connection.autocommit = True
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


def _place(arguments: Mapping[str, Any]) -> str:
    name, address = (arguments.get(key) for key in ("host", "hostaddr"))
    place = f"{name} ({address})" if name and address not in (None, name) else name or address
    return f"the database server {place or 'of this machine'}, port {arguments.get('port', 5432)},"


class Replica:
    """The address that is only good for reading, such as a standby's.

    Args:
        arguments: What psycopg is to connect with.
        answer_s: How long each answer may take.
        host: This host's name: a database that has never seen this host is another one, and its patients are others.
            None: this is not checked.
    """

    def __init__(self, arguments: Mapping[str, Any], answer_s: float, host: str | None) -> None:
        self._attempts, self._answer_s, self._host = each_host(arguments), answer_s, host
        self._told: str | None = None

    def connect(self) -> TimedConnection | None:
        """Connect; return None, and log why, if that cannot be done or leads to another database."""
        connection: TimedConnection | None = None
        try:
            # What hangs here leaves time for `db_url`.
            connection = connect(self._attempts, _LEAST_S, _REPLICA_S)
            fault = None if self._knows_host(connection) else f'it does not know the host "{self._host}"'
        except psycopg.Error as error:
            fault = str(error).partition("\n")[0]
        if fault != self._told:
            self._told = fault
            if fault:
                logger.warning("db_read_url is not used, the worklist is read from db_url: %s", fault)
            else:
                logger.info("db_read_url is used again")
        if connection is None or fault:
            if connection:
                connection.close()
            return None
        connection.answer_s = self._answer_s
        return connection

    def _knows_host(self, connection: TimedConnection) -> bool:
        statement = "SELECT 1 FROM cluster_hosts WHERE host = %s"
        return self._host is None or connection.execute(statement, [self._host]).fetchone() is not None


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
