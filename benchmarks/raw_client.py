"""A scanner made of fixed bytes: it sends requests that were built before and looks only for the end of the answer.

So it costs next to nothing beside the server that is measured. Source: DICOM PS3.8 9.3, PS3.7 E.1.
"""

from __future__ import annotations

import socket
import struct
import time

from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

WORKLIST = "1.2.840.10008.5.1.4.31"
MPPS = "1.2.840.10008.3.1.2.3.3"
IMPLICIT_VR = "1.2.840.10008.1.2"
SUCCESS = b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00"
"""The end of the last response of every server here: Status is its command set's last element."""
STATUS = b"\x00\x00\x00\x09\x02\x00\x00\x00"
N_SET = 0x0120
FRAGMENT = 16_000
_CONTEXTS = {WORKLIST: 1, MPPS: 3}


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def _associate_request(calling: str, called: str) -> bytes:
    contexts = b"".join(
        _item(0x20, bytes((number, 0, 0, 0)) + _item(0x30, sop_class.encode()) + _item(0x40, IMPLICIT_VR.encode()))
        for sop_class, number in _CONTEXTS.items()
    )
    user = _item(0x51, struct.pack(">I", 16384)) + _item(0x52, b"1.2.3.4")
    names = f"{called:16}{calling:16}".encode()
    application = _item(0x10, b"1.2.840.10008.3.1.1.1")
    return _pdu(0x01, b"\0\1\0\0" + names + bytes(32) + application + contexts + _item(0x50, user))


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


def _message(sop_class: str, field: int, data: Dataset, *more: bytes) -> bytes:
    uid = sop_class.encode() + b"\0" * (len(sop_class) % 2)
    elements = (
        _element(0x0003 if field == N_SET else 0x0002, uid)
        + _element(0x0100, struct.pack("<H", field))
        + _element(0x0110, b"\1\0")
    )
    if field == 0x0020:
        elements += _element(0x0700, b"\0\0")
    elements += _element(0x0800, b"\1\0") + b"".join(more)
    encoded = encode(data, True, True)
    assert encoded is not None
    whole = b""
    for is_command, part in ((1, _element(0, struct.pack("<I", len(elements))) + elements), (0, encoded)):
        for begin in range(0, len(part), FRAGMENT):
            fragment, is_last = part[begin : begin + FRAGMENT], begin + FRAGMENT >= len(part)
            control = is_command | is_last << 1
            whole += _pdu(0x04, struct.pack(">IBB", len(fragment) + 2, _CONTEXTS[sop_class], control) + fragment)
    return whole


def find_request(step: dict[str, str], **keys: str) -> bytes:
    """Build a worklist query, with the keys that a scanner usually asks for."""
    whole, item = Dataset(), Dataset()
    usual = ("AccessionNumber", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID")
    for keyword in (*usual, "RequestedProcedureID", "RequestedProcedureDescription"):
        setattr(whole, keyword, keys.get(keyword, ""))
    usual = ("Modality", "ScheduledStationAETitle", "ScheduledProcedureStepStartDate")
    for keyword in (*usual, "ScheduledProcedureStepStartTime", "ScheduledProcedureStepID"):
        setattr(item, keyword, step.get(keyword, ""))
    whole.ScheduledProcedureStepSequence = [item]
    return _message(WORKLIST, 0x0020, whole)


def create_request(instance_uid: str, study_uid: str, patient_id: str) -> bytes:
    """Build an N-CREATE of MPPS: an exam has begun."""
    step, whole = Dataset(), Dataset()
    step.StudyInstanceUID, step.AccessionNumber, step.ScheduledProcedureStepID = study_uid, "", ""
    whole.ScheduledStepAttributesSequence = [step]
    whole.PatientID, whole.PatientName, whole.Modality = patient_id, "", "MR"
    whole.PerformedProcedureStepID, whole.PerformedStationAETitle = "PPS1", "BENCH"
    whole.PerformedProcedureStepStartDate, whole.PerformedProcedureStepStartTime = "20270101", "080000"
    whole.PerformedProcedureStepStatus = "IN PROGRESS"
    uid = instance_uid.encode() + b"\0" * (len(instance_uid) % 2)
    return _message(MPPS, 0x0140, whole, _element(0x1000, uid))


def set_request(instance_uid: str, images: int) -> bytes:
    """Build an N-SET of MPPS: the exam is complete, with so many images."""
    series, whole = Dataset(), Dataset()
    series.SeriesInstanceUID, series.ProtocolName = f"{instance_uid[:50]}.1", "BRAIN"
    series.ReferencedImageSequence = [_image(number) for number in range(images)]
    whole.PerformedProcedureStepStatus = "COMPLETED"
    whole.PerformedProcedureStepEndDate, whole.PerformedProcedureStepEndTime = "20270101", "090000"
    whole.PerformedSeriesSequence = [series]
    uid = instance_uid.encode() + b"\0" * (len(instance_uid) % 2)
    return _message(MPPS, N_SET, whole, _element(0x1001, uid))


def _image(number: int) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    image.ReferencedSOPInstanceUID = f"2.25.{10**30 + number}"
    return image


class RawClient:
    """One association."""

    def __init__(self, port: int, *, calling: str = "BENCH", called: str = "PYLANTIR") -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(_associate_request(calling, called))
        if self._connection.recv(65536)[:1] != b"\2":
            raise ConnectionRefusedError("no association")

    def find(self, request: bytes) -> tuple[float, int]:
        """Ask: seconds until the last response, and how many matches there were."""
        parts = []
        started = time.perf_counter()
        self._connection.sendall(request)
        end = b""
        while end[-len(SUCCESS) :] != SUCCESS:
            part = self._connection.recv(262144)
            if not part:
                raise ConnectionResetError
            parts.append(part)
            end = end[-len(SUCCESS) :] + part
        seconds = time.perf_counter() - started
        return seconds, count_data_sets(b"".join(parts))

    def report(self, request: bytes) -> float:
        """Report: seconds until the answer, which has to be success."""
        started = time.perf_counter()
        self._connection.sendall(request)
        answer = b""
        while STATUS not in answer or len(answer) < 6 + int.from_bytes(answer[2:6], "big"):
            part = self._connection.recv(65536)
            if not part:
                raise ConnectionResetError
            answer += part
        seconds = time.perf_counter() - started
        status = answer[answer.index(STATUS) + len(STATUS) :][:2]
        if status != b"\0\0":
            raise ValueError(f"status {status.hex()}")
        return seconds

    def release(self) -> None:
        """End it."""
        self._connection.sendall(_pdu(0x05, bytes(4)))
        self._connection.recv(64)
        self._connection.close()


def count_data_sets(answer: bytes) -> int:
    """Count the data sets in whole PDUs: a match each."""
    count = position = 0
    while position < len(answer):
        end = position + 6 + int.from_bytes(answer[position + 2 : position + 6], "big")
        position += 6
        while position < end:
            length, control = int.from_bytes(answer[position : position + 4], "big"), answer[position + 5]
            count += control & 3 == 2
            position += 4 + length
    return count
