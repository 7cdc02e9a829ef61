"""Command sets of DIMSE messages: requests are read leniently, responses are written.

Lives in the server process. Pure: bytes come in, values and bytes go out.

Source: DICOM PS3.7 E.1 (command sets are implicit VR little endian), 9.3 and 10.3 (the messages).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from pylantir.dicom.net.pdus import IS_COMMAND, IS_LAST, P_DATA, P_DATA_HEADER, VALUE_OVERHEAD_BYTES, data_units
from pylantir.dicom.net.refusals import ProtocolError, Reason

_IS_RESPONSE = 0x8000
_WITH_DATA, _WITHOUT_DATA = 0x0001, 0x0101
_MAX_COMMENT = 64
_AFFECTED_CLASS, _REQUESTED_CLASS = 0x0002, 0x0003
_FIELD, _MESSAGE_ID, _RESPONDED_TO, _DATA_SET_TYPE = 0x0100, 0x0110, 0x0120, 0x0800
_AFFECTED_INSTANCE, _REQUESTED_INSTANCE, _ATTRIBUTES = 0x1000, 0x1001, 0x1005


class Operation(enum.IntEnum):
    """The requests that exist, by their command field. Source: DICOM PS3.7 table E.1-1."""

    C_STORE = 0x0001
    C_GET = 0x0010
    C_FIND = 0x0020
    C_MOVE = 0x0021
    C_ECHO = 0x0030
    N_EVENT_REPORT = 0x0100
    N_GET = 0x0110
    N_SET = 0x0120
    N_ACTION = 0x0130
    N_CREATE = 0x0140
    N_DELETE = 0x0150
    C_CANCEL = 0x0FFF

    def __str__(self) -> str:
        return self.name.replace("_", "-")


_ALWAYS_WITH_DATA = frozenset(
    {Operation.C_STORE, Operation.C_FIND, Operation.C_MOVE, Operation.C_GET, Operation.N_CREATE, Operation.N_SET}
)
_NEVER_WITH_DATA = frozenset({Operation.C_ECHO, Operation.C_CANCEL, Operation.N_GET, Operation.N_DELETE})
_OF_THE_REQUESTED = frozenset({Operation.N_GET, Operation.N_SET, Operation.N_ACTION, Operation.N_DELETE})
"""These name the SOP class and instance as Requested; all others as Affected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A request's command set.

    Attributes:
        message_id: None where the peer gives none.
        sop_class: Affected or Requested, whichever element it stands in; None where it stands in neither.
        instance_uid: As `sop_class`.
        has_data: Whether a data set follows.
        ignores_data: It announces a data set, which its operation never has: if one comes, it is ignored.
        responded_to: Of a C-CANCEL: the message ID of the request to cancel, where it stands as its own as well.
        attributes: Of an N-GET: the tags that are wanted; empty for all.
        oddities: Faults that do not matter, in words.
    """

    operation: Operation
    message_id: int | None
    sop_class: str | None
    instance_uid: str | None
    has_data: bool
    ignores_data: bool = False
    responded_to: int | None = None
    attributes: tuple[int, ...] = ()
    oddities: tuple[str, ...] = ()


def read_command(data: bytes) -> Command:
    """Read a command set.

    Raises:
        ProtocolError: The bytes do not show what the peer wants.
    """
    elements = _elements(data)
    operation = _operation(_number(elements.get(_FIELD)))
    oddities = []
    message_id = _number(elements.get(_MESSAGE_ID))
    if message_id is None and operation is not Operation.C_CANCEL:
        oddities.append(f"its {operation} has no message ID; answered as 0")
    found = []
    for affected, requested in ((_AFFECTED_CLASS, _REQUESTED_CLASS), (_AFFECTED_INSTANCE, _REQUESTED_INSTANCE)):
        right, wrong = (requested, affected) if operation in _OF_THE_REQUESTED else (affected, requested)
        uid = _uid(elements.get(right)) or _uid(elements.get(wrong))
        if uid and not _uid(elements.get(right)):
            oddities.append(f"its {operation} has (0000,{wrong:04X}) in place of (0000,{right:04X})")
        found.append(uid)
    if found[0] is None and operation is not Operation.C_CANCEL:
        oddities.append(f"its {operation} names no SOP class; taken for the presentation context's")
    data_set_type = _number(elements.get(_DATA_SET_TYPE))
    ignores_data = operation in _NEVER_WITH_DATA and data_set_type not in {None, _WITHOUT_DATA}
    if ignores_data:
        oddities.append(f"its {operation} says that a data set follows; answered without one")
    attributes = elements.get(_ATTRIBUTES, b"")
    words = struct.unpack_from(f"<{len(attributes) // 4 * 2}H", attributes)
    return Command(
        operation=operation,
        message_id=message_id,
        sop_class=found[0],
        instance_uid=found[1],
        has_data=_has_data(operation, data_set_type),
        ignores_data=ignores_data,
        responded_to=_number(elements.get(_RESPONDED_TO)) if _RESPONDED_TO in elements else message_id,
        attributes=tuple(group << 16 | element for group, element in zip(words[::2], words[1::2], strict=True)),
        oddities=tuple(oddities),
    )


def _elements(data: bytes) -> dict[int, bytes]:
    elements = {}
    start = 0
    while start < len(data):
        if len(data) - start < 8:
            raise ProtocolError(Reason.PROTOCOL, "its command set is cut short")
        group, number, length = struct.unpack_from("<HHI", data, start)
        end = start + 8 + length
        if end > len(data):
            raise ProtocolError(Reason.PROTOCOL, "its command set is cut short")
        if group == 0:
            elements[number] = data[start + 8 : end]
        start = end
    return elements


def _operation(field: int | None) -> Operation:
    if field is None:
        raise ProtocolError(Reason.PROTOCOL, "its message has no command field")
    try:
        return Operation(field)
    except ValueError:
        kind = "a response to nothing that was asked" if field & _IS_RESPONSE else "an unknown command"
        raise ProtocolError(Reason.PROTOCOL, f"its message is {kind} (0x{field:04X})") from None


def _has_data(operation: Operation, kind: int | None) -> bool:
    if operation in _NEVER_WITH_DATA:
        return False
    if kind is not None:
        return kind != _WITHOUT_DATA
    if operation in _ALWAYS_WITH_DATA:
        return True
    raise ProtocolError(Reason.PROTOCOL, f"its {operation} does not say whether a data set follows")


def _number(value: bytes | None) -> int | None:
    return int.from_bytes(value[:2], "little") if value is not None and len(value) >= 2 else None


def _uid(value: bytes | None) -> str | None:
    return (value or b"").decode("ascii", "replace").strip(" \0") or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The response to a message that ends its operation.

    Attributes:
        status: Anything but pending.
        comment: Of a failure, in ASCII; cut to the 64 characters that an LO holds.
        tag: Of a failed C-FIND: the offending element, 0 for none.
        error_id: Of a failed N-service.
        instance_uid: Affected SOP Instance UID of an N-service.
        attributes: Of an N-service: the tags at fault.
        data: The data set that comes with it; empty for none.
    """

    status: int
    comment: str = ""
    tag: int = 0
    error_id: int | None = None
    instance_uid: str | None = None
    attributes: tuple[int, ...] = ()
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseWriter:
    """Writes the responses to one request.

    Attributes:
        operation: Of the request.
        sop_class: Of the request.
        context_id: Of the presentation context of the request.
        message_id: Of the request.
        max_length: What the peer takes in one P-DATA-TF; 0 is any length.
    """

    operation: Operation
    sop_class: str
    context_id: int
    message_id: int
    max_length: int

    def pending(self, identifiers: Iterable[bytes], status: int) -> list[bytes]:
        """Write pending responses: a list of pieces, to be joined."""
        command = self._units(self._command(Ending(status=status), _WITH_DATA), IS_COMMAND)
        limit = self.max_length - VALUE_OVERHEAD_BYTES if self.max_length else None
        pack, context_id = P_DATA_HEADER.pack, self.context_id
        pieces: list[bytes] = []
        for identifier in identifiers:
            length = len(identifier)
            if limit is None or length <= limit:
                pieces += (command, pack(P_DATA, 0, length + 6, length + 2, context_id, IS_LAST), identifier)
            else:
                pieces += (command, self._units(identifier, 0))
        return pieces

    def ending(self, ending: Ending) -> bytes:
        """Write the last response."""
        units = self._units(self._command(ending, _WITH_DATA if ending.data else _WITHOUT_DATA), IS_COMMAND)
        return units + self._units(ending.data, 0) if ending.data else units

    def _command(self, response: Ending, data_set_type: int) -> bytes:
        elements = _element(_AFFECTED_CLASS, _padded(self.sop_class)) if self.sop_class else b""
        elements += _us(_FIELD, self.operation | _IS_RESPONSE) + _us(_RESPONDED_TO, self.message_id)
        elements += _us(_DATA_SET_TYPE, data_set_type) + _us(0x0900, response.status)
        if response.tag:
            elements += _element(0x0901, _at(response.tag))
        if response.comment:
            comment = response.comment[:_MAX_COMMENT].encode("ascii", "replace")
            elements += _element(0x0902, comment + b" " * (len(comment) % 2))
        if response.error_id is not None:
            elements += _us(0x0903, response.error_id)
        if response.instance_uid:
            elements += _element(_AFFECTED_INSTANCE, _padded(response.instance_uid))
        if response.attributes:
            elements += _element(_ATTRIBUTES, b"".join(map(_at, response.attributes)))
        return _element(0x0000, struct.pack("<I", len(elements))) + elements

    def _units(self, data: bytes, kind: int) -> bytes:
        return data_units(data, kind, self.context_id, self.max_length)


def _us(number: int, value: int) -> bytes:
    return _element(number, struct.pack("<H", value))


def _at(tag: int) -> bytes:
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF)


def _padded(uid: str) -> bytes:
    value = uid.encode("ascii", "replace")
    return value + b"\0" * (len(value) % 2)


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value
