"""Every association request and message of the corpus is answered as its description says, and has its line in the log."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest
from dicom_server import Served, serving
from waiting import wait_until

from corpus.make import CORPUS, bytes_of, entries
from pylantir.dicom.mpps.service import MppsPorts
from pylantir.mpps.model import MppsAnswer, MppsRequest

ITEM = {
    "id": 1,
    "patient_id": "P1",
    "modality": "MR",
    "scheduled_start_date": "20300101",
    "scheduled_start_time": "080000",
}
INSTANCE = {"00100020": {"vr": "LO", "Value": ["P1"]}}
OPERATIONS = {
    0x8001: "C-STORE", 0x8010: "C-GET", 0x8020: "C-FIND", 0x8021: "C-MOVE", 0x8030: "C-ECHO", 0x8100: "N-EVENT-REPORT",
    0x8110: "N-GET", 0x8120: "N-SET", 0x8130: "N-ACTION", 0x8140: "N-CREATE", 0x8150: "N-DELETE",
}  # fmt: skip
KEPT = json.loads(CORPUS.read_text(encoding="utf-8"))

pytestmark = pytest.mark.usefixtures("quiet_dicom_libraries")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    def report(request: MppsRequest) -> MppsAnswer:
        return MppsAnswer(status=0, sop_instance_uid=request.sop_instance_uid)

    ports = MppsPorts(report=report, retrieve=lambda _uid: INSTANCE)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=64) as bound,
        serving(bound, lambda _query: [ITEM], mpps=ports, idle_timeout_s=5) as running,
    ):
        yield running


def described(received: bytes) -> list[str]:
    """What the server has sent, a word or two for each PDU that begins a message."""
    said = []
    while received:
        kind, length = received[0], int.from_bytes(received[2:6], "big")
        body, received = received[6 : 6 + length], received[6 + length :]
        if kind == 0x03:
            said.append("A-ASSOCIATE-RJ " + "/".join(str(number) for number in body[1:]))
        elif kind == 0x04:
            if body[5] & 1:
                field, status = number_in(body[6:], 0x0100), number_in(body[6:], 0x0900)
                said.append(f"{OPERATIONS[field]}-RSP {status:04X}")
        else:
            said.append({0x02: "A-ASSOCIATE-AC", 0x06: "A-RELEASE-RP", 0x07: "A-ABORT"}[kind])
    return said


def number_in(command: bytes, wanted: int) -> int:
    while command:
        group, number, length = struct.unpack_from("<HHI", command)
        if (group, number) == (0, wanted):
            return int.from_bytes(command[8 : 8 + length], "little")
        command = command[8 + length :]
    raise AssertionError(f"the response has no (0000,{wanted:04X})")


def test_the_corpus_is_what_its_script_makes() -> None:
    def told(entry: dict[str, object]) -> tuple[object, ...]:
        return entry["what"], bytes_of(entry), entry["answered"], entry["log"]

    assert list(map(told, entries())) == list(map(told, KEPT)), "in tests/: python -m corpus.make"


@pytest.mark.parametrize("entry", KEPT, ids=[entry["what"] for entry in KEPT])
def test_is_answered_as_described(served: Served, caplog: pytest.LogCaptureFixture, entry: dict[str, object]) -> None:
    caplog.set_level("INFO")
    served.server._refusals._last.clear()  # each entry is told as if it were the first
    received = b""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(bytes_of(entry))
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while part := connection.recv(65536):
                received += part
    assert described(received) == entry["answered"]
    wait_until(lambda: served.server.active_associations == 0, "it has ended")
    lines = [
        record.getMessage() for record in caplog.records if record.getMessage().startswith("connection from 127.0.0.1")
    ]
    if entry["log"]:
        assert any(str(entry["log"]) in line for line in lines), lines
    else:
        assert lines == []
