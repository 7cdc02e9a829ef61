"""Who may fetch a source, and whose priority counts: decided without a database."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.store.hosts.decision import (
    Host,
    HostSource,
    Lease,
    SignsOfLife,
    find_abandoned,
    find_differing,
    find_free,
    rank_sources,
)

LEASE_S = 5.0


def host(name: str = "north", **changes: object) -> Host:
    return Host(**{"name": name, "instance": "1", "age_s": 1.0, "lease_s": LEASE_S, **changes})  # type: ignore[arg-type]


def lease(source: str = "ris", holder: str = "north", instance: str = "1") -> Lease:
    return Lease(source=source, host=holder, instance=instance, epoch=3)


@pytest.mark.parametrize(
    ("known", "is_free"),
    [
        (host(), False),
        (host(age_s=5.0), False),
        (host(age_s=5.1), True),
        (host(age_s=5.1, lease_s=30.0), False),
        (host(age_s=None), True),
        (host(session_ended=True), True),
        (host(instance="2"), True),
        (host("south"), True),
    ],
)
def test_a_lease_lasts_as_long_as_the_run_that_took_it(known: Host, is_free: bool) -> None:
    assert bool(find_free(["ris"], {"ris": lease()}, {known.name: known})) is is_free


def test_a_sign_of_life_grows_old_although_the_databases_clock_was_set_back() -> None:
    signs = SignsOfLife()

    def is_alive(now: float, **changes: object) -> bool:
        said = {"alive_at": 1000.0, "mark": "a", "age_s": 0.0, **changes}
        return signs.aged({"north": host(**said)}, now)["north"].is_alive

    assert is_alive(50.0)
    assert is_alive(54.9)
    assert not is_alive(55.1)
    assert not is_alive(55.2, age_s=6.0)
    # It was not dead, or has begun anew.
    assert is_alive(60.0, mark="b")
    assert is_alive(64.0, mark="b", alive_at=1001.0)
    assert is_alive(68.0, mark="b", alive_at=1001.0)
    assert not is_alive(68.1, mark="b", alive_at=1001.0, age_s=None)
    assert is_alive(80.0, instance="2")
    assert not is_alive(80.1, instance="2", age_s=5.1)


def test_a_source_that_nobody_ever_fetched_is_free() -> None:
    assert find_free(["pacs", "ris"], {"ris": lease()}, {"north": host()}) == ["pacs"]


def said(name: str, priority: float, *, enabled: bool = True, digest: str = "a") -> HostSource:
    return HostSource(name=name, priority=priority, enabled=enabled, digest=digest)


def test_priority_counts_over_all_hosts_and_equal_ones_follow_the_names() -> None:
    north, south = [said("b", 0), said("c", 1), said("off", 0, enabled=False)], [said("a", 0), said("c", 0.5)]
    assert rank_sources([*north, *south]) == {"a": 0, "b": 1, "c": 2}


SAID = st.builds(said, st.sampled_from("abcd"), st.integers(0, 3), enabled=st.booleans())


@given(st.lists(SAID), st.randoms(use_true_random=False))
def test_the_order_of_hosts_does_not_matter(sources: list[HostSource], chance: object) -> None:
    mixed = list(sources)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    assert rank_sources(mixed) == rank_sources(sources)
    assert set(rank_sources(sources)) == {one.name for one in sources if one.enabled}


def test_a_source_that_is_configured_otherwise_than_where_it_is_fetched_is_found() -> None:
    own = [said("same", 0), said("other", 0, digest="b"), said("mine", 0), said("unknown", 0)]
    leases = {name: lease(name) for name in ("same", "other", "unknown")} | {"mine": lease("mine", "south")}
    others = {("north", "same"): "a", ("north", "other"): "a"}
    assert find_differing(own, others, leases, "south") == {"other": "north"}


def test_a_source_is_abandoned_when_no_host_that_enables_it_runs() -> None:
    told = [
        ("north", said("only", 0)), ("north", said("both", 0)), ("south", said("both", 0)),
        ("north", said("off", 0, enabled=False)), ("gone", said("older", 0)),
    ]  # fmt: skip
    away, alive = {"north": host(age_s=None)}, {"south": host("south")}
    assert find_abandoned(told, away | alive) == {"older": ["gone"], "only": ["north"]}
    assert find_abandoned(told, {"north": host()} | alive) == {"older": ["gone"]}
