"""Our own failures in the writer: a frame's is its cycle's alone, a loop's or a thread's ends the process."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from raising_writer import BODY
from running_writer import RawProducer, RunningWriter, batch, end, record
from waiting import wait_until

from workers.writer.frames import MAX_TRIES

RUNS = "select data_source, complete, error is not null, finished_at is not null from sync_runs order by id"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """Give the file that the processes' stderr goes to."""
    path, ours = tmp_path / "log", os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    yield path
    os.dup2(ours, 2)
    os.close(ours)


@pytest.fixture
def writer(tmp_path: Path, log: Path) -> Iterator[RunningWriter]:
    running = RunningWriter(tmp_path, body=BODY)
    running.start()
    assert log.exists()
    yield running
    running.close()


@pytest.mark.parametrize("poison", ["RAISES", "REFUSED"])
def test_a_frame_that_cannot_be_stored_fails_its_cycle_while_others_commit(
    writer: RunningWriter, poison: str, log: Path
) -> None:
    bad, good = writer.connect("a"), writer.connect("b")
    pid = writer.child.pid
    bad.send(batch(1, record(poison), cycle="bad"))
    for seq in range(1, 6):
        assert good.ask(batch(seq, record(f"P{seq}"), cycle="good"))
    told = bad.receive()
    assert told
    assert "it cannot be stored" in str(told["failed"])
    bad.send(batch(2, record("P9"), cycle="bad"))
    told = bad.receive()
    assert told
    assert told["failed"]
    done = bad.ask(end(3, cycle="bad"))
    assert done
    assert done["summary"]["error"]  # type: ignore[index]
    assert good.ask(end(6, cycle="good"))
    assert writer.rows(RUNS) == [("a", 0, 1, 1), ("b", 1, 0, 1)]
    assert writer.patients() == [f"P{seq}" for seq in range(1, 6)]
    assert writer.child.pid == pid
    told_of = log.read_text()
    assert told_of.count("cannot be stored, attempt") == MAX_TRIES
    assert "what RAISES said" not in told_of
    assert "in apply" in told_of


def test_the_next_cycle_of_the_same_source_is_stored(writer: RunningWriter) -> None:
    producer = writer.connect("a")
    assert producer.ask(batch(1, record("RAISES"), cycle="bad"))
    assert producer.ask(end(2, cycle="bad"))
    assert producer.ask(batch(1, record("P1"), cycle="next")) == {"kind": "ack", "cycle": "next", "seq": 1}
    assert producer.ask(end(2, cycle="next"))
    assert writer.rows(RUNS) == [("a", 0, 1, 1), ("a", 1, 0, 1)]


def test_an_end_that_cannot_be_worked_out_is_a_failed_cycle(writer: RunningWriter) -> None:
    producer = writer.connect("a")
    assert producer.ask(batch(1, record("P1"), cycle="bad-end"))
    done = producer.ask(end(2, cycle="bad-end"))
    assert done
    assert "KeyError" in done["summary"]["error"]  # type: ignore[index]
    assert writer.rows(RUNS) == [("a", 0, 1, 1)]


def test_a_command_that_raises_is_its_own_failure(writer: RunningWriter) -> None:
    pid = writer.child.pid
    writer.child.say({"kind": "command", "id": 1, "command": "forget", "name": "x"})
    writer.child.say({"kind": "command", "id": 2, "command": ["nonsense"]})

    def results() -> list[object]:
        writer.listen()
        found.extend(writer.child.take_results())
        return found if len(found) == 2 else []

    found: list[object] = []
    wait_until(results, "both commands are answered")
    assert all("LookupError" in str(one) for one in found)
    assert writer.child.pid == pid


@pytest.mark.parametrize("what", ["loop", "thread"])
def test_what_raises_in_a_loop_or_a_thread_ends_the_process_and_another_goes_on(
    writer: RunningWriter, what: str, log: Path
) -> None:
    pid, producer = writer.child.pid, writer.connect("a")
    if what == "loop":
        producer.send(batch(1, record("P1"), cycle="loop"))
    else:
        for seq in range(1, 9):
            producer.send(batch(seq, record("THREAD")))

    def is_replaced() -> bool:
        writer.listen()
        return writer.child.pid not in {None, pid} and writer.is_ready()

    wait_until(is_replaced, "another process has taken over")
    assert writer.child.last_exit == "status 1"
    assert "stopped by an unexpected error" in log.read_text()
    assert f'raise RuntimeError("the {what} itself")' in log.read_text()


def test_a_busy_writer_gives_signs_of_life_and_tells_what_waits(writer: RunningWriter) -> None:
    producers = [writer.connect("a"), writer.connect("b")]
    signs: set[float] = set()
    depths: set[object] = set()

    def keep_busy(seq: int) -> bool:
        for producer in producers:
            producer.send(
                batch(seq, *(record(f"P{seq}-{number}") for number in range(50)), cycle=f"busy{id(producer)}")
            )
        if seq > 3:
            for producer in producers:
                assert producer.receive()
        writer.listen()
        signs.add(writer.child.news.last_sign_at)
        depths.add(writer.child.news.values.get("queue_depth", 0))
        return len(signs) > 4 and bool(depths - {0})

    began = time.monotonic()
    for seq in itertools.count(1):
        if keep_busy(seq):
            break
        assert time.monotonic() - began < 60, (len(signs), depths)


def test_a_busy_writer_ends_in_order_whatever_waits(writer: RunningWriter) -> None:
    producer = writer.connect("a")
    for seq in range(1, 4):
        producer.send(batch(seq, record(f"P{seq}")))
    pid, now = writer.child.pid, time.monotonic()
    writer.child.restart(now, 60.0)
    sent = keep_sending(producer, writer, pid)
    assert sent
    assert writer.child.last_exit == "status 0"
    assert time.monotonic() - now < 30


def keep_sending(producer: RawProducer, writer: RunningWriter, pid: int | None) -> int:
    """Send without a pause until the process is another one."""
    seq = 3
    while writer.child.pid == pid:
        seq += 1
        try:
            producer.send(batch(seq, record(f"P{seq}")))
            producer.receive()
        except (OSError, TimeoutError):
            time.sleep(0.01)
        writer.listen()
    return seq
