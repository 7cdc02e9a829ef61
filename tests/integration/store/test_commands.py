"""What operators may change, and what a changed configuration changes, in a real database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, func, insert, select, update
from sqlalchemy.exc import DatabaseError
from worklist_store import apply_rules, durable_commits, in_columns

from pylantir.errors import CommandRefused
from pylantir.ipc.cycles import CycleEnd, EntryBatch
from pylantir.settings import RetentionSettings
from pylantir.store.change.commands import carry_out
from pylantir.store.change.erasure import erase_patient
from pylantir.store.change.retention import prune_history, purge_items
from pylantir.store.change.rules import restore_items
from pylantir.store.clock import utc_now
from pylantir.store.decide.claims import STATUS, Rules
from pylantir.store.intake.cycle import SourceIngest
from pylantir.store.read.listings import find_left_behind
from pylantir.store.schema.tables import (
    access_log,
    audit_log,
    mpps_instances,
    source_entries,
    sync_runs,
    worklist_items,
)

BOTH = Rules(ranks={"ris": 0, "csv": 1})


@pytest.fixture
def engine(store: Engine) -> Engine:
    return store


def sync(engine: Engine, source: str, *records: Mapping[str, str], rules: Rules = BOTH) -> None:
    ingest = SourceIngest(engine, source, rules)
    started_at = utc_now()
    rows = in_columns([(f"id:{one['source_record_id']}", dict(one)) for one in records])
    ingest.apply_batch(EntryBatch(cycle=started_at, seq=1, started_at=started_at, snapshot=True, records=rows))
    ingest.finish_cycle(CycleEnd(cycle=started_at, seq=2, started_at=started_at, complete=True))


def record(number: int, **fields: str) -> dict[str, str]:
    basis = {"source_record_id": str(number), "patient_id": f"P{number}", "scheduled_start_date": "20261201"}
    return {**basis, "modality": "MR", **fields}


def purge(engine: Engine, before: str, **options: bool) -> str:
    steps = purge_items(engine, before, BOTH, **options)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return str(end.value)


def prune(engine: Engine, now: datetime, **days: Any) -> int:
    return sum(prune_history(engine, BOTH, RetentionSettings(**days, access_days=None), clock=lambda: now))


def items(engine: Engine) -> list[dict[str, object]]:
    with engine.connect() as connection:
        return [
            dict(row) for row in connection.execute(select(worklist_items).order_by(worklist_items.c.id)).mappings()
        ]


def audited(engine: Engine, action: str | None = None) -> list[dict[str, object]]:
    with engine.connect() as connection:
        rows = connection.execute(select(audit_log).order_by(audit_log.c.id)).mappings()
        return [dict(row) for row in rows if action in {None, row["action"]}]


def test_forgotten_source_no_longer_keeps_items(engine: Engine) -> None:
    sync(engine, "ris", record(1), record(2))
    sync(engine, "csv", record(2))
    alone = Rules(ranks={"csv": 0})
    assert (
        carry_out(engine, alone, {"command": "forget", "name": "ris"}) == "ris: 2 records withdrawn, 1 items cancelled"
    )
    first, second = items(engine)
    assert first["performed_procedure_step_status"] == "CANCELED"
    assert (second["performed_procedure_step_status"], second["data_source"]) == ("SCHEDULED", "csv")
    with pytest.raises(CommandRefused, match="nothing of a source named ris"):
        carry_out(engine, alone, {"command": "forget", "name": "ris"})


def test_configured_source_cannot_be_forgotten(engine: Engine) -> None:
    with pytest.raises(CommandRefused, match="ris is configured"):
        carry_out(engine, BOTH, {"command": "forget", "name": "ris"})


def test_status_set_by_hand_outlives_every_sync(engine: Engine) -> None:
    sync(engine, "ris", record(1, protocol_name="A"))
    done = {"command": "set-status", "item": 1, "status": "COMPLETED", "reason": "scanner without MPPS"}
    assert carry_out(engine, BOTH, done) == "item 1: SCHEDULED -> COMPLETED"
    sync(engine, "ris", record(1, protocol_name="B"))
    (item,) = items(engine)
    assert (item["performed_procedure_step_status"], item["protocol_name"]) == ("COMPLETED", "A")
    (note,) = audited(engine, "status")
    assert note["actor"] == "command:set-status"
    assert json.loads(str(note["changes"]))["reason"] == [None, "scanner without MPPS"]


def test_item_set_to_scheduled_belongs_to_its_sources_again(engine: Engine) -> None:
    sync(engine, "ris", record(1, protocol_name="A"))
    carry_out(engine, BOTH, {"command": "set-status", "item": 1, "status": "COMPLETED", "reason": "done"})
    sync(engine, "ris", record(1, protocol_name="B"))
    carry_out(engine, BOTH, {"command": "set-status", "item": 1, "status": "SCHEDULED", "reason": "a mistake"})
    (item,) = items(engine)
    assert (item["performed_procedure_step_status"], item["protocol_name"]) == ("SCHEDULED", "B")


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        ({"command": "set-status", "item": 7, "status": "COMPLETED", "reason": "x"}, "no item 7"),
        ({"command": "set-status", "item": 1, "status": "DONE", "reason": "x"}, "no status"),
        ({"command": "set-status", "item": 1, "status": "COMPLETED", "reason": " "}, "a reason is needed"),
        ({"command": "set-status", "item": "1", "status": "COMPLETED", "reason": "x"}, "without its arguments"),
        ({"command": "purge", "before": "soon"}, "without its arguments"),
        ({"command": "drop"}, "does not know"),
    ],
)
def test_command_that_cannot_be_carried_out_changes_nothing(
    engine: Engine, command: dict[str, object], refusal: str
) -> None:
    sync(engine, "ris", record(1))
    before = items(engine)
    with pytest.raises(CommandRefused, match=refusal):
        carry_out(engine, BOTH, command)
    assert items(engine) == before


def test_purge_takes_old_items_that_nobody_gives(engine: Engine) -> None:
    old, given, recent = (
        record(1, scheduled_start_date="20200101"),
        record(2, scheduled_start_date="20200101"),
        record(3),
    )
    sync(engine, "ris", old, given, recent)
    sync(engine, "ris", given, recent)
    assert purge(engine, "20250101", dry_run=True) == "1 items scheduled before 20250101 would be deleted"
    assert purge(engine, "20250101").startswith("1 items")
    assert [item["patient_id"] for item in items(engine)] == ["P2", "P3"]
    with engine.connect() as connection:
        assert connection.scalars(select(source_entries.c.patient_id)).all() == ["P2", "P3"]
    assert [line["item_id"] for line in audited(engine, "created")] == [2, 3]


def test_number_of_a_purged_item_is_not_given_again(engine: Engine) -> None:
    sync(engine, "ris", record(1), record(2, scheduled_start_date="20200101"))
    sync(engine, "ris", record(1))
    purge(engine, "20250101")
    sync(engine, "ris", record(1), record(3))
    assert [(item["id"], item["patient_id"]) for item in items(engine)] == [(1, "P1"), (3, "P3")]


def test_changed_order_of_priority_decides_anew_what_is_stored(engine: Engine) -> None:
    sync(engine, "ris", record(1, protocol_name="from ris"))
    sync(engine, "csv", record(1, protocol_name="from csv"))
    apply_rules(engine, BOTH)
    (before,) = items(engine)
    assert (before["protocol_name"], before["data_source"]) == ("from ris", "ris")
    turned = Rules(ranks={"csv": 0, "ris": 1})
    assert apply_rules(engine, turned).changed == 1
    assert apply_rules(engine, turned).changed == 0
    (after,) = items(engine)
    assert (after["protocol_name"], after["data_source"]) == ("from csv", "csv")
    assert after["study_instance_uid"] == before["study_instance_uid"]


def test_audit_log_refuses_deletion_but_lets_retention_prune(engine: Engine) -> None:
    sync(engine, "ris", record(1))
    now = datetime.now(UTC)
    ancient = {
        "at": (now - timedelta(days=40)).isoformat(),
        "actor": "source:ris",
        "action": "changed",
        "changes": "{}",
    }
    with engine.begin() as connection:
        connection.execute(insert(audit_log), ancient)
    assert prune(engine, audit_days=None, runs_days=None, now=now) == 0
    assert prune(engine, audit_days=30, runs_days=None, now=now) == 1
    assert [note["action"] for note in audited(engine, "changed")] == []
    assert len(audited(engine, "created")) == 1
    with pytest.raises(DatabaseError, match="append-only"), engine.begin() as connection:
        connection.execute(delete(audit_log))


def test_last_successful_run_of_a_source_is_never_pruned(engine: Engine) -> None:
    sync(engine, "ris", record(1))
    sync(engine, "ris", record(1))
    later = datetime.now(UTC) + timedelta(days=400)
    assert prune(engine, audit_days=None, runs_days=30, now=later) == 1
    with engine.connect() as connection:
        assert len(connection.execute(select(sync_runs)).all()) == 1
    assert SourceIngest(engine, "ris", BOTH).find_last_success() is not None


def test_set_status_is_refused_where_the_item_would_not_keep_it(engine: Engine) -> None:
    sync(engine, "ris", record(1, accession_number="A1"))
    sync(engine, "ris", record(1, patient_id="P9", accession_number="A1"))
    assert [one["performed_procedure_step_status"] for one in items(engine)] == ["CANCELED", "SCHEDULED"]
    before = items(engine), audited(engine, "status")
    with pytest.raises(CommandRefused, match="item 1 stays CANCELED: no source gives it"):
        carry_out(engine, BOTH, {"command": "set-status", "item": 1, "status": "SCHEDULED", "reason": "please"})
    assert (items(engine), audited(engine, "status")) == before


def test_set_status_dry_run_changes_nothing(engine: Engine) -> None:
    sync(engine, "ris", record(1))
    before = items(engine)
    command = {"command": "set-status", "item": 1, "status": "COMPLETED", "reason": "done", "dry_run": True}
    assert carry_out(engine, BOTH, command).startswith("item 1: SCHEDULED -> COMPLETED (not done")
    assert (items(engine), audited(engine, "status")) == (before, [])


def served_with(engine: Engine, accession: str) -> list[object]:
    return [
        one["patient_id"]
        for one in items(engine)
        if one["accession_number"] == accession and one["performed_procedure_step_status"] == "SCHEDULED"
    ]


@pytest.fixture
def waiting(engine: Engine) -> Engine:
    """P1's exam with A1 is done and given by nobody; P2's record with A1 waits in quarantine."""
    old = {"scheduled_start_date": "20240101"}
    sync(engine, "ris", record(1, accession_number="A1", **old), record(3))
    carry_out(engine, BOTH, {"command": "set-status", "item": 1, "status": "COMPLETED", "reason": "done"})
    sync(engine, "ris", record(3))
    sync(engine, "csv", record(2, accession_number="A1"), record(4))
    assert served_with(engine, "A1") == []
    return engine


def test_what_a_purged_item_kept_a_waiting_record_takes_at_once(waiting: Engine) -> None:
    assert purge(waiting, "20250101").startswith("1 items")
    assert served_with(waiting, "A1") == ["P2"]


def test_what_a_cancelled_item_kept_a_waiting_record_takes_at_once(waiting: Engine) -> None:
    carry_out(waiting, BOTH, {"command": "set-status", "item": 1, "status": "CANCELED", "reason": "never done"})
    assert served_with(waiting, "A1") == ["P2"]


def test_what_a_forgotten_source_kept_a_waiting_record_takes_at_once(engine: Engine) -> None:
    sync(engine, "ris", record(1, accession_number="A1"))
    sync(engine, "csv", record(2, accession_number="A1"))
    assert served_with(engine, "A1") == ["P1"]
    alone = Rules(ranks={"csv": 0})
    tried = carry_out(engine, alone, {"command": "forget", "name": "ris", "dry_run": True})
    assert tried == "ris: 1 records would be withdrawn, 1 items would be cancelled"
    assert served_with(engine, "A1") == ["P1"]
    carry_out(engine, alone, {"command": "forget", "name": "ris"})
    assert served_with(engine, "A1") == ["P2"]


def test_purge_of_very_many_items_takes_seconds_and_pauses_in_between(engine: Engine) -> None:
    sync(engine, "ris", *(record(n, scheduled_start_date="20240101") for n in range(12_000)))
    sync(engine, "ris", record(20_000))
    carry_out(engine, Rules(), {"command": "forget", "name": "ris"})
    steps = purge_items(engine, "20250101", BOTH)
    assert len(list(steps)) == 3
    assert [one["patient_id"] for one in items(engine)] == ["P20000"]


def test_of_a_purged_item_a_line_remains_that_names_nobody(engine: Engine) -> None:
    sync(engine, "ris", record(1, scheduled_start_date="20240101", patient_name="O'Hara^Zoë"), record(2))
    (before, _) = items(engine)
    carry_out(engine, Rules(), {"command": "forget", "name": "ris"})
    assert purge(engine, "20250101") == "1 items scheduled before 20250101 deleted"
    (row,) = [row for row in audited(engine) if row["item_id"] == before["id"]]
    assert (row["action"], row["actor"], row["patient_id"]) == ("purged", "command:purge", None)
    left = json.loads(str(row["changes"]))
    assert left["reason"] == "scheduled before 20250101"
    assert left.keys() == {"reason", "patient_hash"}


def test_retention_deletes_what_is_older_than_each_limit(engine: Engine) -> None:
    now = datetime(2026, 6, 30, 12, tzinfo=UTC)
    sync(engine, "ris", *(record(n, scheduled_start_date=f"2026{n:02}15") for n in range(1, 7)))
    sync(engine, "ris", *(record(n, scheduled_start_date=f"2026{n:02}15") for n in (1, 6)))
    shown = {"at": "", "count": 1, "service": "", "asked": "", "status": "", "matches": 1, "item_ids": "[]"}
    report = {"status": "", "scanner": "", "attributes": "{}", "created_at": ""}
    with engine.begin() as connection:
        for month in range(1, 7):
            at = f"2026-{month:02}-15T00:00:00.000000+00:00"
            connection.execute(insert(access_log), {**shown, "last_at": at})
            values = {"sop_instance_uid": f"1.{month}", "item_ids": f"[{month}]", "updated_at": at}
            connection.execute(insert(mpps_instances), {**report, **values})
        connection.execute(update(worklist_items).values({STATUS: "COMPLETED", "scanner_touched": 1}))

    def kept(**days: int | None) -> tuple[int, int, int]:
        nothing = dict.fromkeys(("audit_days", "runs_days", "items_days", "mpps_days", "access_days"))
        list(prune_history(engine, BOTH, RetentionSettings(**{**nothing, **days}), clock=lambda: now))
        with engine.connect() as connection:
            counts = [connection.scalar(select(func.count()).select_from(table)) or 0
                      for table in (worklist_items, mpps_instances, access_log)]  # fmt: skip
        return counts[0], counts[1], counts[2]

    assert kept() == (6, 6, 6)
    assert kept(access_days=80) == (6, 6, 3)
    # An item stays done when its report goes.
    assert kept(mpps_days=120) == (6, 4, 3)
    assert {item[STATUS] for item in items(engine)} == {"COMPLETED"}
    # A source still gives the oldest; with each of the others go the reports about it alone.
    assert kept(items_days=60) == (3, 2, 3)
    assert [item["patient_id"] for item in items(engine)] == ["P1", "P5", "P6"]
    assert [row["actor"] for row in audited(engine, "purged")] == ["retention"] * 3


def test_purge_never_reads_a_whole_table(engine: Engine) -> None:
    sync(engine, "ris", *(record(n, scheduled_start_date="20240101", accession_number=f"A{n}") for n in range(20)))
    sync(engine, "csv", record(30, accession_number="A1"))
    carry_out(engine, Rules(ranks={"csv": 0}), {"command": "forget", "name": "ris"})
    calls: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda *call: calls.append((call[2], call[3])))
    purge(engine, "20250101")
    asked = [(f"EXPLAIN QUERY PLAN {sql}", values) for sql, values in calls if not sql.startswith("BEGIN")]
    assert [one["patient_id"] for one in items(engine)] == ["P30"]
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            plans = [connection.exec_driver_sql(sql, values).all() for sql, values in asked]
        steps = [row[3] for plan in plans for row in plan]
        # The few records that are not settled have an index of their own.
        read = [step for step in steps if step.startswith("SCAN") and "json_each" not in step]
        assert {step for step in read if "ix_source_entries_unsettled" not in step} <= {"SCAN portion", "SCAN anon_1"}


def test_a_done_exam_whose_patient_id_was_corrected_is_purged_when_its_record_is_gone_and_not_before(
    engine: Engine,
) -> None:
    who = {"scheduled_start_date": "20240101", "patient_name": "Doe^Jane", "patient_birth_date": "19800517"}
    sync(engine, "ris", record(1, **who), record(2))
    with engine.begin() as connection:
        done = {STATUS: "COMPLETED", "scanner_touched": 1}
        connection.execute(update(worklist_items).where(worklist_items.c.patient_id == "P1"), done)
    sync(engine, "ris", {**record(1, **who), "patient_id": "P9"}, record(2))
    assert purge(engine, "20250101").startswith("0 items")
    sync(engine, "ris", record(2))
    assert purge(engine, "20250101").startswith("1 items")
    with engine.connect() as connection:
        assert connection.scalars(select(source_entries.c.patient_id)).all() == ["P2"]


def test_a_live_record_whose_item_is_gone_is_decided_anew_at_the_start(engine: Engine) -> None:
    sync(engine, "ris", *(record(n) for n in range(5)))
    uids = {one["study_instance_uid"] for one in items(engine)}
    with engine.begin() as connection:
        connection.execute(delete(worklist_items).where(worklist_items.c.id < 4))
    assert restore_items(engine, BOTH) == 3
    assert {one["study_instance_uid"] for one in items(engine)} == uids
    assert restore_items(engine, BOTH) == 0


def test_sources_that_are_not_enabled_are_counted_by_what_they_alone_give(engine: Engine) -> None:
    sync(engine, "ris", record(1), record(2), record(3))
    sync(engine, "csv", record(1), record(9))
    with engine.connect() as connection:
        assert find_left_behind(connection, {"ris", "csv"}) == {}
        assert find_left_behind(connection, {"csv"}) == {"ris": 2}
    apply_rules(engine, Rules(ranks={"csv": 0}))
    with engine.connect() as connection:
        assert find_left_behind(connection, {"csv"}) == {"ris": 2}
    carry_out(engine, Rules(ranks={"csv": 0}), {"command": "forget", "name": "ris"})
    with engine.connect() as connection:
        assert find_left_behind(connection, {"csv"}) == {}


def test_a_renamed_source_leaves_no_second_item_behind_when_a_booking_moves(engine: Engine) -> None:
    before, after = Rules(ranks={"csv": 0}), Rules(ranks={"clinic": 0})
    sync(engine, "csv", record(1), record(2), rules=before)
    apply_rules(engine, after)
    sync(engine, "clinic", record(1), record(2), rules=after)
    sync(engine, "clinic", record(1, scheduled_start_date="20261202"), record(2), rules=after)
    scheduled = [
        (one["patient_id"], one["scheduled_start_date"])
        for one in items(engine)
        if one["performed_procedure_step_status"] == "SCHEDULED"
    ]
    assert sorted(scheduled) == [("P1", "20261202"), ("P2", "20261201")]


def test_a_disabled_source_ranks_behind_and_keeps_nobody_whom_an_enabled_one_gave_up(engine: Engine) -> None:
    sync(engine, "ris", record(1, patient_name="Wrong^Name"), record(2))
    sync(engine, "csv", record(1, patient_name="Right^Name"), record(2), record(3), record(4), record(5))
    csv_alone = Rules(ranks={"csv": 0})
    apply_rules(engine, csv_alone)
    assert items(engine)[0]["patient_name"] == "Right^Name"
    sync(engine, "csv", record(1, patient_name="Right^Name"), record(3), record(4), record(5), rules=csv_alone)
    (second,) = [one for one in items(engine) if one["patient_id"] == "P2"]
    assert second["performed_procedure_step_status"] == "CANCELED"
    apply_rules(engine, BOTH)
    (second,) = [one for one in items(engine) if one["patient_id"] == "P2"]
    assert second["performed_procedure_step_status"] == "SCHEDULED"


def test_a_number_that_was_free_while_its_source_was_disabled_is_served_when_it_is_enabled_again(
    engine: Engine,
) -> None:
    sync(engine, "ris", record(1, accession_number="A1"))
    sync(engine, "csv", record(2, accession_number="A1"))
    alone = Rules(ranks={"ris": 0})
    apply_rules(engine, alone)
    sync(engine, "ris", record(1), rules=alone)
    apply_rules(engine, BOTH)
    restore_items(engine, BOTH)
    (waiting,) = [one for one in items(engine) if one["patient_id"] == "P2"]
    assert waiting["performed_procedure_step_status"] == "SCHEDULED"


def test_a_power_cut_takes_back_nothing_that_an_operator_was_told(engine: Engine) -> None:
    with durable_commits(engine) as commits:
        sync(engine, "ris", record(1), record(2))
        assert not any(commits)
        for act in (
            lambda: SourceIngest(engine, "ris", BOTH).accept_removal(),
            lambda: carry_out(
                engine, BOTH, {"command": "set-status", "item": 1, "status": "COMPLETED", "reason": "done"}
            ),
            lambda: carry_out(engine, Rules(ranks={}), {"command": "forget", "name": "ris"}),
            lambda: purge(engine, "20270101"),
            lambda: erase_patient(engine, "P2", "asked for", BOTH),
        ):
            commits.clear()
            act()
            assert commits[0]
        commits.clear()
        sync(engine, "ris", record(3))
        assert not any(commits)
