"""Protocol data units: the ones that are sent, byte by byte, and what is in those that carry messages.

Lives in the server process. Pure: bytes come in, bytes and values go out.

Source: DICOM PS3.8 9.3 (PDU structure), E.2 (message control header), D.1 (maximum length).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pylantir.dicom.net.refusals import ProtocolError, Reason

HEADER_BYTES = 6
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
IS_COMMAND, IS_LAST = 1, 2
VALUE_OVERHEAD_BYTES = 6
"""Of a presentation data value: its length, context and control header."""
RELEASE_REPLY = bytes((RELEASE_RP, 0, 0, 0, 0, 4, 0, 0, 0, 0))
P_DATA_HEADER = struct.Struct(">BBIIBB")


def abort(source: int = 2, reason: int = 0) -> bytes:
    """Write an A-ABORT: by default the service provider's, for no reason in particular (PS3.8 9.3.8)."""
    return bytes((ABORT, 0, 0, 0, 0, 4, 0, 0, source, reason))


def reject(result: int, source: int, reason: int) -> bytes:
    """Write an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
    return bytes((ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, result, source, reason))


def item(kind: int, body: bytes) -> bytes:
    """Write an item or sub-item of an association request or its acceptance."""
    return struct.pack(">BBH", kind, 0, len(body)) + body


def presentation_values(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Read what a P-DATA-TF carries: presentation context, message control header, fragment.

    Raises:
        ProtocolError: The lengths do not fit together.
    """
    start = 0
    while start < len(body):
        length = int.from_bytes(body[start : start + 4], "big")
        end = start + 4 + length
        if length < 2 or end > len(body):
            raise ProtocolError(Reason.PROTOCOL, "the lengths in its data do not fit together")
        yield body[start + 4], body[start + 5], body[start + 6 : end]
        start = end


def data_units(data: bytes, kind: int, context_id: int, max_length: int) -> bytes:
    """Cut a command set or data set into fragments that the peer takes, a P-DATA-TF each.

    Args:
        data: The whole set.
        kind: `IS_COMMAND`, or 0 for a data set.
        context_id: Of the presentation context.
        max_length: What the peer takes in one P-DATA-TF; 0 is any length.
    """
    size = max(1, max_length - VALUE_OVERHEAD_BYTES) if max_length else max(1, len(data))
    units = []
    for start in range(0, max(1, len(data)), size):
        part = data[start : start + size]
        control = kind | (IS_LAST if start + size >= len(data) else 0)
        units.append(P_DATA_HEADER.pack(P_DATA, 0, len(part) + 6, len(part) + 2, context_id, control) + part)
    return b"".join(units)
