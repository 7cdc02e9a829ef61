"""The leases in a PostgreSQL database: hosts give signs of life, take sources that nobody fetches, and check their own.

Lives in the writer. Every change happens in a transaction that holds the writers' lock, so nobody takes a lease while
its holder commits. Ages are by the server's clock. A host whose session has ended is noticed at once, if it was
connected to the server itself: a pooler gives a transaction any session, and then time alone decides.
Glossary: lease (docs/explanation/glossary.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, text

from pylantir.errors import LeaseLost
from pylantir.store.hosts.decision import Host, Lease
from pylantir.store.schema.bulk import ask_statement
from pylantir.store.schema.tables import cluster_hosts, source_leases

_HOSTS = cluster_hosts.c
_LEASES = source_leases.c
_NOW = "EXTRACT(EPOCH FROM clock_timestamp())::double precision"
_SERVER = "EXTRACT(EPOCH FROM pg_postmaster_start_time())::text"
_READ_HOSTS = text(
    f"SELECT host, instance, mark, lease_s, matching, alive_at, {_NOW} - alive_at AS age_s, "  # noqa: S608 - constants
    f"COALESCE(session IS NOT NULL AND server = {_SERVER} AND NOT EXISTS "
    "(SELECT 1 FROM pg_stat_activity AS a WHERE a.pid = cluster_hosts.session), FALSE) AS session_ended "
    "FROM cluster_hosts"
)
_GIVE_SIGN = text(
    f"UPDATE cluster_hosts SET alive_at = {_NOW}, mark = :mark, "  # noqa: S608 - constants
    f"session = CASE WHEN pg_backend_pid() = :session THEN :session END, server = {_SERVER} "
    "WHERE host = :host AND instance = :instance RETURNING alive_at"
)
_STAY = text(f"UPDATE cluster_hosts SET alive_at = {_NOW} WHERE host = :host AND instance = :instance")  # noqa: S608


_READ_LEASE = select(_LEASES.host, _LEASES.instance, _LEASES.epoch).where(_LEASES.data_source == bindparam("source"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """This host's right to fetch one source, since it took the lease."""

    source: str
    host: str
    instance: str
    epoch: int

    @property
    def lease(self) -> Lease:
        """The lease as it is stored."""
        return Lease(source=self.source, host=self.host, instance=self.instance, epoch=self.epoch)

    def is_in(self, stored: Lease | None) -> bool:
        """Whether a stored lease, the present one of the source, is still this host's."""
        return stored == self.lease

    def ask(self, connection: Connection) -> Callable[[], None]:
        """Ask whether the lease is still this host's, first in a transaction; return what makes sure.

        Raises:
            LeaseLost: When the answer is read: another host has taken it.
        """
        own = (self.host, self.instance, self.epoch)
        rows = ask_statement(connection, _READ_LEASE, {"source": self.source})

        def check() -> None:
            if [tuple(row) for row in rows] != [own]:
                raise LeaseLost(f"source {self.source} is not this host's to fetch any more")

        return check

    def renew(self, connection: Connection) -> None:
        """Give a sign of life; call it last in a transaction, so that its length does not count."""
        connection.execute(_STAY, {"host": self.host, "instance": self.instance})


def read_hosts(connection: Connection) -> dict[str, Host]:
    """Return name -> host."""
    rows = connection.execute(_READ_HOSTS)
    return {
        row.host: Host(
            name=row.host, instance=row.instance, mark=row.mark, session_ended=row.session_ended,
            alive_at=row.alive_at, matching=row.matching,
            lease_s=row.lease_s, age_s=None if row.age_s is None else max(0.0, row.age_s),
        )
        for row in rows
    }  # fmt: skip


def read_leases(connection: Connection) -> dict[str, Lease]:
    """Return source -> its lease."""
    return {
        row.data_source: Lease(source=row.data_source, host=row.host, instance=row.instance, epoch=row.epoch)
        for row in connection.execute(select(source_leases))
    }


def enter_host(connection: Connection, host: str, instance: str, lease_s: float, matching: str | None = None) -> None:
    """Add this host, whose signs of life last for `lease_s` seconds, or take over from its earlier run."""
    values = {"host": host, "instance": instance, "lease_s": lease_s, "mark": "", "matching": matching}
    connection.execute(delete(cluster_hosts).where(_HOSTS.host == host))
    connection.execute(insert(cluster_hosts), values)


def give_sign(connection: Connection, host: str, instance: str, mark: str) -> float:
    """Give this host's sign of life, with the session that others can see end; return the server's time (epoch)."""
    driver: Any = connection.connection.driver_connection
    # A pooler tells its clients other numbers than those of the server's sessions.
    session = driver.info.backend_pid
    values = {"host": host, "instance": instance, "mark": mark, "session": session}
    return float(connection.execute(_GIVE_SIGN, values).scalar_one())


def take_leases(connection: Connection, sources: Iterable[str], host: str, instance: str) -> dict[str, Tenure]:
    """Take the leases of sources that nobody fetches; return source -> tenure."""
    known = read_leases(connection)
    taken = {}
    for source in sources:
        lease = known.get(source)
        tenure = Tenure(source=source, host=host, instance=instance, epoch=lease.epoch + 1 if lease else 1)
        values = {"host": host, "instance": instance, "epoch": tenure.epoch}
        if lease:
            connection.execute(_TAKE, {"source": source, **values})
        else:
            connection.execute(insert(source_leases), {"data_source": source, **values})
        taken[source] = tenure
    return taken


def give_back(connection: Connection, host: str, kept: Iterable[str]) -> None:
    """Give back what an earlier writer of this host fetched, and this host no longer has configured."""
    connection.execute(delete(source_leases).where(_LEASES.host == host, _LEASES.data_source.not_in([*kept])))


def leave(connection: Connection, host: str, instance: str) -> None:
    """Give back everything that this host fetches: it ends in order."""
    this = (_HOSTS.host == host) & (_HOSTS.instance == instance)
    connection.execute(cluster_hosts.update().where(this), {"alive_at": None})


_TAKE = source_leases.update().where(_LEASES.data_source == bindparam("source"))
