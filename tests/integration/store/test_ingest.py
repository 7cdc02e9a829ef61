"""One source's cycles: what is new, changed, repeated, bad, moved; and that frames may come twice."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from worklist_store import (
    Feed,
    check_audit,
    claims,
    items,
    quarantine,
    record,
    report_from_scanner,
    rows,
    runs,
    served,
)

from pylantir.entry import CANCELED, COMPLETED, SCHEDULED
from pylantir.ipc.cycles import Rejection
from pylantir.store.decide.claims import STATUS
from pylantir.store.schema.engine import open_for_writing
from pylantir.store.schema.tables import audit_log, source_entries, worklist_items
from pylantir.store.schema.upgrade import prepare_database


def counts(run: dict[str, object]) -> tuple[object, ...]:
    return tuple(run[name] for name in ("fetched", "inserted", "updated", "unchanged", "cancelled", "rejected"))


def test_new_changed_unchanged_and_gone_records_are_counted(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(*(record(str(n), patient=f"P{n}") for n in range(4)))
    feed.sync(record("0", patient="P0"), record("1", patient="P1", protocol_name="KNEE"), record("9", patient="P9"))
    assert [counts(run) for run in runs(store)] == [(4, 4, 0, 0, 0, 0), (3, 1, 1, 1, 2, 0)]
    assert [one[0] for one in served(store)] == ["P0", "P1", "P9"]
    check_audit(store)


def test_nothing_is_written_to_the_items_when_nothing_has_changed(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("1"), record("2", patient="P2"))
    before = rows(store, worklist_items), rows(store, audit_log), rows(store, source_entries)
    feed.sync(record("2", patient="P2"), record("1"))
    assert (rows(store, worklist_items), rows(store, audit_log), rows(store, source_entries)) == before


def test_a_run_says_when_it_began_and_ended_and_whether_it_was_whole(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("1"))
    feed.sync(record("1"), complete=False)
    feed.sync(error="the server is down")
    first, second, third = runs(store)
    for run in (first, second, third):
        assert run["data_source"] == "ris"
        assert run["started_at"] < run["finished_at"]
        assert run["started_at"].endswith("+00:00")
        assert len(run["started_at"]) == len("2026-01-01T00:00:00.000000+00:00")
    assert [(run["complete"], run["error"]) for run in (first, second, third)] == [
        (1, None), (0, None), (0, "the server is down"),
    ]  # fmt: skip
    assert feed.ingest.find_last_success() == second["started_at"]


def test_every_frame_may_come_twice_the_end_too(store: Engine) -> None:
    feed = Feed(store, "ris")
    batches = feed.batches([record(str(n), patient=f"P{n}") for n in range(6)], size=2)
    end = feed.end(batches)
    for batch in (batches[0], batches[0], batches[1], batches[0], batches[1], batches[2]):
        feed.ingest.apply_batch(batch)
    summary = feed.ingest.finish_cycle(end)
    before = rows(store, worklist_items), rows(store, audit_log), runs(store)
    for restarted in (False, True):
        if restarted:
            feed.restart()
        feed.ingest.apply_batch(batches[2])
        assert feed.ingest.finish_cycle(end) == summary
    assert (rows(store, worklist_items), rows(store, audit_log), runs(store)) == before
    assert counts(runs(store)[0]) == (6, 6, 0, 0, 0, 0)
    feed.sync(record("0", patient="P0"))
    assert len(runs(store)) == 2


def test_a_repeated_empty_cycle_is_no_second_sighting(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("1"))
    end = feed.end([])
    first = feed.ingest.finish_cycle(end)
    feed.restart()
    assert first.held is not None
    assert feed.ingest.finish_cycle(end).held == first.held


def test_an_exact_repeat_counts_once_and_another_record_of_the_same_name_is_refused(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("1"), record("1"), record("1", protocol_name="KNEE"))
    assert counts(runs(store)[0]) == (2, 1, 0, 0, 0, 1)
    assert items(store)[0]["protocol_name"] is None
    assert quarantine(store)["ris", "id:1"]["field"] == "source_record_id"
    feed.sync(record("1"))
    assert quarantine(store) == {}


def test_repeats_are_recognised_across_batches(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("1"), record("1"), record("1", protocol_name="KNEE"), size=1)
    assert counts(runs(store)[0]) == (2, 1, 0, 0, 0, 1)


def test_repeats_are_told_once_until_their_number_changes(store: Engine, caplog: pytest.LogCaptureFixture) -> None:
    feed = Feed(store, "ris")
    for count in (3, 3, 4, 1, 2):
        feed.sync(*[record("1")] * count, size=1)
    said = [line for line in caplog.messages if "exact repeats" in line]
    assert said == [f"source ris: {count} exact repeats in one fetch count once" for count in (2, 3, 1)]


def test_what_follows_nothing_but_news_is_looked_at_all_the_same(store: Engine) -> None:
    feed = Feed(store, "ris")
    old = [record(str(n), patient=f"P{n}") for n in range(3)]
    feed.sync(*old)
    feed.sync(old[0], old[2])
    key, fields = record("7", patient="P7")
    spoilt = (key, {**fields, "patient_name": "Doe\ud800"})
    news = [record(str(n), patient=f"P{n}") for n in (3, 4, 5, 6, 8)]
    # Each in a batch of its own, after one that had only news: gone before, repeated, changed, not to be stored.
    moved = record("2", patient="P2", protocol_name="KNEE")
    feed.sync(news[0], old[1], news[1], news[1], news[2], moved, news[3], spoilt, news[4], old[0], size=1)
    assert [one[0] for one in served(store)] == ["P0", "P1", "P2", "P3", "P4", "P5", "P6", "P8"]
    assert items(store, patient_id="P2")[0]["protocol_name"] == "KNEE"
    assert list(quarantine(store)) == [("ris", "id:7")]
    assert counts(runs(store)[-1]) == (9, 6, 1, 1, 0, 1)


def test_an_incremental_source_may_tell_a_record_twice_the_later_one_counts(store: Engine) -> None:
    Feed(store, "ris").sync(record("1"), record("1", protocol_name="KNEE"), snapshot=False)
    assert items(store)[0]["protocol_name"] == "KNEE"
    assert quarantine(store) == {}


def test_a_bad_record_waits_in_quarantine_until_it_is_mended(store: Engine) -> None:
    feed = Feed(store, "ris")
    bad = Rejection("id:2", "patient_birth_date", "there is no such day", "P2")
    feed.sync(record("1"), rejected=[bad])
    feed.sync(record("1"), rejected=[bad])
    row = quarantine(store)["ris", "id:2"]
    assert (row["field"], row["reason"], row["times_seen"]) == ("patient_birth_date", "there is no such day", 2)
    assert row["first_seen_at"] < row["last_seen_at"]
    assert counts(runs(store)[1]) == (2, 0, 0, 1, 0, 1)
    feed.sync(record("1"), record("2", patient="P2"))
    assert quarantine(store) == {}


def test_a_record_that_becomes_unreadable_keeps_its_item(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("1"), record("2", patient="P2"), record(patient="P3"))
    rejected = [Rejection("id:2", "patient_birth_date", "no such day"), Rejection("row 3", "modality", "bad", "P3")]
    feed.sync(record("1"), rejected=rejected)
    assert [one[0] for one in served(store)] == ["P1", "P2", "P3"]


def test_an_unreadable_record_that_was_gone_before_hides_no_removal(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(*(record(str(n), patient=f"P{n}") for n in range(4)))
    feed.sync(*(record(str(n), patient=f"P{n}") for n in range(3)))
    feed.sync(*(record(str(n), patient=f"P{n}") for n in range(2)), rejected=[Rejection("id:3", "modality", "bad")])
    assert [one[0] for one in served(store)] == ["P0", "P1"]


@pytest.mark.parametrize("character", ["\ud800", "\x00"])
def test_a_record_that_the_database_refuses_is_quarantined_alone(store: Engine, character: str) -> None:
    feed = Feed(store, "ris")
    good = [record(str(n), patient=f"P{n}") for n in range(3)]
    feed.sync(*good)
    spoilt = {**good[1][1], "patient_name": f"Doe{character}"}
    feed.sync(good[0], (good[1][0], spoilt), good[2], record("7", patient="P7"))
    if store.dialect.name == "sqlite" and character == "\x00":
        assert quarantine(store) == {}  # SQLite stores it, and mapping never lets it come so far
    else:
        assert list(quarantine(store)) == [("ris", "id:1")]
        assert counts(runs(store)[1]) == (4, 1, 0, 2, 0, 1)
    assert [one[0] for one in served(store)] == ["P0", "P1", "P2", "P7"]


@pytest.mark.parametrize("character", ["\ud800", "\x00"])
def test_keys_and_errors_that_the_database_refuses_stop_nothing(store: Engine, character: str) -> None:
    feed = Feed(store, "ris")
    bad = f"id:{character}"
    unstorable = (bad, {"patient_id": character, "scheduled_start_date": "20300701"})
    feed.sync(
        record("1"),
        unstorable,
        present=[bad],
        rejected=[Rejection(f"row {character}", "", "bad")],
        error=f"no {character}",
    )
    assert [one[0] for one in served(store)][-1:] == ["P1"]
    assert runs(store)[0]["error"].startswith("no \\")


def test_what_cannot_be_stored_keeps_the_order_of_its_batch(store: Engine) -> None:
    spoilt = ("id:9", {"patient_id": "P9\ud800", "scheduled_start_date": "20300701"})
    Feed(store, "ris").sync(record("1"), record("1", protocol_name="KNEE"), spoilt)
    assert items(store, patient_id="P1")[0]["protocol_name"] is None


def test_without_a_record_id_one_vanished_and_one_new_record_are_a_move(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record(scheduled_start_time="090000"), record(patient="P2"))
    before = items(store, patient_id="P1")[0]
    feed.sync(record(scheduled_start_time="110000"), record(patient="P2"))
    (after,) = items(store, patient_id="P1")
    assert after["scheduled_start_time"] == "110000"
    assert (after["id"], after["study_instance_uid"]) == (before["id"], before["study_instance_uid"])
    assert counts(runs(store)[1]) == (2, 0, 1, 1, 0, 0)
    check_audit(store)


def test_a_possible_move_waits_for_the_end_of_the_snapshot(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record(scheduled_start_time="090000"))
    batches = feed.batches([record(scheduled_start_time="110000"), record(scheduled_start_time="090000")], size=1)
    feed.ingest.apply_batch(batches[0])
    assert served(store) == [("P1", "20300701", "090000")]
    feed.ingest.apply_batch(batches[1])
    feed.ingest.finish_cycle(feed.end(batches))
    assert served(store) == [("P1", "20300701", "090000"), ("P1", "20300701", "110000")]
    assert counts(runs(store)[1]) == (2, 1, 0, 1, 0, 0)


def test_a_possible_move_survives_a_failed_cycle_and_another_writer(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record(scheduled_start_time="090000"), record(patient="P2"))
    (before,) = items(store, patient_id="P1")
    moved = record(scheduled_start_time="110000"), record(patient="P2")
    feed.sync(*moved, error="the line broke")
    feed.restart()
    feed.sync(*moved)
    (after,) = items(store, patient_id="P1")
    assert (after["id"], after["scheduled_start_time"]) == (before["id"], "110000")
    assert counts(runs(store)[2]) == (2, 0, 1, 1, 0, 0)


def test_back_and_forth_moves_never_use_a_uid_twice(store: Engine) -> None:
    feed = Feed(store, "ris")
    nine, eleven = record(scheduled_start_time="090000"), record(scheduled_start_time="110000")
    feed.sync(nine, record(patient="P2"))
    feed.sync(eleven, record(patient="P2"))
    (moved,) = items(store, patient_id="P1")
    feed.sync(eleven, nine, record(patient="P2"))
    first, second = items(store, patient_id="P1")
    assert (first["id"], first["scheduled_start_time"]) == (moved["id"], "110000")
    assert second["scheduled_start_time"] == "090000"
    assert first["study_instance_uid"] != second["study_instance_uid"]


def test_several_vanished_and_new_records_are_no_move(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(*(record(scheduled_start_time=f"0{hour}0000") for hour in (8, 9)), record(patient="P2"))
    before = {one["id"] for one in items(store)}
    feed.sync(*(record(scheduled_start_time=f"1{hour}0000") for hour in (0, 1)), record(patient="P2"))
    assert served(store) == [("P1", "20300701", "100000"), ("P1", "20300701", "110000"), ("P2", "20300701", "090000")]
    assert len({one["id"] for one in items(store)} - before) == 2


def test_a_changed_time_or_date_moves_the_item(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("1"))
    before = items(store)
    feed.sync(record("1", scheduled_start_date="20300809"))
    (after,) = items(store)
    assert after["scheduled_start_date"] == "20300809"
    assert after["study_instance_uid"] == before[0]["study_instance_uid"]


def test_a_changed_patient_is_a_new_item_and_the_way_back_finds_the_old_one(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("1"))
    feed.sync(record("1", patient="P2"))
    old, new = items(store)
    assert (old["patient_id"], old[STATUS], new["patient_id"], new[STATUS]) == ("P1", CANCELED, "P2", SCHEDULED)
    assert old["study_instance_uid"] != new["study_instance_uid"]
    assert counts(runs(store)[1]) == (1, 0, 1, 0, 1, 0)
    feed.sync(record("1"))
    assert [(one["id"], one[STATUS]) for one in items(store)] == [(old["id"], SCHEDULED), (new["id"], CANCELED)]
    check_audit(store)


def test_a_changed_patient_leaves_a_started_item_alone(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("1"))
    report_from_scanner(store, items(store)[0]["id"], COMPLETED)
    feed.sync(record("1", patient="P2"))
    assert [(one["patient_id"], one[STATUS]) for one in items(store)] == [("P1", COMPLETED), ("P2", SCHEDULED)]
    feed.sync(record("1", patient="P2"), record("2"))
    assert [one[0] for one in served(store)] == ["P1", "P2"]
    check_audit(store)


def test_a_withdrawn_record_comes_back_to_its_item(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("1"), record("2", patient="P2"))
    before = items(store, patient_id="P1")
    feed.sync(record("2", patient="P2"))
    assert items(store, patient_id="P1")[0][STATUS] == CANCELED
    feed.sync(record("1"), record("2", patient="P2"))
    (after,) = items(store, patient_id="P1")
    assert {**after, "updated_at": ""} == {**before[0], "updated_at": ""}
    assert [line["action"] for line in rows(store, audit_log) if line["patient_id"] == "P1"] == [
        "created", "cancelled", "revived",
    ]  # fmt: skip
    check_audit(store)


def test_a_source_that_returns_to_a_taken_item_does_not_share_it(store: Engine) -> None:
    ris, csv = Feed(store, "ris"), Feed(store, "csv")
    ris.sync(record("1"), record("other", patient="P2"))
    csv.sync(record("1"))
    ris.sync(record("other", patient="P2"))
    ris.sync(record("2"), record("other", patient="P2"))
    (item,) = items(store, patient_id="P1")
    report_from_scanner(store, item["id"], COMPLETED)
    ris.sync(record("1"), record("2"), record("other", patient="P2"))
    assert [(one[STATUS], one["source_record_id"]) for one in items(store, patient_id="P1")] == [
        (COMPLETED, "2"), (SCHEDULED, "1"),
    ]  # fmt: skip


def test_an_incremental_source_says_what_exists_without_sending_it(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(*(record(str(n), patient=f"P{n}") for n in range(4)), snapshot=False, complete=False)
    feed.sync(present=["id:0", "id:1", "id:2"], snapshot=False)
    assert [one[0] for one in served(store)] == ["P0", "P1", "P2"]
    feed.sync(present=["id:0", "id:1", "id:2", "id:3"], snapshot=False)
    assert [one[0] for one in served(store)] == ["P0", "P1", "P2", "P3"]


def test_what_an_incremental_source_does_not_resend_stays_in_quarantine(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("1"), rejected=[Rejection("id:2", "modality", "bad")], snapshot=False, present=["id:1", "id:2"])
    feed.sync(present=["id:1", "id:2"], snapshot=False)
    assert list(quarantine(store)) == [("ris", "id:2")]
    feed.sync(present=["id:1"], snapshot=False)
    assert quarantine(store) == {}


def test_a_status_that_a_source_maps_counts_until_a_scanner_reports(store: Engine) -> None:
    feed = Feed(store, "ris")
    done = record("1", performed_procedure_step_status=COMPLETED)
    feed.sync(done, record("2", patient="P2"))
    assert items(store, patient_id="P1")[0][STATUS] == COMPLETED
    feed.sync(record("2", patient="P2"))
    assert items(store, patient_id="P1")[0][STATUS] == COMPLETED
    item = items(store, patient_id="P2")[0]["id"]
    report_from_scanner(store, item, "IN_PROGRESS")
    feed.sync(done, record("2", patient="P2", performed_procedure_step_status=SCHEDULED))
    assert items(store, patient_id="P2")[0][STATUS] == "IN_PROGRESS"
    check_audit(store)


def test_later_wishes_about_a_started_item_are_audited_once_while_they_last_and_change_nothing(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("1"), record("2", patient="P2"))
    report_from_scanner(store, items(store)[0]["id"], "IN_PROGRESS")
    (before, _) = items(store)
    for _ in range(3):
        feed.sync(record("1", protocol_name="KNEE", station_name="MR3"), record("2", patient="P2"))
        feed.sync(record("1", protocol_name="KNEE"), record("2", patient="P2"))
    feed.sync(record("2", patient="P2"))
    (after, _) = items(store)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == set()
    lines = [json.loads(line["changes"]) for line in rows(store, audit_log) if line["action"] == "conflict"]
    assert [(name, told["lost"]) for line in lines for name, told in line.items()] == [
        ("protocol_name", "KNEE"), *[("station_name", "MR3")] * 3, (STATUS, CANCELED),
    ]  # fmt: skip


def test_the_audit_log_cannot_be_changed(store: Engine) -> None:
    Feed(store, "ris").sync(record("1"))
    before = rows(store, audit_log)
    for statement in ("UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log"):
        with pytest.raises(DBAPIError, match="append-only"), store.begin() as connection:
            connection.execute(text(statement))
    assert rows(store, audit_log) == before
    assert [line["actor"] for line in before] == ["source:ris"]


def test_a_record_of_another_source_is_not_touched_by_a_cycle(store: Engine) -> None:
    Feed(store, "csv").sync(record("1", patient="P7"))
    Feed(store, "ris").sync(record("1", patient="P8"))
    assert claims(store) == {("csv", "id:1"): ("live", 1), ("ris", "id:1"): ("live", 2)}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "worklist.db"


def test_a_full_disk_changes_nothing_and_the_next_try_works(database: Path) -> None:
    engine = open_for_writing(f"sqlite:///{database}")
    prepare_database(engine)
    feed = Feed(engine, "ris")
    feed.sync(record("0", patient="P0"))
    before = rows(engine, worklist_items), rows(engine, source_entries), rows(engine, audit_log)
    batches = feed.batches([record(str(n), patient=f"P{n}") for n in range(500)])
    with engine.connect() as connection:
        pages = connection.scalar(text("PRAGMA page_count"))
        connection.execute(text(f"PRAGMA max_page_count={pages + 3}"))
    with pytest.raises(OperationalError, match="full"):
        feed.ingest.apply_batch(batches[0])
    assert (rows(engine, worklist_items), rows(engine, source_entries), rows(engine, audit_log)) == before
    with engine.connect() as connection:
        connection.execute(text("PRAGMA max_page_count=1000000"))
    feed.ingest.apply_batch(batches[0])
    feed.ingest.finish_cycle(feed.end(batches))
    assert len(items(engine)) == 500
    assert counts(runs(engine)[1]) == (500, 499, 0, 1, 0, 0)
    check_audit(engine)
    engine.dispose()


def test_a_locked_database_changes_nothing_and_the_next_try_works(database: Path) -> None:
    engine = open_for_writing(f"sqlite:///{database}")
    prepare_database(engine)
    feed = Feed(engine, "ris")
    with engine.connect() as connection:
        connection.execute(text("PRAGMA busy_timeout=1"))
    batches = feed.batches([record("1")])
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match="locked"):
        feed.ingest.apply_batch(batches[0])
    other.execute("ROLLBACK")
    feed.ingest.apply_batch(batches[0])
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match="locked"):
        feed.ingest.finish_cycle(feed.end(batches))
    other.close()
    assert runs(engine) == []
    feed.ingest.finish_cycle(feed.end(batches))
    assert counts(runs(engine)[0]) == (1, 1, 0, 0, 0, 0)
    engine.dispose()


def test_indexes_of_few_rows_have_no_others(store: Engine) -> None:
    listing = (
        "SELECT indexdef FROM pg_indexes" if store.dialect.name == "postgresql" else "SELECT sql FROM sqlite_master"
    )
    with store.connect() as connection:
        definitions = [str(row[0]) for row in connection.exec_driver_sql(listing)]
    for name in ("supplied_uid", "started", "unsettled"):
        (definition,) = (one for one in definitions if f"_{name} ON " in one)
        assert " WHERE " in definition
