"""The writer process: what is acknowledged is committed, what is committed stays, and one bad record costs one record."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from dying_writer import BODY, deaths
from running_writer import KEY, RunningWriter, batch, end, hello, record
from waiting import wait_until

from pylantir.ipc.frames import encode_frame
from pylantir.mpps.model import MppsRequest
from workers.child.producer import WINDOW, WriterConnection
from workers.child.report_client import ReportClient
from workers.writer.queue import make_token


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[RunningWriter]:
    running = RunningWriter(tmp_path)
    running.start()
    yield running
    running.close()


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program writes to the database."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=10)
    connection.execute("begin immediate")
    try:
        yield
    finally:
        connection.close()


def element(vr: str, *values: object) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


SCAN = {
    "00400244": element("DA", "20300101"),
    "00400245": element("TM", "103000"),
    "00400252": element("CS", "IN PROGRESS"),
    "00400253": element("SH", "PPS1"),
    "00400241": element("AE", "MR1"),
    "00080060": element("CS", "MR"),
    "00100020": element("LO", "P1"),
}
SCAN_IS_OVER = {
    "00400250": element("DA", "20300101"),
    "00400251": element("TM", "110000"),
    "00400252": element("CS", "COMPLETED"),
}
RUNS = "select fetched, inserted, updated, unchanged, cancelled, rejected, complete, error from sync_runs order by id"


def test_what_is_acknowledged_is_committed(writer: RunningWriter) -> None:
    producer = writer.connect("a")
    for seq in range(1, 20):
        answer = producer.ask(batch(seq, *(record(f"P{seq}-{number}") for number in range(3))))
        assert answer == {"kind": "ack", "cycle": "c1", "seq": seq}
        assert len(writer.patients()) == 3 * seq
    answer = producer.ask(end(20))
    assert answer
    assert answer["summary"]["entries"] == 57  # type: ignore[index]
    assert writer.rows(RUNS) == [(57, 57, 0, 0, 0, 0, 1, None)]


def test_a_repeated_batch_changes_nothing(writer: RunningWriter) -> None:
    frames = [batch(1, record("P1"), record("P2")), batch(2, record("P3"))]
    producer = writer.connect("a")
    for frame in [*frames, *frames, frames[1]]:
        assert producer.ask(frame)
    before = writer.rows("select * from worklist_items")
    # The same incarnation connects again and repeats what was not acknowledged to it.
    producer = writer.connect("a", writer.generation)
    for frame in [frames[1], end(3)]:
        assert producer.ask(frame)
    assert writer.rows("select * from worklist_items") == before
    assert writer.rows(RUNS) == [(3, 3, 0, 0, 0, 0, 1, None)]


def test_a_writer_killed_again_and_again_loses_and_doubles_nothing(writer: RunningWriter) -> None:
    chance = random.Random(7)
    connection = WriterConnection(writer.address, {name: hello("a")[name] for name in hello("a") if name != "kind"})
    frames = [batch(seq, *(record(f"P{seq:03d}-{n:02d}") for n in range(40))) for seq in range(1, 31)] + [end(31)]
    kills, next_kill = 0, 5
    deadline = time.monotonic() + 60
    waiting = list(frames)
    while waiting or not connection.is_idle:
        assert time.monotonic() < deadline
        writer.listen()
        if waiting and not connection.is_full:
            frame = waiting.pop(0)
            connection.send("c1", int(str(frame["seq"])), encode_frame(frame)[4:])
            if frame["seq"] == next_kill and writer.is_ready():
                # Frames are on their way: some committed and not acknowledged, some half received.
                time.sleep(chance.random() * 0.02)
                writer.kill()
                kills += 1
            if int(str(frame["seq"])) >= next_kill:
                next_kill += 5
        connection.service()
    summary = connection.take_summary("c1")
    connection.close()
    assert kills >= 4
    assert summary
    assert summary["counts"]["fetched"] == 1200  # type: ignore[index]
    assert len(writer.patients()) == len(set(writer.patients())) == 1200
    # A cycle that more than one writer has seen counts everything once, and cancels nothing.
    assert writer.rows(RUNS) == [(1200, 1200, 0, 0, 0, 0, 0, None)]


def test_a_writer_killed_between_commit_and_acknowledgement_takes_everything_in_once(tmp_path: Path) -> None:
    writer = RunningWriter(tmp_path, body=BODY)
    greeting = {name: value for name, value in hello("a").items() if name != "kind"}
    connection = WriterConnection(writer.address, greeting)
    frames = [batch(1, record("P1"), record("P2")), batch(2, record("P3")), end(3)]
    try:
        writer.start()
        for frame in frames:
            connection.send("c1", int(str(frame["seq"])), encode_frame(frame)[4:])

        def is_done() -> bool:
            writer.listen()
            connection.service()
            return connection.is_idle

        wait_until(is_done, "everything is acknowledged", 40)
        summary = connection.take_summary("c1")
        assert sorted(note.name for note in deaths(tmp_path).iterdir()) == ["c1-1", "c1-2", "c1-3"]
        assert writer.patients() == ["P1", "P2", "P3"]
        assert writer.rows(RUNS) == [(3, 3, 0, 0, 0, 0, 0, None)]
        assert summary
        assert summary["counts"]["inserted"] == 3  # type: ignore[index]
        assert writer.rows("select count(*) from audit_log where action = 'created'") == [(3,)]
    finally:
        connection.close()
        writer.close()


def test_a_scanners_report_whose_answer_died_with_the_writer_gets_the_same_answer(tmp_path: Path) -> None:
    writer = RunningWriter(tmp_path, body=BODY)
    token = make_token(KEY, "mwl-scp", None, 1)
    client = ReportClient(
        writer.address, {"role": "mwl-scp", "source": None, "generation": 1, "token": token}, timeout_s=40
    )
    try:
        writer.start()
        with ThreadPoolExecutor(1) as threads:
            answers = []
            for number, operation in enumerate(("create", "create", "set")):
                request = MppsRequest(
                    request_id=f"r{number}", operation=operation, sop_instance_uid="2.25.1", scanner="MR1",
                    attributes=SCAN_IS_OVER if operation == "set" else SCAN,
                )  # fmt: skip
                reported = threads.submit(client.report, request)
                wait_until(lambda r=reported: writer.listen() or r.done(), "the answer", 40)
                answers.append(reported.result())
        # Each died with its writer once. The second is a true duplicate: another report of the same instance.
        assert sorted(note.name for note in deaths(tmp_path).iterdir()) == ["r0-1", "r1-1", "r2-1"]
        assert [answer.status for answer in answers] == [0x0000, 0x0111, 0x0000]
        assert writer.rows("select sop_instance_uid, status from mpps_instances") == [("2.25.1", "COMPLETED")]
    finally:
        client.close()
        writer.close()


def test_a_cycle_that_spans_two_writers_cancels_nothing(writer: RunningWriter) -> None:
    producer = writer.connect("a")
    for frame in (batch(1, *(record(f"P{n}") for n in range(5))), end(2)):
        assert producer.ask(frame)
    assert producer.ask(batch(1, record("P0"), record("P1"), record("P2"), cycle="c2"))
    writer.kill()
    pid = writer.child.pid
    wait_until(lambda: writer.is_ready() and writer.child.pid != pid, "a new writer")
    producer = writer.connect("a")
    for frame in (batch(2, record("P3"), cycle="c2"), end(3, cycle="c2")):
        assert producer.ask(frame)
    assert writer.rows("select count(*) from worklist_items where performed_procedure_step_status = 'CANCELED'") == [
        (0,)
    ]
    for frame in (batch(1, *(record(f"P{n}") for n in range(4)), cycle="c3"), end(2, cycle="c3")):
        assert producer.ask(frame)
    assert writer.rows("select patient_id from worklist_items where performed_procedure_step_status = 'CANCELED'") == [
        ("P4",)
    ]


def test_a_record_that_cannot_be_stored_is_quarantined_and_the_rest_goes_on(writer: RunningWriter) -> None:
    producer = writer.connect("a")
    bad = record("P2", patient_name="half\ud800")
    assert producer.ask(batch(1, record("P1"), bad, record("P3")))
    assert producer.ask(end(2))
    assert writer.patients() == ["P1", "P3"]
    ((key, reason),) = writer.rows("select record_key, reason from rejected_entries")
    assert key == "id:P2"
    assert "cannot be stored" in reason
    assert writer.rows(RUNS) == [(3, 2, 0, 0, 0, 1, 1, None)]


def test_half_a_character_in_a_key_or_a_label_is_replaced(writer: RunningWriter) -> None:
    producer = writer.connect("a")
    broken = record("P1")
    broken[0] = "id:\ud800"
    rejection = ["row \ud800", "field \ud800", "reason \ud800", "P\ud800", False]
    assert producer.ask(batch(1, broken, rejected=[rejection], present=["id:\udfff"]))
    assert producer.ask(end(2))
    assert writer.rows("select record_key from source_entries") == [("id:?",)]
    assert writer.rows("select record_key from rejected_entries") == [("row ?",)]


def test_a_row_that_somebody_damaged_does_not_stop_the_writer(writer: RunningWriter) -> None:
    good, producer = writer.connect("b"), writer.connect("a")
    for frame in (batch(1, *(record(f"P{n}") for n in range(6))), end(2)):
        assert producer.ask(frame)
    with contextlib.closing(sqlite3.connect(writer.database, isolation_level=None, timeout=10)) as connection:
        connection.execute("update source_entries set patient_id = x'ff' where patient_id = 'P3'")
    pid = writer.child.pid
    # The snapshot lacks the damaged record: its removal cannot be carried out.
    for frame in (batch(1, *(record(f"P{n}") for n in range(6) if n != 3), cycle="c2"), end(2, cycle="c2")):
        assert producer.ask(frame)
    assert good.ask(batch(1, record("Q1")))
    writer.listen()
    assert writer.child.pid == pid
    ((error,),) = writer.rows("select error from sync_runs order by id desc limit 1")
    assert error


def test_a_locked_database_is_waited_for(writer: RunningWriter) -> None:
    producer = writer.connect("a")
    assert producer.ask(batch(1, record("P1")))
    pid = writer.child.pid
    with locked(writer.database):
        frame = encode_frame(batch(2, *(record(f"P{number:05d}") for number in range(2000))))
        producer.sock.settimeout(0.2)
        accepted = 0

        def is_told() -> bool:
            nonlocal accepted
            with contextlib.suppress(TimeoutError):
                accepted += producer.sock.send(frame[accepted % len(frame) :])
            writer.listen()
            return bool(writer.child.news.values.get("database"))

        wait_until(is_told, "the trouble is told")
        # The window bounds what waits in the writer; the rest waits in the producer.
        assert accepted < (WINDOW + 4) * len(frame)
        with pytest.raises(TimeoutError):
            producer.receive(0.1)
    answer = producer.receive()
    assert answer
    assert answer["seq"] == 2
    wait_until(lambda: writer.listen() or writer.child.news.values["database"] is None, "the trouble is over")
    assert writer.child.pid == pid
    assert len(writer.patients()) == 2001


def test_a_database_that_cannot_be_opened_is_waited_for(tmp_path: Path) -> None:
    blocker = tmp_path / "folder"
    blocker.write_text("a file where the folder should be", encoding="utf-8")
    writer = RunningWriter(tmp_path, database=blocker / "worklist.db")
    try:
        writer.child.spawn(time.monotonic())
        pid = writer.child.pid
        wait_until(lambda: writer.listen() or writer.child.news.values.get("database"), "the trouble is told")
        assert writer.child.pid == pid
        blocker.unlink()
        wait_until(writer.is_ready, "the writer is ready")
        assert writer.child.pid == pid
        assert writer.connect("a").ask(batch(1, record("P1")))
        assert writer.patients() == ["P1"]
        assert (blocker / "worklist.db").stat().st_mode & 0o777 == 0o600
    finally:
        writer.close()


def test_a_second_writer_for_the_same_database_is_refused(writer: RunningWriter, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    second = RunningWriter(tmp_path / "other", database=writer.database)
    try:
        second.child.spawn(time.monotonic())
        wait_until(lambda: second.listen() or second.child.news.values.get("database"), "the second one says why")
        assert "another writer uses this database" in str(second.child.news.values["database"])
        assert second.child.life.state != "RUNNING"
        assert writer.connect("a").ask(batch(1, record("P1")))
    finally:
        second.close()
