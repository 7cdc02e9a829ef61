"""What each host's configuration says about sources, as rows: the order of priority is the database's, not one host's.

Lives in the writer. A host writes its own rows when it starts; they count until it writes others, or until
`pylantir forget-host` deletes them. Everybody who decides about items compares the version of these rows in the same
transaction (`pylantir.store.schema.facts`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select

from pylantir.errors import CommandRefused
from pylantir.store.hosts.decision import HostSource
from pylantir.store.schema.facts import VERSION_FACT
from pylantir.store.schema.tables import cluster_hosts, cluster_sources, source_leases, store_facts

_SOURCES = cluster_sources.c


def register_sources(connection: Connection, host: str, sources: Sequence[HostSource]) -> None:
    """Write down what a host's configuration says; nothing happens if it says the same as before."""
    own = _SOURCES.host == host
    known = [_as_row(name, one) for name, one in read_sources(connection) if name == host]
    said = [_as_row(host, one) for one in sorted(sources, key=lambda one: one.name)]
    if known == said:
        return
    connection.execute(delete(cluster_sources).where(own))
    if said:
        connection.execute(insert(cluster_sources), said)
    _renew_version(connection)


def keep_only(connection: Connection, host: str) -> None:
    """Forget every other host: a SQLite file serves one machine, and may have been moved to it from another."""
    if connection.execute(delete(cluster_sources).where(_SOURCES.host != host)).rowcount:
        _renew_version(connection)
    connection.execute(delete(cluster_hosts).where(cluster_hosts.c.host != host))


def keep_known(connection: Connection) -> None:
    """Forget hosts that never entered this database: their rows were copied from a SQLite file."""
    known = select(cluster_hosts.c.host)
    if connection.execute(delete(cluster_sources).where(_SOURCES.host.not_in(known))).rowcount:
        _renew_version(connection)


def read_version(connection: Connection) -> str | None:
    """Return the version of what the hosts say."""
    version: str | None = connection.scalar(select(store_facts.c.value).where(store_facts.c.name == VERSION_FACT))
    return version


def read_sources(connection: Connection) -> list[tuple[str, HostSource]]:
    """Return (host, what it says of a source), for every host."""
    rows = connection.execute(select(cluster_sources))
    return sorted(((row.host, _as_source(row)) for row in rows), key=lambda said: (said[0], said[1].name))


def forget_host(connection: Connection, host: str) -> list[str]:
    """Delete what a host has said; return the sources that no host enables any more.

    Raises:
        CommandRefused: No such host.
    """
    before = {one.name for _, one in read_sources(connection) if one.enabled}
    if not connection.execute(delete(cluster_hosts).where(cluster_hosts.c.host == host)).rowcount:
        known = ", ".join(sorted(connection.scalars(select(cluster_hosts.c.host))))
        raise CommandRefused(f'no host is called "{host}"; there are: {known or "none"}')
    connection.execute(delete(cluster_sources).where(_SOURCES.host == host))
    connection.execute(delete(source_leases).where(source_leases.c.host == host))
    _renew_version(connection)
    return sorted(before - {one.name for _, one in read_sources(connection) if one.enabled})


def _as_source(row: object) -> HostSource:
    return HostSource(
        name=row.data_source, priority=row.priority, enabled=bool(row.enabled), digest=row.digest  # type: ignore[attr-defined]
    )  # fmt: skip


def _as_row(host: str, one: HostSource) -> dict[str, object]:
    return {
        "host": host, "data_source": one.name, "priority": one.priority, "enabled": int(one.enabled),
        "digest": one.digest,
    }  # fmt: skip


def _renew_version(connection: Connection) -> None:
    connection.execute(delete(store_facts).where(store_facts.c.name == VERSION_FACT))
    connection.execute(insert(store_facts), {"name": VERSION_FACT, "value": os.urandom(8).hex()})
