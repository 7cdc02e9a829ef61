"""Writing C-FIND responses: encoded identifiers and statuses to the protocol data units that carry them.

Lives in the server process. Pure: bytes and numbers come in, bytes go out.

Source: DICOM PS3.7 9.3.2.2 (C-FIND-RSP), E.1 (command sets are implicit VR little endian); PS3.8 9.3.5 (P-DATA-TF), E.2
(message control header), D.1 (maximum length).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

WORKLIST_FIND = b"1.2.840.10008.5.1.4.31"
_C_FIND_RSP = 0x8020
_WITH_IDENTIFIER, _WITHOUT_IDENTIFIER = 0x0001, 0x0101
_IS_COMMAND, _IS_LAST = 1, 2
_P_DATA = struct.Struct(">BBIIBB")
_VALUE_OVERHEAD_BYTES = 6
"""Of a presentation data value: its length, context and control header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The last response to a query.

    Attributes:
        status: Anything but pending.
        comment: Of a failure, in ASCII; cut to the 64 characters that an LO holds.
        tag: Of a failure: the offending element, 0 for none.
    """

    status: int
    comment: str = ""
    tag: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseWriter:
    """Writes the responses to one request.

    Attributes:
        context_id: Of the presentation context of the request.
        message_id: Of the request.
        max_length: What the peer takes in one P-DATA-TF; 0 is any length.
    """

    context_id: int
    message_id: int
    max_length: int

    def pending(self, identifiers: Iterable[bytes], status: int) -> list[bytes]:
        """Write pending responses: a list of pieces, to be joined."""
        command = self._units(self._command(Ending(status=status), _WITH_IDENTIFIER), _IS_COMMAND)
        limit = self.max_length - _VALUE_OVERHEAD_BYTES if self.max_length else None
        pack, context_id = _P_DATA.pack, self.context_id
        pieces: list[bytes] = []
        for identifier in identifiers:
            length = len(identifier)
            if limit is None or length <= limit:
                pieces += (command, pack(4, 0, length + 6, length + 2, context_id, _IS_LAST), identifier)
            else:
                pieces += (command, self._units(identifier, 0))
        return pieces

    def ending(self, ending: Ending) -> bytes:
        """Write the last response."""
        return self._units(self._command(ending, _WITHOUT_IDENTIFIER), _IS_COMMAND)

    def _command(self, response: Ending, data_set_type: int) -> bytes:
        elements = _element(0x0002, WORKLIST_FIND) + _number(0x0100, _C_FIND_RSP) + _number(0x0120, self.message_id)
        elements += _number(0x0800, data_set_type) + _number(0x0900, response.status)
        if response.tag:
            elements += _element(0x0901, struct.pack("<HH", response.tag >> 16, response.tag & 0xFFFF))
        if response.comment:
            comment = response.comment[:64].encode("ascii", "replace")
            elements += _element(0x0902, comment + b" " * (len(comment) % 2))
        return _element(0x0000, struct.pack("<I", len(elements))) + elements

    def _units(self, data: bytes, kind: int) -> bytes:
        """Cut a command or data set into fragments that the peer takes, a P-DATA-TF each."""
        size = max(1, self.max_length - _VALUE_OVERHEAD_BYTES) if self.max_length else len(data)
        units = []
        for start in range(0, len(data), size):
            part = data[start : start + size]
            control = kind | (_IS_LAST if start + size >= len(data) else 0)
            units.append(_P_DATA.pack(4, 0, len(part) + 6, len(part) + 2, self.context_id, control) + part)
        return b"".join(units)


def _number(element: int, value: int) -> bytes:
    return _element(element, struct.pack("<H", value))


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, element, len(value)) + value
