"""Well-formed protocol data, written by hand: what mutations start from, and what a raw connection begins with.

Source: DICOM PS3.8 9.3 (PDUs), PS3.7 E.1 (command sets are implicit VR little endian).
"""

from __future__ import annotations

import struct
from pathlib import Path

VERIFICATION = "1.2.840.10008.1.1"
WORKLIST = "1.2.840.10008.5.1.4.31"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
ECHO_CONTEXT, FIND_CONTEXT = 1, 3
KEPT = Path(__file__).parent / "seeds"
"""Inputs that once found something: a file each, sent as they are."""


def pdu(kind: int, body: bytes) -> bytes:
    """A protocol data unit."""
    return struct.pack(">BBI", kind, 0, len(body)) + body


def item(kind: int, body: bytes) -> bytes:
    """An item of an association request."""
    return struct.pack(">BBH", kind, 0, len(body)) + body


def associate_request(*, called: str = "PYLANTIR", calling: str = "FUZZ", syntax: str = IMPLICIT) -> bytes:
    """An A-ASSOCIATE-RQ for C-ECHO and the worklist."""
    contexts = b"".join(
        item(0x20, bytes((number, 0, 0, 0)) + item(0x30, sop_class.encode()) + item(0x40, syntax.encode()))
        for number, sop_class in ((ECHO_CONTEXT, VERIFICATION), (FIND_CONTEXT, WORKLIST))
    )
    user = item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3.4") + item(0x55, b"FUZZ")
    body = b"\x00\x01\x00\x00" + f"{called:16}{calling:16}".encode() + bytes(32)
    return pdu(0x01, body + item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + item(0x50, user))


def element(group: int, number: int, value: bytes) -> bytes:
    """A data element in implicit VR little endian."""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", group, number, len(value)) + value


def fragment(context: int, control: int, data: bytes) -> bytes:
    """A P-DATA-TF with one presentation data value. Control: 3 whole command, 2 whole data set."""
    return pdu(0x04, struct.pack(">IBB", len(data) + 2, context, control) + data)


def command(field: int, sop_class: str, *, with_data: bool, message_id: int = 1) -> bytes:
    """A command set."""
    elements = element(0, 0x0002, sop_class.encode())
    elements += element(0, 0x0100, struct.pack("<H", field)) + element(0, 0x0110, struct.pack("<H", message_id))
    if with_data:
        elements += element(0, 0x0700, struct.pack("<H", 0))
    elements += element(0, 0x0800, struct.pack("<H", 1 if with_data else 0x0101))
    return element(0, 0x0000, struct.pack("<I", len(elements))) + elements


def echo_request() -> bytes:
    """A C-ECHO-RQ."""
    return fragment(ECHO_CONTEXT, 3, command(0x0030, VERIFICATION, with_data=False))


def find_request(identifier: bytes | None = None) -> bytes:
    """A C-FIND-RQ with its identifier."""
    asked = whole_identifier() if identifier is None else identifier
    return fragment(FIND_CONTEXT, 3, command(0x0020, WORKLIST, with_data=True)) + fragment(FIND_CONTEXT, 2, asked)


def whole_identifier() -> bytes:
    """An identifier with every kind of key, in implicit VR little endian."""
    step = element(0x0008, 0x0060, b"MR") + element(0x0040, 0x0001, b"MR1 ")
    step += element(0x0040, 0x0002, b"20260101-20261231") + element(0x0040, 0x0003, b"0000-2359")
    step += element(0x0040, 0x0006, b"Who^*")
    undefined = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + step + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    sequence = struct.pack("<HHI", 0x0040, 0x0100, 0xFFFFFFFF) + undefined + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return (
        element(0x0008, 0x0005, b"ISO_IR 192")
        + element(0x0008, 0x0050, b"")
        + element(0x0010, 0x0010, b"D?e^*")
        + element(0x0010, 0x0020, b"")
        + element(0x0010, 0x1030, b"")
        + element(0x0020, 0x000D, b"1.2.3\\1.2.4")
        + sequence
        + element(0x0040, 0x1001, b"")
    )


def cancel_request() -> bytes:
    """A C-CANCEL-RQ."""
    elements = element(0, 0x0100, struct.pack("<H", 0x0FFF)) + element(0, 0x0120, struct.pack("<H", 1))
    elements += element(0, 0x0800, struct.pack("<H", 0x0101))
    return fragment(FIND_CONTEXT, 3, element(0, 0, struct.pack("<I", len(elements))) + elements)


def release_request() -> bytes:
    """An A-RELEASE-RQ."""
    return pdu(0x05, bytes(4))


def conversations() -> list[bytes]:
    """Whole conversations of one side: what a scanner sends over one connection."""
    whole = [
        associate_request() + echo_request() + release_request(),
        associate_request() + find_request() + release_request(),
        associate_request() + find_request() + cancel_request() + echo_request() + release_request(),
        associate_request(syntax=EXPLICIT) + echo_request() + release_request(),
    ]
    return whole + [path.read_bytes() for path in sorted(KEPT.glob("*.bin"))]
