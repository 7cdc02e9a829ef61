"""What the writer's log says of the other hosts: only what has changed since the last look."""

from __future__ import annotations

import itertools

import pytest

from pylantir.store.hosts.decision import Host, Lease
from workers.writer.telling import tell_hosts, tell_leases


def host(name: str, age_s: float | None) -> Host:
    return Host(name=name, instance="i", age_s=age_s, lease_s=10)


def lease(source: str, host: str) -> Lease:
    return Lease(source=source, host=host, instance="i", epoch=1)


def test_a_host_is_told_once_when_it_comes_dies_or_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    looks = [
        {"a": host("a", 0)},
        {"a": host("a", 0), "b": host("b", 0), "c": host("c", 1)},
        {"a": host("a", 0), "b": host("b", 11), "c": host("c", None)},
        {"a": host("a", 0), "b": host("b", 12), "c": host("c", None)},
    ]
    for before, now in itertools.pairwise(looks):
        tell_hosts(before, now, "a")
    assert [(one.levelname, one.getMessage().split(":")[0]) for one in caplog.records] == [
        ("INFO", "host b is there"), ("INFO", "host c is there"),
        ("WARNING", "host b is dead"), ("INFO", "host c has ended"),
    ]  # fmt: skip


def test_a_source_is_told_when_another_host_fetches_it_than_before(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    first = {"ris": lease("ris", "b"), "csv": lease("csv", "b")}
    tell_leases({}, first, "a", taken={"new"}, others={"ris", "csv"})
    tell_leases(first, first, "a", taken=(), others={"ris", "csv"})
    second = {"ris": lease("ris", "b"), "csv": lease("csv", "c")}
    tell_leases(first, second, "a", taken={"ris"}, others={"csv"})
    assert [one.getMessage() for one in caplog.records] == [
        "source csv: host b fetches it; this one stands by",
        "source ris: host b fetches it; this one stands by",
        "source ris: this host fetches it from now on; b did before",
        "source csv: host c fetches it; this one stands by",
    ]
