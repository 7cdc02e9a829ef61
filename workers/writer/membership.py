"""This host among those that share the database: what it has said, which sources it fetches, who else is there.

Lives in the writer. In: the clock, the database. Out: the rules for decisions, the tenure of each source, and what has
changed since the last look. With SQLite there is one host, which fetches everything. `pylantir.store.hosts.decision`
decides; this module does it, in the writer's loop.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine

from pylantir.errors import CommandRefused, StoreError
from pylantir.store.change.rules import Applied, follow_rules
from pylantir.store.decide.claims import Rules
from pylantir.store.hosts.clocks import ClockComparison
from pylantir.store.hosts.decision import (
    Host,
    HostSource,
    Lease,
    SignsOfLife,
    find_abandoned,
    find_differing,
    find_free,
    find_other_rules,
    rank_sources,
)
from pylantir.store.hosts.leases import (
    Tenure,
    enter_host,
    give_back,
    give_sign,
    leave,
    read_hosts,
    read_leases,
    take_leases,
)
from pylantir.store.hosts.registry import (
    forget_host,
    keep_known,
    keep_only,
    read_sources,
    read_version,
    register_sources,
)
from pylantir.store.schema.engine import reading, transaction
from pylantir.store.schema.writers_lock import look_at_holder
from workers.writer.settings import WriterSettings
from workers.writer.telling import tell_differing, tell_hosts, tell_leases, tell_other_rules

SIGNS_PER_LEASE = 3
"""A host gives so many signs of life in the time after which it counts as dead."""
WATCH_EVERY_S = 0.25
"""How often a host looks whether another one, whose sources it would fetch, is still there."""
STANDS_STILL_S = 1.0
"""A writer at work lets the server wait for less: a long calculation gives it something to do twice a second."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a look has found.

    Attributes:
        gained: Sources that this host fetches from now on, or again after another host did.
        lost: Sources that another host fetches from now on, instead of this one or of a third one.
        rules: The new rules; None if they are the old ones.
        history_lost: The database has lost commits of this host.
    """

    gained: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    rules: Rules | None = None
    history_lost: bool = False


class Membership:
    """This host's place in the cluster.

    Args:
        engine: The database, opened for writing.
        settings: The writer's settings.

    Attributes:
        rules: Priorities over all hosts, and the matching rule.
        clocks: This machine's clock, and the database server's.
    """

    def __init__(self, engine: Engine, settings: WriterSettings) -> None:
        self.rules = Rules(
            match_on=settings.match_on, max_minutes=settings.max_minutes,
            max_minutes_touched=settings.max_minutes_touched,
        )  # fmt: skip
        matching = (*settings.match_on, settings.max_minutes, settings.max_minutes_touched)
        self._matching = hashlib.sha256(repr(matching).encode()).hexdigest()[:16]
        self.clocks = ClockComparison()
        self._engine = engine
        self._is_shared = engine.dialect.name == "postgresql"
        self._host = settings.host
        # One supervisor's writers follow one another and need not wait for each other's signs of life to grow old.
        self._instance = hashlib.sha256(b"instance" + settings.key).hexdigest()[:16]
        self._lease_s = settings.lease_s
        self._sources = settings.sources
        self._wanted = [one.name for one in settings.sources if one.enabled]
        self._marks = {""}
        self._hosts: Mapping[str, Host] = {}
        self._leases: dict[str, Lease] = {}
        self._tenures: dict[str, Tenure] = {}
        self._said: list[tuple[str, HostSource]] = []
        self._differing: dict[str, str] = {}
        self._with_other_rules: list[str] = []
        self._sign_at = self._watch_at = math.inf
        self._signs = SignsOfLife()
        self._was_away = False
        self._patient_until = 0.0

    @property
    def next_at(self) -> float:
        """When to look again (monotonic seconds)."""
        stands_by = len(self._tenures) < len(self._wanted)
        return min(self._sign_at, self._watch_at) if stands_by else self._sign_at

    def enter(self) -> Applied:
        """Say what this host's configuration says, take the sources that nobody fetches, decide by the new rules.

        Returns:
            What the rules changed.

        Raises:
            StoreError: Another running instance has this host's name.
        """
        mark = os.urandom(8).hex()
        with self._engine.begin() as connection:
            if self._is_shared:
                self._enter_host(connection, mark)
            else:
                keep_only(connection, self._host)
            register_sources(connection, self._host, self._sources)
            self._read_rules(connection)
            applied = follow_rules(connection, self.rules)
            if self._is_shared:
                give_back(connection, self._host, self._wanted)
                self._take_free(connection)
        self._marks = {mark}
        self._plan_next()
        return applied

    def look(self) -> Changes:
        """Give a sign of life, take what nobody fetches any more, and find out what has changed.

        Raises:
            StoreError: The database is another one, or another instance has this host's name: begin anew.
        """
        mark = os.urandom(8).hex()
        before = had, rules, *_ = self._tenures, self.rules, self._said, self._leases
        holders = {source: self.standby_of(source) for source in self._wanted}
        try:
            history_lost = self._look(mark)
        except BaseException:
            # It was not committed: the next look has to find the same changes.
            self._tenures, self.rules, self._said, self._leases = before
            raise
        self._marks = {mark}
        self._plan_next()
        # A lease may have been another host's since the last look.
        gained = {source for source, tenure in self._tenures.items() if had.get(source) != tenure}
        lost = {source for source, holder in holders.items() if self.standby_of(source) not in {None, holder}}
        return Changes(
            gained=frozenset(gained), lost=frozenset(lost), history_lost=history_lost,
            rules=None if self.rules is rules else self.rules,
        )  # fmt: skip

    def must_look(self) -> bool:
        """Whether a look is due, or another host's end leaves it something to take; reads without the writers' lock."""
        now = time.monotonic()
        if now >= self._sign_at:
            return True
        self._watch_at = now + WATCH_EVERY_S
        with reading(self._engine) as connection:
            leases, hosts = read_leases(connection), self._read_hosts(connection)
        return bool(find_free(self._wanted, leases, hosts))

    def is_lock_stuck(self) -> bool:
        """Whether a writer that stands still has the writers' lock; after the time of a lease its session is ended."""
        with reading(self._engine) as connection:
            still_s, is_ended = look_at_holder(connection, self._lease_s)
        if is_ended:
            logger.warning("another host's writer stood still with the database's lock; its session is ended")
        return still_s >= STANDS_STILL_S and not is_ended

    def note_outage(self) -> None:
        """Note that the database could not be reached: the others may have been as unable to give signs of life."""
        self._was_away = True

    def use_digests(self, digests: Mapping[str, str]) -> None:
        """Say otherwise how this host's sources are read; the others hear of it at the next look."""
        self._sources = tuple(replace(one, digest=digests.get(one.name, one.digest)) for one in self._sources)

    def tenure_of(self, source: str) -> Tenure | None:
        """Return this host's right to fetch a source; None where no other host could have it."""
        return self._tenures.get(source)

    def standby_of(self, source: str) -> str | None:
        """Return the host that fetches a source instead of this one."""
        if not self._is_shared or source in self._tenures:
            return None
        lease = self._leases.get(source)
        return lease.host if lease else "nobody"

    def others_with(self, source: str) -> list[str]:
        """Return the other hosts whose configurations enable a source."""
        return sorted(host for host, one in self._said if one.enabled and one.name == source and host != self._host)

    def forget(self, host: str, *, dry_run: bool = False) -> str:
        """End another host's word; return what was done, for the operator.

        Raises:
            CommandRefused: The host runs, or there is no such host.
        """
        if host == self._host:
            raise CommandRefused(f"{host} is this host; give the command on another one")
        with transaction(self._engine, dry_run=dry_run) as connection:
            known = self._read_ages(connection).get(host) if self._is_shared else None
            if known and known.is_alive:
                raise CommandRefused(f"{host} runs; stop Pylantir there first")
            nobodys = forget_host(connection, host)
            version = read_version(connection)
            ranks = rank_sources(one for _, one in read_sources(connection))
            applied = follow_rules(connection, replace(self.rules, ranks=ranks, version=version))
        would = "would be " if dry_run else "is "
        text = f"{host} {would}forgotten; {applied.changed} items decided anew"
        if nobodys:
            text += f"; no host has these sources any more: {', '.join(nobodys)} (see: pylantir forget SOURCE)"
        return text

    def leave(self) -> None:
        """Give back at once what this host fetches."""
        if self._is_shared and self._hosts:
            with self._engine.begin() as connection:
                leave(connection, self._host, self._instance)

    def describe(self) -> dict[str, object]:
        """Describe the hosts and leases for `status`."""
        return {
            "host": self._host,
            "hosts": {name: host.is_alive for name, host in sorted(self._hosts.items())},
            "leases": {source: lease.host for source, lease in sorted(self._leases.items())},
            "differs": self._differing,
            "abandoned": find_abandoned(self._said, self._hosts) if self._is_shared else {},
            "other_rules": self._with_other_rules,
            "clock": self.clocks.told,
        }

    def _look(self, mark: str) -> bool:
        """Do what `look` does in one transaction; return whether the database has lost commits of this host."""
        with self._engine.begin() as connection:
            hosts = self._read_hosts(connection)
            own = hosts.get(self._host)
            if own is None or own.instance != self._instance:
                raise StoreError("the database does not know this host any more; it is opened anew")
            history_lost = own.mark not in self._marks
            self._marks.add(mark)
            self.clocks.ask(lambda: give_sign(connection, self._host, self._instance, mark))
            hosts[self._host] = replace(own, age_s=0.0, session_ended=False)
            if self._has_other_digests():
                register_sources(connection, self._host, self._sources)
            if read_version(connection) != self.rules.version:
                self._read_rules(connection)
            self._take_free(connection, hosts)
        return history_lost

    def _read_hosts(self, connection: Connection) -> dict[str, Host]:
        """Read the hosts; after an outage of the database nobody's silence counts for the time of a lease."""
        hosts, now = self._read_ages(connection), time.monotonic()
        if self._was_away:
            self._was_away, self._patient_until = False, now + self._lease_s
        return (
            {name: replace(host, lease_s=math.inf) for name, host in hosts.items()}
            if now < self._patient_until
            else hosts
        )

    def _read_ages(self, connection: Connection) -> dict[str, Host]:
        return self._signs.aged(read_hosts(connection), time.monotonic())

    def _has_other_digests(self) -> bool:
        said = {one.name: one.digest for host, one in self._said if host == self._host}
        return any(said.get(one.name) != one.digest for one in self._sources)

    def _enter_host(self, connection: Connection, mark: str) -> None:
        namesake = self._read_ages(connection).get(self._host)
        if namesake and namesake.instance != self._instance and namesake.is_alive:
            raise StoreError(
                f'another instance that runs now is called "{self._host}"; give each host its own cluster.host'
            )
        enter_host(connection, self._host, self._instance, self._lease_s, self._matching)
        keep_known(connection)
        self.clocks.ask(lambda: give_sign(connection, self._host, self._instance, mark))

    def _read_rules(self, connection: Connection) -> None:
        self._said = read_sources(connection)
        ranks = rank_sources(one for _, one in self._said)
        self.rules = replace(self.rules, ranks=ranks, version=read_version(connection))

    def _take_free(self, connection: Connection, hosts: Mapping[str, Host] | None = None) -> None:
        """Take what nobody fetches, and what the database says is this host's although it does not know the tenure."""
        hosts = self._read_ages(connection) if hosts is None else hosts
        found = read_leases(connection)
        kept = {source: tenure for source, tenure in self._tenures.items() if tenure.is_in(found.get(source))}
        others = [source for source in self._wanted if source not in kept]
        free = {*find_free(others, found, hosts)}
        free |= {source for source in others if source in found and found[source].host == self._host}
        taken = take_leases(connection, sorted(free), self._host, self._instance) if free else {}
        tell_hosts(self._hosts, hosts, self._host)
        tell_leases(self._leases, found, self._host, taken=taken, others={*others} - taken.keys())
        self._hosts, self._tenures = hosts, {**kept, **taken}
        self._leases = {**found, **{source: tenure.lease for source, tenure in taken.items()}}
        digests = {(host, one.name): one.digest for host, one in self._said}
        differing = find_differing(self._sources, digests, self._leases, self._host)
        tell_differing(self._differing, differing)
        self._differing = differing
        with_other_rules = find_other_rules(hosts, self._host, self._matching)
        tell_other_rules(self._with_other_rules, with_other_rules)
        self._with_other_rules = with_other_rules

    def _plan_next(self) -> None:
        if self._is_shared:
            now = time.monotonic()
            self._sign_at, self._watch_at = now + self._lease_s / SIGNS_PER_LEASE, now + WATCH_EVERY_S
