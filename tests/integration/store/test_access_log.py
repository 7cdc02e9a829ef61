"""The access log: the same answer is counted, not repeated, and fifty scanners that ask every minute stay small."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Engine, delete, select

from pylantir.ipc.accesses import Access
from pylantir.store.change.accesses import AccessLog
from pylantir.store.schema.engine import open_for_writing
from pylantir.store.schema.tables import access_log
from pylantir.store.schema.upgrade import prepare_database

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86400 * SECOND
NOON = 1_796_040_000 * SECOND


def answer(*moments: int, items: Sequence[int] = (1, 2), peer: str = "MR1", **changes: object) -> Access:
    fields = {"service": "C-FIND", "address": "10.0.0.7", "peer": peer, "asked": "PatientID", "status": "0000"}
    return Access(**{**fields, **changes}, matches=len(items), item_ids=items, moments=moments)  # type: ignore[arg-type]


def rows(store: Engine) -> list[dict[str, object]]:
    with store.connect() as connection:
        found = connection.execute(select(access_log).order_by(access_log.c.id)).mappings().all()
    return [dict(row) for row in found]


def counts(store: Engine) -> list[tuple[object, object]]:
    return [(row["peer"], row["count"]) for row in rows(store)]


def test_an_answer_is_a_row(store: Engine) -> None:
    AccessLog(store).store([answer(NOON, certificate="CN=MR1", items=[7, 9])])
    (row,) = rows(store)
    assert row["at"] == row["last_at"] == "2026-11-30T12:00:00.000000+00:00"
    assert json.loads(str(row.pop("item_ids"))) == [7, 9]
    assert (row["count"], row["matches"], row["certificate"]) == (1, 2, "CN=MR1")


def test_the_same_answer_within_an_hour_is_counted_in_its_row(store: Engine) -> None:
    log = AccessLog(store)
    for minute in range(0, 120, 30):
        log.store([answer(NOON + minute * MINUTE), answer(NOON + minute * MINUTE, peer="MR2", items=[])])
    assert counts(store) == [("MR1", 4), ("MR2", 4)]
    assert {row["last_at"] for row in rows(store)} == {"2026-11-30T13:30:00.000000+00:00"}


def test_another_question_answer_or_peer_is_another_row(store: Engine) -> None:
    others = [
        answer(NOON, items=[1]), answer(NOON, items=[]), answer(NOON, peer="MR2"), answer(NOON, address="10.0.0.8"),
        answer(NOON, asked="PatientName"), answer(NOON, status="FE00"), answer(NOON, certificate="CN=MR1"),
        answer(NOON, service="DICOMweb"),
    ]  # fmt: skip
    AccessLog(store).store([answer(NOON), *others, answer(NOON + SECOND)])
    assert [row["count"] for row in rows(store)] == [2, *[1] * len(others)]


def test_after_an_hour_without_it_or_a_day_with_it_a_new_row_begins(store: Engine) -> None:
    log = AccessLog(store)
    log.store([answer(NOON), answer(NOON + HOUR), answer(NOON + 2 * HOUR + SECOND)])
    assert counts(store) == [("MR1", 2), ("MR1", 1)]
    log.store([answer(*(NOON + hour * HOUR for hour in range(3, 29)))])
    assert counts(store) == [("MR1", 2), ("MR1", 25), ("MR1", 2)]


def test_a_frame_that_comes_again_to_the_next_writer_changes_nothing(store: Engine) -> None:
    frame = [answer(NOON, NOON + SECOND), answer(NOON, peer="MR2")]
    AccessLog(store).store(frame)
    AccessLog(store).store(frame)
    assert counts(store) == [("MR1", 2), ("MR2", 1)]
    AccessLog(store).store([answer(NOON + MINUTE)])
    assert counts(store) == [("MR1", 3), ("MR2", 1)]


def test_a_row_that_was_erased_or_changed_meanwhile_is_not_continued(store: Engine) -> None:
    log = AccessLog(store)
    log.store([answer(NOON), answer(NOON, peer="MR2")])
    with store.begin() as connection:
        connection.execute(delete(access_log).where(access_log.c.peer == "MR2"))
        connection.execute(access_log.update().values(item_ids="[1]"))
    log.store([answer(NOON + SECOND), answer(NOON + SECOND, peer="MR2")])
    assert counts(store) == [("MR1", 1), ("MR1", 1), ("MR2", 1)]


def test_what_was_remembered_of_a_failed_transaction_is_forgotten(store: Engine) -> None:
    log = AccessLog(store)
    log.store([answer(NOON)])
    broken = Access(service="C-FIND", status="0000", matches=2**70, moments=[NOON + SECOND])
    for _ in range(2):
        try:
            log.store([answer(NOON + SECOND), broken])
        except Exception:  # noqa: BLE001 - SQLite and PostgreSQL fail in different ways
            continue
    log.store([answer(NOON + SECOND)])
    assert counts(store) == [("MR1", 2)]


def test_fifty_scanners_that_ask_every_minute_stay_under_100_mb_a_year(tmp_path: Path) -> None:
    """Ten days of one scanner: it asks every minute for its next ten exams, does 16 a day, and each changes the list."""
    path = tmp_path / "worklist.db"
    engine = open_for_writing(f"sqlite:///{path}")
    prepare_database(engine)
    engine.dispose()
    empty = path.stat().st_size
    log, days, minutes_a_day = AccessLog(engine), 10, 24 * 60
    asked = "Modality, ScheduledStationAETitle, ScheduledProcedureStepStartDate"
    for day in range(days):
        polls = []
        for minute in range(day * minutes_a_day, (day + 1) * minutes_a_day):
            first = 100_000 + minute * 16 // minutes_a_day
            moment, items = NOON + minute * MINUTE, range(first, first + 10)
            polls.append(answer(moment, items=list(items), peer="MRI_SCANNER_1", asked=asked))
        log.store(polls)
    assert sum(int(str(row["count"])) for row in rows(engine)) == days * minutes_a_day
    engine.dispose()
    assert (path.stat().st_size - empty) / days * 365 * 50 < 100e6
