"""Decides which host may fetch a source, and the order of priority over all hosts. Pure: the ages are passed in.

Glossary: lease, rank (docs/explanation/glossary.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host as the database knows it.

    Attributes:
        name: Its `cluster.host`.
        instance: The run of the program there that gave the last sign of life.
        age_s: How old that sign is, by the database's clock; None: the host has ended in order.
        lease_s: How long that sign lasts.
        session_ended: The session in which its writer worked is known to have ended.
        mark: A new random text with each sign of life.
        alive_at: When it gave that sign, in seconds by the database's clock.
        matching: A digest of the rules by which it recognises records of one exam; None: it does not say.
    """

    name: str
    instance: str
    age_s: float | None
    lease_s: float
    session_ended: bool = False
    mark: str = ""
    alive_at: float | None = None
    matching: str | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the host still counts as running."""
        return self.age_s is not None and not self.session_ended and self.age_s <= self.lease_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who fetches a source.

    Attributes:
        source: The source's name.
        host: The host that has it.
        instance: The run of the program there.
        epoch: Grows each time that somebody takes the lease.
    """

    source: str
    host: str
    instance: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSource:
    """What one host's configuration says about a source.

    Attributes:
        name: The source's name.
        priority: The lower number wins.
        enabled: Whether the host would fetch it.
        digest: Two hosts whose digests differ would read or understand the source differently. Another digest alone
            makes no other writer necessary.
    """

    name: str
    priority: float
    enabled: bool
    digest: str = field(compare=False)


class SignsOfLife:
    """When each host's last sign of life was first seen here.

    The database's clock may be set back, or be another server's that is behind: by that clock the sign of a host that
    is dead would lie in the future, and never grow old. From when it was first seen, no sign seems older than it is.
    """

    def __init__(self) -> None:
        self._first_seen: dict[str, tuple[object, float]] = {}

    def aged(self, hosts: Mapping[str, Host], now: float) -> dict[str, Host]:
        """Return the hosts, whose signs are at least as old as they have been known here.

        Args:
            hosts: As the database has them.
            now: Seconds by a clock that nobody sets.
        """
        seen: dict[str, tuple[object, float]] = {}
        for name, host in hosts.items():
            sign = (host.instance, host.mark, host.alive_at)
            known, since = self._first_seen.get(name, (None, now))
            seen[name] = sign, since if known == sign else now
        self._first_seen = seen
        return {
            name: host if host.age_s is None else replace(host, age_s=max(host.age_s, now - seen[name][1]))
            for name, host in hosts.items()
        }


def find_free(wanted: Iterable[str], leases: Mapping[str, Lease], hosts: Mapping[str, Host]) -> list[str]:
    """Return the sources that nobody fetches: without a lease, or with one of a run that is over.

    Args:
        wanted: The sources to look at.
        leases: Source -> its lease.
        hosts: Name -> host.
    """
    return [source for source in wanted if not _is_held(leases.get(source), hosts)]


def _is_held(lease: Lease | None, hosts: Mapping[str, Host]) -> bool:
    host = hosts.get(lease.host) if lease else None
    return bool(lease and host and host.instance == lease.instance and host.is_alive)


def find_abandoned(said: Iterable[tuple[str, HostSource]], hosts: Mapping[str, Host]) -> dict[str, list[str]]:
    """Return the sources that nobody can fetch, because no host that enables them runs: source -> these hosts.

    Args:
        said: (host, what it says of a source), for every host.
        hosts: Name -> host.
    """
    enabling: dict[str, list[str]] = {}
    for host, one in said:
        if one.enabled:
            enabling.setdefault(one.name, []).append(host)
    running = {name for name, host in hosts.items() if host.is_alive}
    return {source: names for source, names in sorted(enabling.items()) if running.isdisjoint(names)}


def find_other_rules(hosts: Mapping[str, Host], own: str, matching: str) -> list[str]:
    """Return the running hosts that recognise records of one exam by other rules than this one.

    Args:
        hosts: Name -> host.
        own: This host's name.
        matching: The digest of this host's rules.
    """
    others = [host for name, host in hosts.items() if name != own and host.is_alive]
    return sorted(host.name for host in others if host.matching not in (None, matching))


def rank_sources(said: Iterable[HostSource]) -> dict[str, int]:
    """Return enabled source -> its place in the order of priority over all hosts, 0 first.

    Of several hosts that enable a source, the one with the lowest number counts; equal numbers follow the names.
    """
    best: dict[str, float] = {}
    for one in said:
        if one.enabled:
            best[one.name] = min(one.priority, best.get(one.name, one.priority))
    return {name: rank for rank, name in enumerate(sorted(best, key=lambda name: (best[name], name)))}


def find_differing(
    own: Iterable[HostSource], others: Mapping[tuple[str, str], str], leases: Mapping[str, Lease], host: str
) -> dict[str, str]:
    """Return the sources that this host configures otherwise than the host that fetches them: source -> that host.

    Args:
        own: What this host's configuration says.
        others: (host, source) -> digest, of every host.
        leases: Source -> its lease.
        host: This host.
    """
    differing = {}
    for one in own:
        lease = leases.get(one.name)
        if one.enabled and lease and lease.host != host:
            digest = others.get((lease.host, one.name))
            if digest not in (None, one.digest):
                differing[one.name] = lease.host
    return differing
