"""Reports on their way from the server's threads to the writer: each gets its own answer, whatever happens between."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pylantir.errors import WriterUnavailable
from pylantir.ipc.frames import Frame, encode_frame
from pylantir.ipc.sockets import connect_to, listen_at
from pylantir.mpps.model import MppsAnswer, MppsRequest
from workers.child.report_client import ReportClient
from workers.writer.queue import EntryQueue, Producer, make_token

KEY = b"key"


class Writer:
    """The writer's end: answers each report with its own id, after `before` has had its say."""

    def __init__(self, listener: socket.socket, before: Callable[[Producer, Frame], bool]) -> None:
        self.seen: list[tuple[str | None, object]] = []
        self._before = before
        self._listener = listener.dup()
        self._queue = EntryQueue(self._listener, KEY, lambda _producer: {"kind": "welcome"})
        self._wake, self._waker = socket.socketpair()
        self._over = threading.Event()
        self._queue.watch(self._wake, self._over.set)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            self._queue.wait(None)
            while (taken := self._queue.take()) is not None:
                producer, frame = taken
                self.seen.append((producer.role, frame["cycle"]))
                if not self._before(producer, frame):
                    self._queue.drop(producer, "as if it had died")
                    continue
                answer = MppsAnswer(status=0, comment=str(frame["cycle"])).as_json()
                producer.answer({"kind": "ack", "cycle": frame["cycle"], "seq": 1, "summary": answer})
                self._queue.finish(producer)

    def close(self) -> None:
        self._waker.send(b"\0")
        self._thread.join()
        self._queue.close()
        self._listener.close()
        self._wake.close()
        self._waker.close()


@pytest.fixture
def address(tmp_path: Path) -> Path:
    return tmp_path / "entries.sock"


@pytest.fixture
def listener(address: Path) -> Iterator[socket.socket]:
    with listen_at(address) as listening:
        yield listening


@contextmanager
def running(
    address: Path, listener: socket.socket, before: Callable[[Producer, Frame], bool], timeout_s: float = 10
) -> Iterator[tuple[ReportClient, Writer]]:
    writer = Writer(listener, before)
    hello = {"role": "mwl-scp", "source": None, "generation": 1, "token": make_token(KEY, "mwl-scp", None, 1)}
    client = ReportClient(address, hello, timeout_s)
    try:
        yield client, writer
    finally:
        client.close()
        writer.close()


def request(number: int) -> MppsRequest:
    return MppsRequest(request_id=f"r{number}", operation="set", sop_instance_uid="1.2", scanner="MR1", attributes={})


def test_many_threads_get_each_their_own_answer(address: Path, listener: socket.socket) -> None:
    answers: dict[int, str] = {}

    def report(number: int) -> None:
        answers[number] = client.report(request(number)).comment

    with running(address, listener, lambda _producer, _frame: True) as (client, _):
        threads = [threading.Thread(target=report, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {number: f"r{number}" for number in range(40)}


def test_a_lost_answer_is_asked_for_again_under_the_same_id(address: Path, listener: socket.socket) -> None:
    times = iter([False, False, True])
    with running(address, listener, lambda _producer, _frame: next(times)) as (client, writer):
        assert client.report(request(1)).comment == "r1"
        assert writer.seen == [("mwl-scp", "r1")] * 3


def test_without_an_answer_in_time_the_report_has_failed_and_the_next_one_does_not(
    address: Path, listener: socket.socket
) -> None:
    release = threading.Event()
    with running(address, listener, lambda _producer, _frame: release.wait(60), timeout_s=0.2) as (client, _):
        began = time.monotonic()
        with pytest.raises(WriterUnavailable, match=r"mpps\.timeout"):
            client.report(request(1))
        assert time.monotonic() - began < 30
        release.set()
        client._timeout_s = 60
        assert client.report(request(2)).comment == "r2"


def test_the_same_report_again_gets_the_answer_that_was_missed(address: Path, listener: socket.socket) -> None:
    release = threading.Event()
    repeats: list[object] = []

    def before(_producer: Producer, frame: Frame) -> bool:
        repeats.append(frame["request"]["repeats"])
        return release.wait(60)

    with running(address, listener, before, timeout_s=0.2) as (client, _):
        with pytest.raises(WriterUnavailable):
            client.report(request(1))
        with pytest.raises(WriterUnavailable):
            client.report(request(2))
        release.set()
        client._timeout_s = 60
        client.report(replace(request(3), scanner="CT1"))
        client.report(request(4))
    assert repeats == ["", "r1", "", "r1"]


def test_a_report_goes_before_the_batches_that_wait(address: Path, listener: socket.socket) -> None:
    queue = EntryQueue(listener, KEY, lambda _producer: {"kind": "welcome"})
    with connect_to(address) as source, connect_to(address) as server:
        for producer, role, name, frames in (
            (source, "source", "a", ["b1", "b2", "b3"]),
            (server, "mwl-scp", None, ["r1"]),
        ):
            token = make_token(KEY, role, name, 1)
            hello = {"kind": "hello", "role": role, "source": name, "generation": 1, "token": token}
            cycles = [{"cycle": cycle} for cycle in frames]
            producer.sendall(b"".join(map(encode_frame, [hello, *cycles])))
        deadline = time.monotonic() + 60
        while queue.depth < 4 and time.monotonic() < deadline:
            queue.wait(1)
        order = []
        while (taken := queue.take()) is not None:
            order.append(taken[1]["cycle"])
            queue.finish(taken[0])
        queue.close()
    assert order == ["r1", "b1", "b2", "b3"]


def test_a_source_cannot_pose_as_the_scanners_side(address: Path, listener: socket.socket) -> None:
    with running(address, listener, lambda _producer, _frame: True) as (_, writer), connect_to(address) as plugin:
        plugin.settimeout(60)
        token = make_token(KEY, "source", "a", 1)
        hello = {"kind": "hello", "role": "mwl-scp", "source": None, "generation": 9, "token": token}
        plugin.sendall(encode_frame(hello) + encode_frame({"kind": "report", "cycle": "forged", "seq": 1}))
        assert plugin.recv(1) == b""
        assert writer.seen == []


def test_the_writer_knows_the_rules_without_a_dicom_library() -> None:
    program = (
        "import sys, workers.writer.worker; print([name for name in ('pydicom', 'pynetdicom') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
