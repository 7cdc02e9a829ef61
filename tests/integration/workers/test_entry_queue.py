"""The entry queue: whatever one producer does, the others are served."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_writer import RawProducer, RunningWriter, batch, end, hello, record

from pylantir.ipc.frames import MAX_FRAME_BYTES, Frame, encode_frame
from pylantir.ipc.sockets import listen_at
from workers.child.producer import WELCOME_S, WriterConnection


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWriter]:
    """One writer for all: it has to outlive everything that is done to it here."""
    running = RunningWriter(tmp_path_factory.mktemp("writer"))
    running.start()
    yield running
    running.close()


_numbers = iter(range(1, 1_000_000))


def assert_served(producer: RawProducer, within_s: float = 30.0) -> None:
    """A whole cycle of one record is committed and acknowledged at once."""
    number = next(_numbers)
    began = time.monotonic()
    for frame in (batch(1, record(f"G{number}"), cycle=f"g{number}"), end(2, cycle=f"g{number}", complete=False)):
        answer = producer.ask(frame)
        assert answer is not None
        assert (answer["kind"], answer["seq"]) == ("ack", frame["seq"])
    assert time.monotonic() - began < within_s


def assert_closed(producer: RawProducer) -> None:
    assert producer.receive() is None


def test_a_producer_that_is_frozen_in_mid_frame_delays_nobody(writer: RunningWriter) -> None:
    good, frozen = writer.connect("a"), writer.connect("b")
    frame = encode_frame(batch(1, record("FROZEN"), cycle="frozen"))
    frozen.sock.sendall(frame[:-10])
    assert_served(good)
    # It wakes up and ends what it began.
    frozen.sock.sendall(frame[-10:])
    assert frozen.receive()
    assert "FROZEN" in writer.patients()


def test_a_process_that_is_stopped_or_killed_in_mid_frame_delays_nobody(writer: RunningWriter) -> None:
    good = writer.connect("a")
    code = (
        "import socket, sys\n"
        "sock = socket.socket(socket.AF_UNIX); sock.connect(sys.argv[1])\n"
        "sock.sendall(bytes.fromhex(sys.argv[2])); print(flush=True); sys.stdin.read()\n"
    )
    writer.generation += 1
    frame = encode_frame(batch(1, record("KILLED"), cycle="killed"))
    sent = encode_frame(hello("b", writer.generation)) + frame[:-10]
    command = [sys.executable, "-c", code, str(writer.address), sent.hex()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        os.kill(process.pid, signal.SIGSTOP)
        assert_served(good)
        process.kill()
    assert_served(good)
    assert "KILLED" not in writer.patients()
    assert_served(writer.connect("b"))


def test_a_producer_that_sends_byte_by_byte_delays_nobody(writer: RunningWriter) -> None:
    good, slow = writer.connect("a"), writer.connect("b")
    frame = encode_frame(batch(1, record("SLOW"), cycle="slow"))
    for position in range(0, len(frame), 20):
        slow.sock.sendall(frame[position : position + 20])
        assert_served(good)
    assert slow.receive()
    assert "SLOW" in writer.patients()


def column(patients: object) -> Frame:
    """The columns of records, of which that of the patient IDs may be anything."""
    return {"patient_id": patients, "scheduled_start_date": "20300101"}


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
        pytest.param((7).to_bytes(4, "big") + b"garbage", id="no JSON"),
        pytest.param((2).to_bytes(4, "big") + b"[]", id="no object"),
        pytest.param((200_000).to_bytes(4, "big") + b"[" * 200_000, id="nested"),
        pytest.param((MAX_FRAME_BYTES + 1).to_bytes(4, "big"), id="too long"),
        pytest.param(b"\xff\xff\xff\xff", id="four gigabytes"),
        pytest.param(encode_frame({"kind": "batch"}), id="a batch of nothing"),
        pytest.param(encode_frame({"kind": "surprise"}), id="an unknown kind"),
        pytest.param(encode_frame(batch(0, record("P1"))), id="no number"),
        pytest.param(encode_frame(batch(1, record("P1"), keys=17)), id="no keys"),
        pytest.param(encode_frame(batch(1, record("P1"), keys=[17])), id="a key that is a number"),
        pytest.param(encode_frame(batch(1, record("P1"), values=["P1", "20300101"])), id="no columns"),
        pytest.param(encode_frame(batch(1, record("P1"), keys="id:P1\x7fid:P2")), id="a key without a record"),
        pytest.param(encode_frame(batch(1, record("P1"), record("P2"), values=column("P1"))), id="a column cut short"),
        pytest.param(encode_frame(batch(1, record("P1"), values=column("P1\x7fP2"))), id="a column too long"),
        pytest.param(encode_frame(batch(1, record("P1"), values=column(17))), id="a column of nothing"),
        pytest.param(encode_frame(batch(1, record("P1"), record("P2", patient_name=7))), id="a number for a name"),
        pytest.param(encode_frame(batch(1, ["", *record("P1")[1:]])), id="no key"),
        pytest.param(
            encode_frame(batch(1, record("P1"), values={**column("P1"), "performed_step": "X"})), id="an unknown field"
        ),
        pytest.param(encode_frame(batch(1, record("P1"), values={"modality": "MR"})), id="no patient's field"),
        pytest.param(encode_frame(batch(1, record(""))), id="no patient"),
        pytest.param(encode_frame(batch(1, record("P1"), passages=[["x", 1]])), id="no passage"),
        pytest.param(encode_frame(batch(1, record("P1"), repeated=[-1])), id="no passage's name"),
        pytest.param(encode_frame(batch(1, rejected=[["only a key"]])), id="no rejection"),
    ],
)
@pytest.mark.parametrize("greeted", [True, False], ids=["known", "stranger"])
def test_garbage_ends_the_connection_of_its_sender_alone(writer: RunningWriter, garbage: bytes, greeted: bool) -> None:
    good, bad = writer.connect("a"), writer.connect("b" if greeted else None)
    with contextlib.suppress(ConnectionError):
        bad.sock.sendall(garbage)
    assert_closed(bad)
    assert_served(good)
    assert "P1" not in writer.patients()


@pytest.mark.parametrize(
    "claim",
    [
        {"token": "0" * 64},
        {"token": "ä"},
        {"token": None},
        {"generation": 10**6},
        {"generation": True},
        {"generation": "1"},
        {"source": "b"},
        {"source": None},
        {"source": ["a"]},
        {"role": "mwl-scp"},
        {"role": "mwl-scp", "source": None},
        {"role": None},
        {"kind": "batch"},
    ],
)
def test_who_cannot_prove_who_it_is_is_not_heard(writer: RunningWriter, claim: dict[str, object]) -> None:
    good, impostor = writer.connect("a"), writer.connect()
    impostor.send(hello("a", writer.generation) | claim)
    assert_closed(impostor)
    assert_served(good)


def test_nothing_but_a_hello_fits_before_the_hello(writer: RunningWriter) -> None:
    stranger = writer.connect()
    stranger.sock.sendall((10_000).to_bytes(4, "big"))
    assert_closed(stranger)


def test_a_newer_incarnation_silences_the_older_one(writer: RunningWriter) -> None:
    old = writer.connect("a")
    old.sock.sendall(encode_frame(batch(1, record("LATE"), cycle="late"))[:-5])
    new = writer.connect("a")
    assert_closed(old)
    returning = writer.connect()
    returning.send(hello("a", writer.generation - 1))
    assert_closed(returning)
    assert_served(new)
    assert "LATE" not in writer.patients()


def test_a_reconnect_of_the_same_incarnation_replaces_the_connection(writer: RunningWriter) -> None:
    first = writer.connect("a")
    second = writer.connect("a", writer.generation)
    assert_closed(first)
    assert_served(second)


def test_a_hundred_strangers_that_say_nothing_keep_nobody_out(writer: RunningWriter) -> None:
    good = writer.connect("a")
    strangers = [writer.connect() for _ in range(100)]
    assert_served(good)
    assert_served(writer.connect("b"))
    # They are let go in the end; the writer may be asked meanwhile.
    for stranger in strangers:
        assert_closed(stranger)
    assert_served(good)


def test_a_producer_that_never_reads_its_answers_is_cut_off(writer: RunningWriter) -> None:
    good, deaf = writer.connect("a"), writer.connect("b")
    deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.sock.settimeout(0.5)
    cycle = "c" * 20_000
    with contextlib.suppress(TimeoutError, ConnectionError):
        for seq in range(1, 400):
            deaf.send(batch(seq, cycle=cycle))
    assert_served(good)


def test_a_connection_that_the_writer_has_lost_is_given_up_after_a_while(tmp_path: Path) -> None:
    now = [100.0]
    address = tmp_path / "entries.sock"
    with listen_at(address) as listener:
        listener.setblocking(True)
        producer = WriterConnection(address, {"role": "source"}, clock=lambda: now[0])
        producer.service()
        lost, _ = listener.accept()
        now[0] += WELCOME_S - 1
        producer.service()
        assert producer.sock
        now[0] += 1
        producer.service()
        assert producer.sock is None
        now[0] += 1
        producer.service()
        with lost, listener.accept()[0] as again:
            again.sendall(encode_frame({"kind": "welcome"}))
            producer.service()
            now[0] += 2 * WELCOME_S
            producer.service()
            assert producer.sock
            producer.close()
