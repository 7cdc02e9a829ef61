"""Logs what has changed among the hosts since the last look. Lives in the writer."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from pylantir.store.hosts.decision import Host, Lease

logger = logging.getLogger(__name__)


def tell_hosts(before: Mapping[str, Host], now: Mapping[str, Host], own: str) -> None:
    """Log which hosts have come and gone.

    Args:
        before: Name -> host at the last look.
        now: The same now.
        own: This host, which is not told.
    """
    for name, host in now.items():
        was_alive = name in before and before[name].is_alive
        if name == own or host.is_alive == was_alive:
            continue
        if host.is_alive:
            logger.info("host %s is there", name)
        elif host.age_s is None:
            logger.info("host %s has ended", name)
        else:
            logger.warning("host %s is dead: its session has ended, or it gives no sign of life", name)


def tell_leases(
    before: Mapping[str, Lease], found: Mapping[str, Lease], own: str, *, taken: Iterable[str], others: Iterable[str]
) -> None:
    """Log which sources this host fetches from now on, and which one another host does.

    Args:
        before: Source -> lease after the last look.
        found: The same at the beginning of this one.
        own: This host.
        taken: The sources that it has just taken.
        others: The sources that it would fetch and that another host has.
    """
    for source in sorted(taken):
        former = found[source].host if source in found else None
        if former not in (None, own):
            logger.warning("source %s: this host fetches it from now on; %s did before", source, former)
    for source in sorted(others):
        if source not in before or before[source].host != found[source].host:
            logger.info("source %s: host %s fetches it; this one stands by", source, found[source].host)


def tell_other_rules(before: Iterable[str], now: Iterable[str]) -> None:
    """Log which hosts recognise records of one exam by other rules than this one."""
    for name in sorted({*now} - {*before}):
        logger.warning(
            "host %s has another `deduplication`: which records are one exam depends on who stores them last; give all "
            "hosts the same", name,
        )  # fmt: skip


def tell_differing(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Log which sources are configured otherwise here than on the host that fetches them: source -> that host."""
    for source, holder in sorted(now.items() - before.items()):
        logger.warning(
            "source %s: its configuration here differs from that on host %s, which fetches it", source, holder
        )
