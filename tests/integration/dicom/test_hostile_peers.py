"""Strangers, slow senders and liars on the real port: nobody else notices."""

from __future__ import annotations

import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil
import pytest
from dicom_server import Served, association, serving
from fuzz.seeds import associate_request, echo_request, element, find_request, release_request
from pydicom.dataset import Dataset
from scanner import beginning, connected, create
from waiting import wait_until

from pylantir.dicom.mpps.service import MppsPorts
from pylantir.dicom.net import association as associations
from pylantir.dicom.net import connection as bounds
from pylantir.dicom.net import messages, reception
from pylantir.mpps.model import MppsAnswer, MppsRequest

pytestmark = pytest.mark.usefixtures("quiet_dicom_libraries")

REQUEST_START = b"\x01\x00\x00\x00\x01\x00\x00\x01"


@pytest.fixture
def served(bound: socket.socket) -> Iterator[Served]:
    with serving(bound, lambda _query: ()) as running:
        yield running


def connect(served: Served, *, buffer_bytes: int = 65536) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", served.port))
    return connection


def received_until_the_end(connection: socket.socket) -> bytes:
    data = b""
    try:
        while part := connection.recv(4096):
            data += part
    except ConnectionResetError:
        pass
    return data


def assert_serves(served: Served) -> None:
    with association(served) as opened:
        assert opened.send_c_echo().Status == 0x0000


def read_exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        data += connection.recv(length - len(data)) or pytest.fail("the connection has ended")
    return data


@contextmanager
def raw_association(served: Served, *, buffer_bytes: int = 65536) -> Iterator[socket.socket]:
    """An accepted association whose every byte is ours; presentation context 1 is C-ECHO, 3 is the worklist."""
    with connect(served, buffer_bytes=buffer_bytes) as connection:
        connection.sendall(associate_request())
        header = read_exactly(connection, 6)
        assert header[0] == 0x02
        read_exactly(connection, int.from_bytes(header[2:], "big"))
        yield connection


def test_ten_thousand_probes_leave_nothing_behind(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    process = psutil.Process()

    def probe(times: int) -> None:
        for _ in range(times):
            socket.create_connection(("127.0.0.1", served.port)).close()

    probe(1000)
    assert_serves(served)
    before, descriptors = process.memory_info().rss, process.num_fds()
    probe(10_000)
    assert_serves(served)
    wait_until(lambda: served.server.waiting_connections == 0, "all probes are gone")
    assert process.memory_info().rss - before < 2 * 1024 * 1024
    assert process.num_fds() <= descriptors + 2
    assert not [record for record in caplog.records if record.levelname != "INFO"]


def test_half_open_connections_shut_nobody_out(served: Served) -> None:
    with ExitStack() as opened:
        first = opened.enter_context(connect(served))
        for _ in range(reception.MAX_GUESTS + 40):
            opened.enter_context(connect(served)).sendall(REQUEST_START)
        wait_until(lambda: served.server.waiting_connections >= reception.MAX_GUESTS, "the pool is full")
        assert_serves(served)
        assert received_until_the_end(first) == b""
        assert served.server.waiting_connections <= reception.MAX_GUESTS


def test_who_never_finishes_the_request_is_let_go_and_the_loop_sleeps_meanwhile(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception, "REQUEST_TIMEOUT_S", 0.3)
    with connect(served) as slow:
        slow.sendall(REQUEST_START)
        before = served.wake_ups
        assert received_until_the_end(slow) == b""
        assert served.wake_ups - before < 10


def rejection(served: Served, calling: str) -> tuple[int, ...]:
    """Result, source and reason of the A-ASSOCIATE-RJ, on a bare socket: pynetdicom as client may miss the answer."""
    with connect(served) as connection:
        connection.sendall(associate_request(calling=calling))
        answer = received_until_the_end(connection)
    assert answer[:1] == b"\x03"
    return tuple(answer[-3:])


def test_a_refused_association_gets_its_answer(bound: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    limits = {"allowed_aet": ("MR1",), "max_associations_per_host": 2}
    with serving(bound, lambda _query: (), **limits) as served:
        with association(served), association(served):
            assert rejection(served, "MR1") == (2, 3, 2)
        wait_until(lambda: served.server.active_associations == 0, "they have ended")
        assert_serves(served)
        for _ in range(5):
            assert rejection(served, "STRANGER") == (1, 1, 3)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        "connection from 127.0.0.1 (MR1 calls PYLANTIR): refused: this host has 2 associations already",
        'connection from 127.0.0.1 (STRANGER calls PYLANTIR): refused: "STRANGER" is not in allowed_aet',
    ]


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", b"\x04\x00\xff\xff\xff\xff" + bytes(100)])
def test_other_protocols_get_an_abort(served: Served, sent: bytes) -> None:
    with connect(served) as stranger:
        stranger.sendall(sent)
        assert read_exactly(stranger, 10)[0] == 0x07
    assert_serves(served)


def test_a_pdu_that_announces_four_gigabytes_ends_its_association(served: Served) -> None:
    with raw_association(served) as liar:
        liar.sendall(b"\x04\x00\xff\xff\xff\xff")
        assert read_exactly(liar, 10)[0] == 0x07
    wait_until(lambda: served.server.active_associations == 0, "it has ended")


def test_a_byte_now_and_then_does_not_keep_an_association(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "PDU_TIMEOUT_S", 0.5)
    with raw_association(served) as slow:
        slow.sendall(b"\x04\x00\x00\x00\x00\x44")
        deadline = time.monotonic() + 60
        while served.server.active_associations:
            assert time.monotonic() < deadline
            with suppress(OSError):
                slow.sendall(b"\x00")
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("limit", "value", "fragments"), [("MAX_MESSAGE_BYTES", 1000, 30), ("MESSAGE_TIMEOUT_S", 0.0, 2)]
)
def test_a_message_without_end_is_aborted(
    served: Served, monkeypatch: pytest.MonkeyPatch, limit: str, value: float, fragments: int
) -> None:
    monkeypatch.setattr(messages, limit, value)
    fragment = struct.pack(">BBII", 4, 0, 4 + 2 + 64, 2 + 64) + b"\x01\x01" + bytes(64)
    with raw_association(served) as endless:
        with suppress(OSError):
            for _ in range(fragments):
                endless.sendall(fragment)
                time.sleep(0.002)
        assert read_exactly(endless, 10)[0] == 0x07
    wait_until(lambda: served.server.active_associations == 0, "it has ended")


def test_an_idle_association_is_ended(bound: socket.socket) -> None:
    with serving(bound, lambda _query: (), idle_timeout_s=0.3) as served, raw_association(served) as idle:
        assert b"\x07\x00\x00\x00\x00\x04" in received_until_the_end(idle)


def test_who_does_not_read_answers_does_not_hold_a_query(bound: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "PDU_TIMEOUT_S", 0.5)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    ended = []

    def find(_query: object) -> Iterator[dict[str, object]]:
        try:
            while True:
                yield {"id": 1, "patient_id": "P1" * 30, "modality": "MR"}
        finally:
            ended.append(True)

    with serving(bound, find) as served, raw_association(served, buffer_bytes=4096) as deaf:
        deaf.sendall(find_request(element(0x0010, 0x0020, b"")))
        wait_until(lambda: bool(ended), "the query has ended")
    wait_until(lambda: served.server.active_associations == 0, "it has ended")


def test_a_process_without_descriptors_does_not_spin_and_recovers(served: Served) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as opened:
        held = opened.enter_context(connect(served))
        held.sendall(REQUEST_START)
        wait_until(lambda: served.server.waiting_connections == 1, "it is received")
        waiting = socket.socket()
        opened.enter_context(waiting)
        resource.setrlimit(resource.RLIMIT_NOFILE, (waiting.fileno() + 8, hard))
        try:
            fillers = []
            with suppress(OSError):
                while True:
                    fillers.append(os.dup(0))
            waiting.connect(("127.0.0.1", served.port))
            before = served.wake_ups
            time.sleep(0.5)
            assert served.wake_ups - before < 30
        finally:
            for descriptor in fillers:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert_serves(served)


def test_hosts_that_are_not_allowed_are_closed_at_once(bound: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    from pylantir.dicom.net import admission

    # Everybody here is on loopback, which is always allowed.
    monkeypatch.setattr(admission, "_address", lambda host: admission.ipaddress.ip_address("10.9.9.9"))
    with serving(bound, lambda _query: (), allowed_hosts=("10.0.0.0/24",)) as served, connect(served) as stranger:
        assert received_until_the_end(stranger) == b""
    with serving(bound, lambda _query: (), allowed_hosts=("10.9.0.0/16",)) as served:
        assert_serves(served)


def test_requests_without_waiting_for_answers_are_bounded(bound: socket.socket) -> None:
    closed = threading.Event()

    def find(_query: object) -> Iterator[dict[str, object]]:
        try:
            while True:
                yield {"id": 1, "patient_id": "P1", "modality": "MR"}
        finally:
            closed.set()

    with serving(bound, find) as served, raw_association(served) as flood:
        flood.sendall(find_request(element(0x0010, 0x0020, b"")) + echo_request() * 100)
        assert received_until_the_end(flood)[-10:-6] == b"\x07\x00\x00\x00"
        assert closed.wait(60)
    wait_until(lambda: served.server.active_associations == 0, "it has ended")


def test_what_a_busy_association_is_sent_waits_outside_and_is_answered_in_its_turn(bound: socket.socket) -> None:
    go_on = threading.Event()

    def find(_query: object) -> Iterator[dict[str, object]]:
        go_on.wait(60)
        yield from ()

    with serving(bound, find) as served, raw_association(served) as hasty:
        hasty.sendall(find_request() + echo_request() * 5 + release_request())
        go_on.set()
        answered = received_until_the_end(hasty)
    assert answered.count(b"\x00\x01\x02\x00\x00\x00\x30\x80") == 5
    assert answered.endswith(release_request().replace(b"\x05", b"\x06", 1))


def test_a_release_during_a_query_waits_for_its_answers(bound: socket.socket) -> None:
    def find(_query: object) -> Iterator[dict[str, object]]:
        for number in range(50):
            time.sleep(0.002)
            yield {"id": number, "patient_id": f"P{number}", "modality": "MR"}

    with serving(bound, find) as served, raw_association(served) as hasty:
        hasty.sendall(find_request(element(0x0010, 0x0020, b"")) + release_request())
        answered = received_until_the_end(hasty)
    assert (
        answered.count(b"\x10\x00\x20\x00\x04\x00\x00\x00P") + answered.count(b"\x10\x00\x20\x00\x02\x00\x00\x00P")
        == 50
    )
    assert answered.endswith(release_request().replace(b"\x05", b"\x06", 1))


def test_a_query_that_was_answered_is_complete_though_its_client_closes_at_once(
    bound: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with serving(bound, lambda _query: [{"id": 1, "patient_id": "P1", "modality": "MR"}]) as served:
        for _ in range(30):
            with raw_association(served) as hasty:
                hasty.sendall(find_request(element(0x0010, 0x0020, b"")))
                received = b""
                # Status and data set type of the last response: success, and no data set.
                while (
                    b"\x00\x00\x00\x08\x02\x00\x00\x00\x01\x01\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00" not in received
                ):
                    received += hasty.recv(4096)
        wait_until(lambda: served.server.active_associations == 0, "all have ended")
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("query from")]
    assert len(told) == 30
    assert all("1 matches, status 0x0000" in line for line in told), told


def test_half_a_connection_is_enough_to_be_answered(served: Served) -> None:
    with raw_association(served) as listener:
        listener.sendall(find_request(element(0x0010, 0x0020, b"")))
        listener.shutdown(socket.SHUT_WR)
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00" in received_until_the_end(listener)


def test_large_reports_are_read_one_at_a_time_and_hold_up_nobody_else(
    bound: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, let_go = threading.Event(), threading.Event()

    def report(request: MppsRequest) -> MppsAnswer:
        if "00400280" in request.attributes and not entered.is_set():
            entered.set()
            assert let_go.wait(60)
        return MppsAnswer(status=0, sop_instance_uid=request.sop_instance_uid)

    small = beginning("1.2.3")
    large = beginning("1.2.3", CommentsOnThePerformedProcedureStep="x" * 1_100_000)
    served = Served(bound, lambda _query: (), MppsPorts(report=report, retrieve=lambda _uid: None))
    statuses: list[int] = []

    def send(uid: str, attributes: Dataset) -> None:
        with connected(served.port) as opened:
            statuses.append(create(opened, uid, attributes).Status)

    first = threading.Thread(target=send, args=("1.2.1", large))
    first.start()
    try:
        assert entered.wait(60)
        monkeypatch.setattr(associations, "LARGE_REPORT_WAIT_S", 0.01)
        send("1.2.2", large)
        send("1.2.3", small)
    finally:
        let_go.set()
        first.join()
        send("1.2.4", large)
        served.stop()
    assert statuses == [0x0213, 0x0000, 0x0000, 0x0000]
