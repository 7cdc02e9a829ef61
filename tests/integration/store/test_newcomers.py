"""Records of unknown patients, stored together: what becomes of them is what would become of each."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine
from worklist_store import (
    RULES,
    Feed,
    Record,
    check_audit,
    in_columns,
    items,
    quarantine,
    record,
    report_from_scanner,
    rows,
    runs,
    served,
)  # fmt: skip

from pylantir.entry import RECORD_FIELDS
from pylantir.store.clock import utc_now
from pylantir.store.decide.records import LIVE, given_fields
from pylantir.store.intake.newcomers import find_undecided_patients, insert_newcomers
from pylantir.store.intake.working_set import WorkingSet
from pylantir.store.schema.engine import open_for_writing
from pylantir.store.schema.facts import ask_facts
from pylantir.store.schema.tables import audit_log, source_entries, worklist_items
from pylantir.store.schema.upgrade import prepare_database

NUMBERED = {"id", "item_id", "scheduled_procedure_step_id", "requested_procedure_id"}

ENABLED = replace(RULES, ranks={**RULES.ranks, "o'ris": 9})
QUIET: Any = {"is_seen": lambda _: True, "today": "20300701"}


@st.composite
def newcomers(draw: Any, first: int = 0, *, least: int = 1) -> list[Record]:
    optional = {
        "patient_name": st.just("Doe^Jane"), "modality": st.sampled_from(["CT", "MR"]), "accession_number": st.just("A"),
        "study_instance_uid": st.sampled_from(["1.2", "1.3"]), "performed_procedure_step_status": st.just("COMPLETED"),
        "scheduled_procedure_step_id": st.just("S1"), "requested_procedure_id": st.just("R1"),
        "patient_sex": st.just("F"),
    }  # fmt: skip
    count = draw(st.integers(least, 6))
    said = []
    for number in range(first, first + count):
        # Nobody's number is another patient's: that needs a decision.
        patient = draw(st.sampled_from(["P1", "P2", "P'3", "P%s?"]))
        fields = draw(st.fixed_dictionaries({}, optional=optional))
        own = {name: fields[name] + patient[1] for name in ("accession_number",) if name in fields}
        own |= {
            name: fields[name] + f".{patient[1:2].encode()[0]}" for name in ("study_instance_uid",) if name in fields
        }
        said.append(record(str(number), patient=patient, **{**fields, **own}))
    return said


def contents(engine: Engine) -> list[Any]:
    """Everything that was stored, but for the numbers, which follow the order of storing."""
    stored = []
    for table in (worklist_items, source_entries, audit_log):
        for row in rows(engine, table):
            numbers = {name: row.pop(name) for name in NUMBERED & row.keys()}
            if table is worklist_items:
                row |= {
                    n: "own" if numbers[n] == str(numbers["id"]) else numbers[n]
                    for n in NUMBERED & set(numbers) - {"id"}
                }
            elif table is source_entries:
                row |= {name: numbers[name] for name in NUMBERED & set(RECORD_FIELDS) & set(numbers)}
            stored.append((table.name, sorted(row.items(), key=str)))
    return sorted(stored, key=str)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(newcomers(100, least=0), newcomers())
def test_together_they_become_what_each_becomes_by_itself(stored: list[Record], said: list[Record]) -> None:
    now = utc_now()
    # Earlier records of the same patients; what is not scheduled any more needs a decision.
    for _, fields in stored:
        fields.pop("performed_procedure_step_status", None)
    columns = in_columns(said)
    with tempfile.TemporaryDirectory() as folder:
        together, singly = (open_for_writing(f"sqlite:///{Path(folder) / name}") for name in ("a.db", "b.db"))
        prepare_database(together)
        prepare_database(singly)

        def decide(connection: Connection, records: list[Record]) -> None:
            working = WorkingSet(connection, ENABLED, actor="source:o'ris", now=now)
            working.load(fields["patient_id"] for _, fields in records)
            for key, fields in records:
                working.add("o'ris", key, fields, LIVE)
            working.write()

        for engine in (together, singly):
            with engine.begin() as connection:
                decide(connection, stored)
        with together.begin() as connection:
            facts = ask_facts(connection)()
            assert find_undecided_patients(connection, "o'ris", columns, facts=facts, **QUIET) == set()
            record_ids, item_ids = insert_newcomers(connection, "o'ris", columns, now, facts=facts)
        with singly.begin() as connection:
            decide(connection, said)
        assert contents(together) == contents(singly)
        # In the order of the records, and each with its own item.
        claims = {row["id"]: row for row in rows(together, source_entries)}
        assert [claims[number]["record_key"] for number in record_ids] == [key for key, _ in said]
        assert [claims[number]["item_id"] for number in record_ids] == list(item_ids)
        check_audit(together)
        together.dispose()
        singly.dispose()


def test_whom_something_else_is_stored_about_needs_a_decision(store: Engine) -> None:
    Feed(store, "ris").sync(record("1", patient="P1", accession_number="A1"), record("2", patient="P2"))
    Feed(store, "csv").sync(
        record("1", patient="P8"), record("2", patient="P9", performed_procedure_step_status="DISCONTINUED"),
        record("3", patient="P10", accession_number="A10"), record("4", patient="P11"), record("5", patient="P12"),
        record("6", patient="P12"),
    )  # fmt: skip
    report_from_scanner(store, items(store, patient_id="P11")[0]["id"], "IN_PROGRESS")
    Feed(store, "csv").sync(
        record("1", patient="P8"), record("2", patient="P9", performed_procedure_step_status="DISCONTINUED"),
        record("3", patient="P10", accession_number="A10"), record("4", patient="P11"), record("5", patient="P12"),
    )  # fmt: skip
    arrivals = [
        record("a", patient="P1"), record("b", patient="P3", accession_number="A1"), record("c", patient="P4"),
        record("d", patient="P5", accession_number="A5"), record("e", patient="P6", accession_number="A5"),
        record("f", patient="P7", study_instance_uid="1.2"), record("g", patient="P7", study_instance_uid="1.2"),
        record("h", patient="P8"), record("i", patient="P9"), record("j", patient="P10", accession_number="A10"),
        record("k", patient="P11"), record("l", patient="P12"),
    ]  # fmt: skip
    with store.connect() as connection:
        facts = ask_facts(connection)()
        undecided = find_undecided_patients(connection, "csv", in_columns(arrivals), facts=facts, **QUIET)
    assert undecided == {"P1", "P3", "P5", "P6", "P9", "P11", "P12"}
    moved = [record(patient="P8"), record(patient="P13")]
    with store.connect() as connection:
        assert find_undecided_patients(
            connection, "csv", in_columns(moved), facts=facts, is_seen=lambda _: False, today="20300701"
        ) == {"P8"}


def test_both_ways_in_one_batch_make_one_worklist(store: Engine) -> None:
    Feed(store, "ris").sync(record("1", patient="P1"))
    feed = Feed(store, "csv")
    arrivals = [record(str(n), patient=f"P{n}", protocol_name="KNEE" if n % 2 else "") for n in range(6)]
    feed.sync(*arrivals)
    assert len(served(store)) == 6
    assert items(store, patient_id="P1")[0]["data_source"] == "ris"
    (run,) = [one for one in runs(store) if one["data_source"] == "csv"]
    assert (run["fetched"], run["inserted"]) == (6, 6)
    said = {row["record_key"]: row for row in rows(store, source_entries) if row["data_source"] == "csv"}
    for key, fields in arrivals:
        assert given_fields([said[key][name] for name in RECORD_FIELDS]) == fields
    feed.sync(*arrivals)
    assert runs(store)[-1]["unchanged"] == 6
    check_audit(store)


def test_what_was_shown_before_stands_for_its_records(store: Engine) -> None:
    feed = Feed(store, "ris")
    everybody = [record(str(n), patient=f"P{n}") for n in range(10)]
    feed.sync(*everybody)
    batches = feed.batches(everybody)
    assert len(batches[0].repeated) == 5
    assert not batches[0].records
    for batch in batches:
        feed.apply(batch)
    summary = feed.finish(feed.end(batches))
    assert (summary.complete, summary.forgotten) == (True, False)
    feed.sync(*everybody[2:])
    assert len(served(store)) == 8
    feed.sync(*everybody)
    assert len(served(store)) == 10
    assert [(run["fetched"], run["inserted"], run["unchanged"], run["cancelled"]) for run in runs(store)] == [
        (10, 10, 0, 0), (10, 0, 10, 0), (8, 0, 8, 2), (10, 2, 8, 0),
    ]  # fmt: skip


def test_a_writer_that_does_not_know_what_was_shown_asks_for_all_of_it_and_cancels_nothing(store: Engine) -> None:
    feed = Feed(store, "ris")
    everybody = [record(str(n), patient=f"P{n}") for n in range(10)]
    feed.sync(*everybody)
    batches = feed.batches(everybody[:8])
    feed.restart()
    for batch in batches:
        feed.apply(batch)
    summary = feed.finish(feed.end(batches))
    assert (summary.complete, summary.forgotten) == (False, True)
    assert len(served(store)) == 10
    summary = feed.sync(*everybody[:8])
    assert (summary.complete, summary.forgotten) == (True, False)
    assert len(served(store)) == 8


def test_a_second_record_of_a_name_is_refused_beside_a_passage_that_comes_again(store: Engine) -> None:
    feed = Feed(store, "ris")
    feed.sync(record("1"), record("2"), record("3"))
    batches = feed.batches([record("1"), record("2"), record("2", protocol_name="KNEE"), record("3")])
    assert batches[0].repeated
    for batch in batches:
        feed.apply(batch)
    feed.finish(feed.end(batches))
    assert items(store, source_record_id="2")[0]["protocol_name"] is None
    assert quarantine(store)["ris", "id:2"]["field"] == "source_record_id"


def test_a_record_that_is_refused_for_another_source_is_counted_although_nothing_has_changed(store: Engine) -> None:
    feed = Feed(store, "csv")
    mine = [record("1", patient="P1", accession_number="A1"), record("2", patient="P2")]
    feed.sync(*mine)
    Feed(store, "ris").sync(record("9", patient="P9", accession_number="A1"))
    assert ("csv", "id:1") in quarantine(store)
    for times in (2, 3):
        feed.sync(*mine)
        run = runs(store)[-1]
        assert (run["fetched"], run["unchanged"], run["rejected"]) == (2, 1, 1)
        assert quarantine(store)["csv", "id:1"]["times_seen"] == times


def test_a_source_may_give_every_field(store: Engine) -> None:
    feed = Feed(store, "ris")
    values = dict.fromkeys(RECORD_FIELDS, "1") | {"scheduled_start_date": "20300701", "patient_birth_date": "19800101"}
    values |= {
        "scheduled_start_time": "080000",
        "study_instance_uid": "1.2",
        "performed_procedure_step_status": "SCHEDULED",
    }
    whole = ("id:1", values)
    for times in (1, 2):
        feed.restart()
        feed.sync(whole)
        assert len(served(store)) == 1
        assert runs(store)[-1]["unchanged"] == times - 1
    feed.sync(("id:1", {**values, "protocol_name": "KNEE"}))
    assert items(store)[0]["protocol_name"] == "KNEE"
