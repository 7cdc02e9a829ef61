"""MPPS in a real database: durable, linked, answered once and for all."""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select
from worklist_store import RULES, Feed, durable_commits, in_columns, items, record

from pylantir.entry import CANCELED
from pylantir.errors import WriterUnavailable
from pylantir.ipc.cycles import CycleEnd, EntryBatch
from pylantir.mpps.model import MppsAnswer, MppsRequest
from pylantir.store.change.reports import ANSWERS_KEPT, record_report
from pylantir.store.change.retention import purge_items
from pylantir.store.decide.claims import STATUS, Rules
from pylantir.store.intake.cycle import SourceIngest
from pylantir.store.schema.engine import open_for_writing, transaction
from pylantir.store.schema.tables import audit_log, mpps_instances, mpps_requests, worklist_items
from pylantir.store.schema.upgrade import prepare_database

NOW = datetime.datetime(2026, 1, 5, 10, 30, tzinfo=datetime.UTC)
TODAY = "20260105"


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'w.db'}" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    opened = open_for_writing(url)
    prepare_database(opened)
    yield opened
    opened.dispose()


def add_items(engine: Engine, *items: dict[str, Any]) -> None:
    common = {
        "patient_id": "P1",
        "modality": "MR",
        "scheduled_start_date": TODAY,
        "scheduled_start_time": "103000",
        "performed_procedure_step_status": "SCHEDULED",
        "accession_number": None,
        "generated_study_uid": None,
        "scheduled_procedure_step_id": None,
    }
    with engine.begin() as connection:
        for number, item in enumerate(items, start=1):
            connection.execute(
                insert(worklist_items), {**common, "id": number, "study_instance_uid": f"1.{number}", **item}
            )


def element(vr: str, *values: object) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def step(study_uid: str = "", step_id: str = "", accession: str = "") -> dict[str, Any]:
    return {
        "0020000D": element("UI", *filter(None, [study_uid])),
        "00400009": element("SH", *filter(None, [step_id])),
        "00080050": element("SH", *filter(None, [accession])),
    }


_numbers = itertools.count()


def report(
    engine: Engine,
    operation: Any,
    attributes: dict[str, Any],
    *,
    uid: str = "2.25.7",
    request_id: str | None = None,
    now: datetime.datetime = NOW,
    strict: bool = False,
) -> MppsAnswer:
    request = MppsRequest(
        request_id=request_id or f"r{next(_numbers)}",
        operation=operation,
        sop_instance_uid=uid,
        scanner="MR1",
        attributes=attributes,
    )
    return record_report(engine, request, RULES, strict=strict, now=now, today=TODAY)


def begin(
    engine: Engine, *steps: dict[str, Any], patient: str = "P1", person: dict[str, Any] | None = None, **how: Any
) -> MppsAnswer:
    attributes = {
        **(person or {}),
        "00400270": element("SQ", *steps),
        "00100020": element("LO", patient),
        "00080060": element("CS", "MR"),
        "00400252": element("CS", "IN PROGRESS"),
        "00400244": element("DA", TODAY),
        "00400245": element("TM", "103000"),
    }
    return report(engine, "create", attributes, **how)


def end(engine: Engine, status: str = "COMPLETED", **how: Any) -> MppsAnswer:
    series = {"0020000E": element("UI", "1.2.3.4"), "00181030": element("LO", "BRAIN")}
    attributes = {
        "00400252": element("CS", status),
        "00400250": element("DA", TODAY),
        "00400251": element("TM", "110000"),
        "00400340": element("SQ", series),
    }
    return report(engine, "set", attributes, **how)


def statuses(engine: Engine) -> list[tuple[str, int]]:
    columns = worklist_items.c
    statement = select(columns.performed_procedure_step_status, columns.scanner_touched).order_by(columns.id)
    with engine.connect() as connection:
        return [(status, touched) for status, touched in connection.execute(statement)]


def audited(engine: Engine) -> list[tuple[str, str, int | None, dict[str, Any]]]:
    with engine.connect() as connection:
        rows = connection.execute(select(audit_log).order_by(audit_log.c.id)).all()
    return [(row.actor, row.action, row.item_id, json.loads(row.changes)) for row in rows]


def test_an_item_follows_its_scan_and_the_audit_tells_who_and_when(engine: Engine) -> None:
    add_items(engine, {}, {})
    assert begin(engine, step("1.2", "2")).status == 0
    assert statuses(engine) == [("SCHEDULED", 0), ("IN_PROGRESS", 1)]
    assert end(engine).status == 0
    assert statuses(engine) == [("SCHEDULED", 0), ("COMPLETED", 1)]
    started, completed = audited(engine)
    assert started[:3] == ("scanner:MR1", "started", 2)
    assert started[3]["performed_procedure_step_status"] == ["SCHEDULED", "IN_PROGRESS"]
    assert started[3]["linked_by"] == "study UID"
    assert completed[:3] == ("scanner:MR1", "completed", 2)
    assert (completed[3]["began"], completed[3]["ended"]) == (f"{TODAY} 103000", f"{TODAY} 110000")
    assert completed[3]["series"] == "1"


def test_a_repeat_with_the_same_id_gets_the_same_answer_and_changes_nothing(engine: Engine) -> None:
    add_items(engine, {})
    first = begin(engine, step("1.1"), request_id="same")
    assert begin(engine, step("1.1"), request_id="same") == first
    assert first.status == 0
    assert begin(engine, step("1.1"), request_id="another").status == 0x0111
    assert begin(engine, step("1.1"), request_id="another").status == 0x0111
    assert end(engine, request_id="end").status == 0
    assert end(engine, request_id="end").status == 0
    assert end(engine, request_id="later").error_id == 0xA710
    assert [action for _, action, _, _ in audited(engine)] == ["started", "completed"]


def test_a_repeat_is_answered_by_a_commit_that_waits_for_the_first_one(engine: Engine) -> None:
    """A server that was restarted within a COMMIT shows what no standby has yet."""
    add_items(engine, {})
    with durable_commits(engine) as commits:
        for minutes in (0, 1):
            begin(engine, step("1.1"), request_id="same", now=NOW + datetime.timedelta(minutes=minutes))
        assert commits == [True, True]
    with engine.connect() as connection:
        written = connection.scalar(select(mpps_requests.c.at))
    assert written == (NOW + datetime.timedelta(minutes=1)).isoformat(timespec="microseconds"), "it writes"


def test_what_the_scanner_no_longer_waits_for_is_not_stored(engine: Engine) -> None:
    add_items(engine, {})
    request = MppsRequest(
        request_id="late", operation="create", sop_instance_uid="2.25.9", scanner="MR1", attributes={}
    )
    with pytest.raises(WriterUnavailable):
        record_report(engine, request, RULES, strict=False, now=NOW, today=TODAY, is_awaited=lambda: False)
    assert audited(engine) == []
    with engine.connect() as connection:
        for table in (mpps_instances, mpps_requests):
            assert connection.scalar(select(func.count()).select_from(table)) == 0


def test_what_was_stored_is_answered_though_the_scanner_no_longer_waits(engine: Engine) -> None:
    request = MppsRequest(
        request_id="first", operation="create", sop_instance_uid="2.25.9", scanner="MR1", attributes={}
    )
    stored = record_report(engine, request, RULES, strict=False, now=NOW, today=TODAY)
    late = record_report(engine, request, RULES, strict=False, now=NOW, today=TODAY, is_awaited=lambda: False)
    repeat = replace(request, request_id="second", repeats="first")
    assert stored.status == 0
    assert late == stored
    assert record_report(engine, repeat, RULES, strict=False, now=NOW, today=TODAY) == stored


def test_old_answers_are_forgotten(engine: Engine) -> None:
    begin(engine, request_id="old")
    later = NOW + ANSWERS_KEPT + datetime.timedelta(seconds=1)
    end(engine, request_id="new", now=later)
    with engine.connect() as connection:
        assert list(connection.scalars(select(mpps_requests.c.request_id))) == ["new"]


def test_several_steps_in_one_report_end_together(engine: Engine) -> None:
    add_items(engine, {"study_instance_uid": "1.9"}, {"study_instance_uid": "1.9"}, {"study_instance_uid": "1.9"})
    begin(engine, step("1.9", "1"), step("1.9", "3"))
    end(engine, "DISCONTINUED")
    assert statuses(engine) == [("DISCONTINUED", 1), ("SCHEDULED", 0), ("DISCONTINUED", 1)]
    assert [(action, item) for _, action, item, _ in audited(engine)] == [
        ("started", 1),
        ("started", 3),
        ("discontinued", 1),
        ("discontinued", 3),
    ]


def test_an_unscheduled_exam_is_recorded_without_an_item(engine: Engine) -> None:
    add_items(engine, {"patient_id": "P2"})
    assert begin(engine, step("9.9.9"), patient="EMERGENCY").status == 0
    assert end(engine).status == 0
    assert statuses(engine) == [("SCHEDULED", 0)]
    assert [(action, item) for _, action, item, _ in audited(engine)] == [("started", None), ("completed", None)]
    with engine.connect() as connection:
        (row,) = connection.execute(select(mpps_instances)).all()
    assert (row.status, row.patient_id, row.scanner, row.item_ids) == ("COMPLETED", "EMERGENCY", "MR1", "[]")


@pytest.mark.parametrize(
    ("item", "named"),
    [
        ({"generated_study_uid": "2.25.1"}, step("2.25.1", "1")),
        ({"accession_number": "A1"}, step("9.9.9", accession="A1")),
        ({}, step("9.9.9")),
        ({"scheduled_procedure_step_id": "S7"}, step("1.1", "S7")),
    ],
    ids=["generated UID", "accession number", "patient", "mapped step ID"],
)
def test_every_rule_finds_its_item(engine: Engine, item: dict[str, Any], named: dict[str, Any]) -> None:
    add_items(engine, item)
    begin(engine, named)
    assert statuses(engine) == [("IN_PROGRESS", 1)]


def test_an_item_that_came_after_the_scan_began_is_found_when_it_ends(engine: Engine) -> None:
    begin(engine, step("1.1"))
    add_items(engine, {})
    end(engine)
    assert statuses(engine) == [("COMPLETED", 1)]
    assert audited(engine)[-1][2] == 1


def test_a_report_on_an_exam_that_was_cancelled_counts_and_is_told_once(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    add_items(engine, {STATUS: CANCELED})
    begin(engine, step("1.1", "1"))
    end(engine)
    assert statuses(engine) == [("COMPLETED", 1)]
    assert [line for line in caplog.messages if "cancelled" in line] == [
        "item 1 was cancelled, and MR1 reports on it: if the exam is booked anew, cancel that booking"
    ]


@pytest.mark.parametrize(
    "mary",
    [
        {"00100030": element("DA", "1990.03.03")},
        {"00100040": element("CS", "F")},
        {"00100010": element("PN", {"Alphabetic": "Jones^Mary"})},
    ],
    ids=["birth date", "sex", "name"],
)
def test_an_unbooked_exam_does_not_end_another_person_s_with_the_same_patient_id(
    engine: Engine, mary: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    add_items(engine, {"patient_name": "Smith^John", "patient_birth_date": "19700102", "patient_sex": "M"})
    assert begin(engine, step("9.9.9"), person=mary).status == 0
    assert end(engine).status == 0
    assert statuses(engine) == [("SCHEDULED", 0)]
    assert audited(engine)[0][3]["items_of_others"] == "1"
    assert "MPPS of MR1 does not count for items of other patients: 1" in caplog.text
    assert "Jones" not in caplog.text
    john = {"00100010": element("PN", {"Alphabetic": "SMITH^JOHN^^^"}), "00100030": element("DA", "19700102")}
    begin(engine, step("9.9.9"), person=john, uid="2.25.8")
    assert statuses(engine) == [("IN_PROGRESS", 1)]


def test_an_update_is_audited_and_leaves_the_status(engine: Engine) -> None:
    add_items(engine, {})
    begin(engine, step("1.1"))
    assert report(engine, "set", {"00400254": element("LO", "knee")}).status == 0
    assert statuses(engine) == [("IN_PROGRESS", 1)]
    actor, action, item, changes = audited(engine)[-1]
    assert (actor, action, item) == ("scanner:MR1", "updated", 1)
    assert changes == {"mpps": "2.25.7", "attributes": "00400254"}


def test_a_second_scan_of_a_discontinued_step_takes_it_up_again_and_completed_stays(engine: Engine) -> None:
    add_items(engine, {})
    for uid, status in (("2.25.1", "DISCONTINUED"), ("2.25.2", "COMPLETED"), ("2.25.3", "DISCONTINUED")):
        assert begin(engine, step("1.1"), uid=uid).status == 0
        assert end(engine, status, uid=uid).status == 0
    assert statuses(engine) == [("COMPLETED", 1)]
    changes = [change["performed_procedure_step_status"][1] for _, _, _, change in audited(engine)]
    assert changes == ["IN_PROGRESS", "DISCONTINUED", "IN_PROGRESS", "COMPLETED", "COMPLETED", "COMPLETED"]


def test_a_refused_report_leaves_no_trace_but_its_answer(engine: Engine) -> None:
    add_items(engine, {})
    assert begin(engine, step("1.1"), strict=True).status == 0x0120
    assert end(engine).status == 0x0112
    assert statuses(engine) == [("SCHEDULED", 0)]
    assert audited(engine) == []
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(mpps_requests)) == 2


def test_no_sync_changes_what_a_scanner_has_started(engine: Engine) -> None:
    ingest = SourceIngest(engine, "clinic", Rules(ranks={"clinic": 0}))
    entry = {"patient_id": "P1", "scheduled_start_date": TODAY, "modality": "MR", "accession_number": "A1"}

    def sync(cycle: str, *records: dict[str, str]) -> None:
        started = NOW.isoformat()
        batch = in_columns([("acc:A1", record) for record in records])
        ingest.apply_batch(EntryBatch(cycle=cycle, seq=1, started_at=started, snapshot=True, records=batch))
        ingest.finish_cycle(CycleEnd(cycle=cycle, seq=2, started_at=started, complete=True))

    sync("c1", entry)
    begin(engine, step(accession="A1"))
    sync("c2", entry | {"scheduled_start_date": "20270101"})
    sync("c3")
    assert statuses(engine) == [("IN_PROGRESS", 1)]
    end(engine)
    sync("c4", entry)
    assert statuses(engine) == [("COMPLETED", 1)]


def test_a_power_cut_does_not_take_back_what_the_scanner_was_told(engine: Engine) -> None:
    add_items(engine, {})
    with durable_commits(engine) as commits:
        begin(engine, step("1.1"))
        end(engine)
        assert commits == [True, True]
        with pytest.raises(ZeroDivisionError), transaction(engine):
            raise ZeroDivisionError
        Feed(engine, "ris").sync(record("r1", "P9"))
        assert not any(commits[2:])


@pytest.mark.parametrize(
    ("day", "status", "same_uid"), [("20260105", "COMPLETED", True), ("20270105", "SCHEDULED", False)]
)
def test_a_purged_exam_takes_its_report_along_and_is_done_when_it_is_listed_again(
    engine: Engine, day: str, status: str, same_uid: bool
) -> None:
    feed = Feed(engine, "ris")
    feed.sync(record(None, "P1", accession_number="A1", scheduled_start_date="20260105"), record("x", "P2"))
    (item, _) = items(engine)
    uid = item["study_instance_uid"]
    begin(engine, step(uid))
    end(engine)
    feed.sync(record("x", "P2"))
    list(purge_items(engine, "20260201", RULES))
    assert [one["patient_id"] for one in items(engine)] == ["P2"]
    feed.sync(record(None, "P1", accession_number="A1", scheduled_start_date=day), record("x", "P2"))
    (again,) = items(engine, patient_id="P1")
    assert (again["performed_procedure_step_status"], again["study_instance_uid"] == uid) == (status, same_uid)
    assert again["id"] != item["id"]
    with engine.connect() as connection:
        assert connection.execute(select(mpps_instances)).all() == []
