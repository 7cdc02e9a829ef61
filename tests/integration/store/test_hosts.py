"""Hosts on one PostgreSQL, without their processes: leases, ranks, and what a database has lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, delete, event, insert, text, update
from sqlalchemy.exc import DBAPIError
from waiting import wait_until
from worklist_store import Feed, items, record, rows, served

from pylantir.errors import CommandRefused, HistoryLost, LeaseLost, RulesChanged, StoreError
from pylantir.settings import AccessSettings, RetentionSettings
from pylantir.store.decide.claims import STATUS, Rules
from pylantir.store.hosts.decision import HostSource
from pylantir.store.schema.engine import open_for_writing, reading, transaction
from pylantir.store.schema.tables import (
    cluster_hosts,
    cluster_sources,
    source_entries,
    source_leases,
    source_states,
    worklist_items,
)
from pylantir.store.schema.upgrade import prepare_database
from workers.writer.membership import Membership
from workers.writer.settings import WriterSettings


def said(name: str, priority: float = 0.0, *, digest: str = "a", enabled: bool = True) -> HostSource:
    return HostSource(name=name, priority=priority, enabled=enabled, digest=digest)


class Host(Membership):
    """A host's writer, without its process."""

    def __init__(
        self, url: str, name: str, *sources: HostSource, key: bytes = b"", lease_s: float = 30.0, minutes: float = 240
    ) -> None:
        settings = WriterSettings(
            db_url=url, db_echo=False, host=name, lease_s=lease_s, sources=sources, key=key or name.encode(),
            match_on=Rules().match_on, max_minutes=minutes, max_minutes_touched=120, keep_missing=frozenset(),
            retention=RetentionSettings(), access=AccessSettings(), ae_title="PYLANTIR",
        )  # fmt: skip
        self.engine = open_for_writing(url, host=name)
        prepare_database(self.engine)
        super().__init__(self.engine, settings)

    def feed(self, source: str) -> Feed:
        """The source as this host's writer takes it in."""
        feed = Feed(self.engine, source, self.rules)
        feed.options["tenure"] = self.tenure_of(source)
        feed.restart()
        return feed

    def age(self, name: str, seconds: float) -> None:
        """Let the last sign of life of a host be older."""
        with self.engine.begin() as connection:
            connection.execute(
                text("UPDATE cluster_hosts SET alive_at = alive_at - :s WHERE host = :h"), {"s": seconds, "h": name}
            )

    def kill(self) -> None:
        """Let its session end, as that of a killed process does."""
        self.engine.dispose()


@pytest.fixture
def made(postgresql_url: str) -> Iterator[Any]:
    hosts: list[Host] = []

    def make(name: str, *sources: HostSource, **options: Any) -> Host:
        host = Host(postgresql_url, name, *sources, **options)
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        host.engine.dispose()


def test_a_source_is_one_hosts_until_that_host_has_ended(made: Any) -> None:
    north, south = made("north", said("ris")), made("south", said("ris"))
    north.enter()
    south.enter()
    assert (north.standby_of("ris"), south.standby_of("ris")) == (None, "north")
    assert not south.must_look()
    assert not south.look().gained
    north.leave()
    assert south.must_look()
    assert south.look().gained == {"ris"}
    # Whoever comes back takes nothing from a host that is alive.
    north.enter()
    assert north.standby_of("ris") == "south"


def test_a_killed_host_is_noticed_by_its_ended_session(made: Any) -> None:
    north, south = made("north", said("ris")), made("south", said("ris"))
    north.enter()
    south.enter()
    north.kill()
    # The server needs a moment to end it.
    wait_until(lambda: south.look().gained == {"ris"}, "its source is taken")


def test_a_host_that_died_before_the_databases_clock_was_set_back_is_not_alive_for_ever(made: Any) -> None:
    north, south = made("north", said("ris")), made("south", said("ris"))
    north.enter()
    south.enter()
    north.age("north", -3600)
    # From here on a short lease, or south would take the source at once on a machine that stands still for a moment.
    with north.engine.begin() as connection:
        connection.execute(update(cluster_hosts).where(cluster_hosts.c.host == "north").values(lease_s=0.5))
    again = made("north", said("ris"), key=b"its next run")
    with pytest.raises(StoreError, match="give each host its own"):
        again.enter()
    wait_until(lambda: south.look().gained == {"ris"}, "its source is taken")
    again.enter()
    assert again.standby_of("ris") == "south"


def test_a_third_host_hears_that_its_source_has_another_holder(made: Any) -> None:
    north, south, east = (made(name, said("ris")) for name in ("north", "south", "east"))
    for host in (north, south, east):
        host.enter()
    assert not east.look().lost
    north.leave()
    assert south.look().gained == {"ris"}
    assert (east.look().lost, east.standby_of("ris")) == ({"ris"}, "south")
    assert not east.look().lost


def test_a_host_that_gives_no_sign_of_life_loses_its_sources_and_commits_nothing_more(made: Any) -> None:
    north, south = (made(name, said("ris"), lease_s=3600.0) for name in ("north", "south"))
    north.enter()
    south.enter()
    north.look()
    frozen = north.feed("ris")
    frozen.sync(record("r1", "P1"))
    batches = frozen.batches([record("r2", "P2")])
    south.age("north", 2400)
    assert not south.look().gained
    south.age("north", 1300)
    assert south.look().gained == {"ris"}
    south.feed("ris").sync(record("r1", "P1"), record("r3", "P3"))
    for attempt in (lambda: frozen.apply(batches[0]), lambda: frozen.finish(frozen.end([]))):
        with pytest.raises(LeaseLost):
            attempt()
    assert [patient for patient, _, _ in served(south.engine)] == ["P1", "P3"]
    assert north.look().lost == {"ris"}
    assert north.describe()["hosts"] == {"north": True, "south": True}
    assert north.describe()["leases"] == {"ris": "south"}


def test_a_source_that_another_host_had_between_two_looks_is_begun_anew(made: Any) -> None:
    north, south = made("north", said("ris")), made("south", said("ris"))
    north.enter()
    south.enter()
    north.look()
    before = north.feed("ris")
    before.sync(record("r1", "P1"))
    south.age("north", 31)
    assert south.look().gained == {"ris"}
    south.leave()
    # North was frozen all the while: it never saw that its source was gone.
    assert north.look().gained == {"ris"}
    with pytest.raises(LeaseLost):
        before.sync(record("r1", "P1"))
    north.feed("ris").sync(record("r1", "P1"))
    assert not north.look().gained


def test_a_look_that_is_not_committed_finds_the_same_once_more(made: Any) -> None:
    north, south = made("north", said("ris")), made("south", said("ris", 2), said("other", 1))
    north.enter()
    south.enter()
    north.leave()
    # North is started with another configuration, and ends again.
    north = made("north", said("ris", 5), key=b"another run")
    north.enter()
    north.leave()
    south.use_digests({"other": "b"})

    def fail(_connection: object) -> None:
        event.remove(south.engine, "commit", fail)
        msg = "the server went down"
        raise psycopg.OperationalError(msg)

    event.listen(south.engine, "commit", fail)
    with pytest.raises(psycopg.OperationalError):
        south.look()
    changes = south.look()
    assert changes.gained == {"ris"}
    assert changes.rules
    assert changes.rules.ranks == {"other": 0, "ris": 1}
    digest = "SELECT digest FROM cluster_sources WHERE host = 'south' AND data_source = 'other'"
    with reading(south.engine) as connection:
        assert connection.scalar(text(digest)) == "b"


def test_a_host_that_stands_still_with_the_lock_is_ended_after_the_time_of_a_lease(made: Any) -> None:
    north, south = made("north", said("ris")), made("south", said("ris"))
    north.enter()
    south.enter()

    def stand_still() -> None:
        with transaction(north.engine, pipelined=True) as connection:
            connection.execute(text("SELECT 1"))
            wait_until(south.is_lock_stuck, "it stands still")
            wait_until(lambda: connection.execute(text("SELECT 1")) and not south.is_lock_stuck(), "it goes on")
            wait_until(south.is_lock_stuck, "it stands still again")
            south._lease_s = 1.3
            wait_until(lambda: not south.is_lock_stuck(), "its session is ended")
            wait_until(lambda: south.look().gained == {"ris"}, "its source is taken")

    with pytest.raises(DBAPIError):
        stand_still()


def test_silence_counts_for_nothing_when_the_database_was_away(made: Any) -> None:
    north, south = made("north", said("ris")), made("south", said("ris"))
    north.enter()
    south.enter()
    south.note_outage()
    south.age("north", 100)
    assert not south.look().gained
    assert not south.must_look()
    south._patient_until = 0.0
    assert south.look().gained == {"ris"}


def test_sessions_of_another_server_process_or_of_a_pooler_say_nothing(made: Any) -> None:
    north, south = made("north", said("ris")), made("south", said("ris"))
    north.enter()
    south.enter()
    with south.engine.begin() as connection:
        connection.execute(text("UPDATE cluster_hosts SET server = 'before its restart', session = 1"))
    assert not south.look().gained
    north.look()
    with south.engine.begin() as connection:
        # A pooler gives no session of one's own.
        connection.execute(text("UPDATE cluster_hosts SET session = NULL WHERE host = 'north'"))
    assert not south.look().gained


def test_a_writer_that_follows_in_the_same_run_has_its_sources_at_once(made: Any) -> None:
    first = made("north", said("ris"))
    first.enter()
    again = made("north", said("ris"))
    again.enter()
    assert again.standby_of("ris") is None
    with pytest.raises(LeaseLost):
        first.feed("ris").sync(record("r1", "P1"))


def test_a_source_that_a_host_no_longer_has_configured_is_another_hosts_at_once(made: Any) -> None:
    """It is taken out of one configuration, and only then added to another."""
    first = made("north", said("ris"), said("csv"), key=b"one run")
    first.enter()
    first.kill()
    made("north", said("csv"), said("ris", enabled=False), key=b"one run").enter()
    south = made("south", said("ris"), said("csv"))
    south.enter()
    assert (south.standby_of("ris"), south.standby_of("csv")) == (None, "north")
    with pytest.raises(LeaseLost):
        first.feed("ris").sync(record("r1", "P1"))


def test_a_running_namesake_does_not_get_in(made: Any) -> None:
    made("north", said("ris")).enter()
    with pytest.raises(StoreError, match=r'called "north".*cluster\.host'):
        made("north", said("ris"), key=b"another run").enter()


def test_what_one_host_withdraws_another_hosts_source_still_gives(made: Any) -> None:
    """The two hosts have different sources; what they say of one exam is one item."""
    north, south = made("north", said("ris", 0)), made("south", said("csv", 1))
    north.enter()
    south.enter()
    assert north.look().rules
    assert north.rules.ranks == south.rules.ranks == {"ris": 0, "csv": 1}
    ris, csv = north.feed("ris"), south.feed("csv")
    fields = {"modality": "MR", "patient_name": "DOE^JANE"}
    ris.sync(record("r1", "P1", **fields))
    csv.sync(record("c1", "P1", **fields), record("c2", "P2"))
    assert len(items(north.engine)) == 2
    ris.sync()
    north.feed("ris").ingest.accept_removal()
    assert [(one["patient_id"], one[STATUS], one["data_source"]) for one in items(north.engine)] == [
        ("P1", "SCHEDULED", "csv"), ("P2", "SCHEDULED", "csv"),
    ]  # fmt: skip
    csv.sync(record("c2", "P2"))
    assert served(south.engine)[0][0] == "P2"


def test_nobody_decides_by_ranks_that_are_over(made: Any) -> None:
    north = made("north", said("ris", 1))
    north.enter()
    ris = north.feed("ris")
    ris.sync(record("r1", "P1"))
    made("south", said("csv", 0)).enter()
    with pytest.raises(RulesChanged):
        ris.sync(record("r1", "P1"), record("r2", "P2"))
    ris.ingest.use_rules(north.look().rules)
    ris.sync(record("r1", "P1"), record("r2", "P2"))
    assert north.rules.ranks == {"csv": 0, "ris": 1}


def test_a_host_that_is_forgotten_has_no_word_any_more(made: Any) -> None:
    north, south = made("north", said("ris", 0)), made("south", said("csv", 1))
    north.enter()
    south.enter()
    with pytest.raises(CommandRefused, match="runs"):
        south.forget("north")
    with pytest.raises(CommandRefused, match="this host"):
        south.forget("south")
    with pytest.raises(CommandRefused, match="there are: north, south"):
        south.forget("west")
    north.leave()
    assert "ris" in south.forget("north", dry_run=True)
    assert rows_of(south.engine, "cluster_hosts") == 2
    assert "no host has these sources any more: ris" in south.forget("north")
    assert south.look().rules.ranks == {"csv": 0}
    assert rows_of(south.engine, "cluster_hosts") == 1
    # It was not dead after all: it begins anew.
    with pytest.raises(StoreError, match="opened anew"):
        north.look()


def test_the_host_of_a_copied_file_has_no_word_where_it_never_was(made: Any) -> None:
    """In SQLite there is one host, which is not registered; on the server it has a name of its own."""
    north = made("north", said("ris", 1))
    ghost = [
        {"host": "old", "data_source": name, "priority": 0.0, "enabled": 1, "digest": "a"} for name in ("ris", "x")
    ]
    with north.engine.begin() as connection:
        connection.execute(insert(cluster_sources), ghost)
    north.enter()
    assert north.rules.ranks == {"ris": 0}
    south = made("south", said("csv", 0))
    south.enter()
    north.look()
    assert south.rules.ranks == north.rules.ranks == {"csv": 0, "ris": 1}
    assert south.others_with("ris") == ["north"]
    assert not north.others_with("ris")


def test_a_source_configured_otherwise_is_told(made: Any, caplog: pytest.LogCaptureFixture) -> None:
    north, south = made("north", said("ris")), made("south", said("ris", digest="b"))
    north.enter()
    south.enter()
    south.look()
    assert south.describe()["differs"] == {"ris": "north"}
    text = "source ris: its configuration here differs from that on host north, which fetches it"
    assert caplog.messages.count(text) == 1
    south.use_digests({"ris": "a"})
    south.look()
    assert south.describe()["differs"] == {}
    south.use_digests({"ris": "c"})
    south.look()
    assert caplog.messages.count(text) == 2


def test_hosts_that_recognise_exams_by_other_rules_are_told(made: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Each decides about all records of a patient, also where the hosts have different sources."""
    north, south = made("north", said("ris")), made("south", said("csv"), minutes=10)
    north.enter()
    south.enter()
    for _ in range(2):
        north.look()
        south.look()
    assert (north.describe()["other_rules"], south.describe()["other_rules"]) == (["south"], ["north"])
    told = [message for message in caplog.messages if "another `deduplication`" in message]
    assert [message.partition(" has")[0] for message in told] == ["host north", "host south"]
    south.leave()
    made("west").enter()
    north.look()
    assert north.describe()["other_rules"] == []


def test_signs_of_life_that_the_database_has_lost_are_noticed(made: Any) -> None:
    north = made("north", said("ris"))
    north.enter()
    with north.engine.begin() as connection:
        before = connection.scalar(text("SELECT mark FROM cluster_hosts"))
    assert not north.look().history_lost
    with north.engine.begin() as connection:
        connection.execute(text("UPDATE cluster_hosts SET mark = :mark"), {"mark": before})
    assert north.look().history_lost
    assert not north.look().history_lost


def test_a_lease_that_the_database_has_lost_is_taken_again(made: Any) -> None:
    north = made("north", said("ris"))
    north.enter()
    with north.engine.begin() as connection:
        connection.execute(delete(source_leases))
    north.look()
    north.feed("ris").sync(record("r1", "P1"))
    assert north.standby_of("ris") is None


def rows_of(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def set_back(engine: Engine, mark: str | None, patient: str) -> None:
    """Do to a database what a restored backup does: it lacks a patient, and has an earlier mark."""
    with engine.begin() as connection:
        connection.execute(delete(source_entries).where(source_entries.c.patient_id == patient))
        connection.execute(delete(worklist_items).where(worklist_items.c.patient_id == patient))
        connection.execute(update(source_states).values(mark=mark))


def test_what_the_database_has_lost_comes_back_from_the_source(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("r1", "P1"))
    with store.connect() as connection:
        mark = connection.scalar(text("SELECT mark FROM source_states"))
    everything = [record("r1", "P1"), record("r2", "P2")]
    feed.sync(*everything)
    assert feed.sync(*everything).counts["unchanged"] == 2
    set_back(store, mark, "P2")
    with pytest.raises(HistoryLost):
        feed.sync(*everything)
    feed.restart()
    feed.sync(*everything)
    assert [patient for patient, _, _ in served(store)] == ["P1", "P2"]


def test_a_commit_whose_end_nobody_heard_of_is_no_loss(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("r1", "P1"))
    transactions = feed.ingest._transactions
    with store.begin() as connection:
        # The commit succeeded, and the connection broke before the writer knew.
        connection.execute(update(source_states).values(mark=transactions.next_mark()))
    assert feed.sync(record("r1", "P1"), record("r2", "P2")).error is None


def test_a_cycle_of_which_the_database_lacks_a_part_fails(store: Engine) -> None:
    """An incremental source would otherwise go on from here, and never give the lost part again."""
    feed = Feed(store, "ris")
    feed.sync(record("r0", "P0"))
    first, second, third = feed.batches([record(f"r{n}", f"P{n}") for n in (1, 2, 3)], size=1, snapshot=False)
    feed.apply(first)
    feed.apply(replace(third, seq=3))
    summary = feed.finish(feed.end([third], complete=False))
    assert summary.error == "some of its batches did not arrive; the next cycle brings them"
    assert second.seq == 2
    assert [one["patient_id"] for one in rows(store, source_entries)] == ["P0", "P1", "P3"]
