"""Association requests: read as they are, brought into one form before anything judges them, and accepted.

Lives in the server process. Pure: the bytes of an A-ASSOCIATE-RQ come in, a value goes out, and the bytes of the
A-ASSOCIATE-AC. What nothing depends on may be odd: titles padded with NUL, names that are too long, items of unknown
types (PS3.8 9.3.1 has them skipped), identities of unknown types.

Source: DICOM PS3.8 9.3.2 (A-ASSOCIATE-RQ), 9.3.3 (A-ASSOCIATE-AC), annex D.3 (user information).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from pydicom.config import IGNORE
from pydicom.uid import UID

from pylantir.dicom.net.pdus import ASSOCIATE_AC, HEADER_BYTES, item
from pylantir.dicom.net.refusals import ProtocolError, Reason, shown

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
OFFERED_PDU_BYTES = 16382
SHORTEST_REQUEST = 68
"""What comes before the items."""
_TITLES = slice(4, 36)
_CALLED, _CALLING = slice(4, 20), slice(20, 36)
_ITEM_HEADER_BYTES = 4
_APPLICATION_CONTEXT, _USER_INFORMATION = 0x10, 0x50
_CONTEXT_RQ, _CONTEXT_AC, _ABSTRACT_SYNTAX, _TRANSFER_SYNTAX = 0x20, 0x21, 0x30, 0x40
_MAXIMUM_LENGTH, _IMPLEMENTATION_CLASS, _IMPLEMENTATION_VERSION = 0x51, 0x52, 0x55
_SHOWN_CLASSES, _SHOWN_CHARACTERS = 3, 64
_ACCEPTED, _NO_ABSTRACT_SYNTAX, _NO_TRANSFER_SYNTAX = 0, 3, 4
_DEFAULT_TRANSFER_SYNTAX = b"1.2.840.10008.1.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedContext:
    """A presentation context that the peer proposes; the syntaxes as bytes, as they came."""

    context_id: int
    abstract_syntax: bytes
    transfer_syntaxes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRequest:
    """An A-ASSOCIATE-RQ in one form.

    Attributes:
        called: AE title without padding.
        calling: AE title without padding; a letter that is not ASCII is kept.
        titles: Both as they came, for the acceptance to repeat.
        protocol_version: Bit 0 is the only version that there is.
        application_context: Empty if there is none.
        contexts: In the order of the request.
        max_length: What the peer takes in one P-DATA-TF; 0 is any length, also where it says nothing.
        implementation_class: For the log; empty if there is none.
        implementation_version: For the log; empty if there is none.
    """

    called: str
    calling: str
    titles: bytes
    protocol_version: int
    application_context: str
    contexts: tuple[ProposedContext, ...]
    max_length: int
    implementation_class: str
    implementation_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedContext:
    """What was agreed on for one presentation context."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What this server supports, and as what it introduces itself.

    Attributes:
        syntaxes: Abstract syntax -> transfer syntaxes, the preferred one first.
    """

    syntaxes: Mapping[str, tuple[str, ...]]
    implementation_class: str
    implementation_version: str


def titles_of(request: bytes) -> tuple[str, str]:
    """Read the called and the calling AE title of an A-ASSOCIATE-RQ, whatever comes after them."""
    body = request[HEADER_BYTES:]
    return _title(body[_CALLED]), _title(body[_CALLING])


def read_request(request: bytes) -> AssociationRequest:
    """Read an A-ASSOCIATE-RQ, header included.

    Raises:
        ProtocolError: Its items do not fit together.
    """
    body = request[HEADER_BYTES:]
    application_context = b""
    contexts = []
    user: dict[int, bytes] = {}
    for kind, content in _items(body[SHORTEST_REQUEST:]):
        if kind == _APPLICATION_CONTEXT:
            application_context = content
        elif kind == _CONTEXT_RQ:
            contexts.append(_context(content))
        elif kind == _USER_INFORMATION:
            # None of these items affects the decision, so one that is cut short is left out.
            user |= dict(_items(content, forgiving=True))
    return AssociationRequest(
        called=_title(body[_CALLED]),
        calling=_title(body[_CALLING]),
        titles=body[_TITLES],
        protocol_version=int.from_bytes(body[:2], "big"),
        application_context=_text(application_context),
        contexts=tuple(contexts),
        max_length=int.from_bytes(user.get(_MAXIMUM_LENGTH, b"")[:4], "big"),
        implementation_class=_text(user.get(_IMPLEMENTATION_CLASS, b"")),
        implementation_version=_text(user.get(_IMPLEMENTATION_VERSION, b"")),
    )


def accept(request: AssociationRequest, offer: Offer) -> tuple[dict[int, AcceptedContext], bytes]:
    """Agree on presentation contexts.

    Returns:
        The accepted ones by their ID, and the A-ASSOCIATE-AC.

    Source: DICOM PS3.8 9.3.3.2 (results), D.3.3 (neither roles, asynchronous operations nor identities are answered).
    """
    accepted: dict[int, AcceptedContext] = {}
    answers = {}
    for proposed in request.contexts:
        # An ID that comes twice stands for the first.
        if proposed.context_id not in answers:
            result, syntax = _judge(proposed, offer)
            if result == _ACCEPTED:
                accepted[proposed.context_id] = AcceptedContext(
                    context_id=proposed.context_id,
                    abstract_syntax=_text(proposed.abstract_syntax),
                    transfer_syntax=_text(syntax),
                )
            answers[proposed.context_id] = item(
                _CONTEXT_AC, bytes((proposed.context_id, 0, result, 0)) + item(_TRANSFER_SYNTAX, syntax)
            )
    user = item(_MAXIMUM_LENGTH, struct.pack(">I", OFFERED_PDU_BYTES))
    user += item(_IMPLEMENTATION_CLASS, offer.implementation_class.encode("ascii"))
    user += item(_IMPLEMENTATION_VERSION, offer.implementation_version.encode("ascii"))
    body = b"\x00\x01\x00\x00" + request.titles + bytes(32)
    body += item(_APPLICATION_CONTEXT, APPLICATION_CONTEXT.encode()) + b"".join(answers.values())
    body += item(_USER_INFORMATION, user)
    return accepted, struct.pack(">BBI", ASSOCIATE_AC, 0, len(body)) + body


def lack_of_contexts(request: AssociationRequest, offer: Offer) -> str:
    """Say in words why an association was accepted without any of its presentation contexts."""
    named = dict.fromkeys(_text(proposed.abstract_syntax) for proposed in request.contexts)
    asked = [shown(UID(name, IGNORE).name[:_SHOWN_CHARACTERS]) for name in islice(named, _SHOWN_CLASSES)]
    more = f" and {len(named) - len(asked)} more" if len(named) > len(asked) else ""
    if not asked:
        return "nothing is offered to it: it proposes no presentation context"
    what = f"{', '.join(asked)}{more}"
    if any(name in offer.syntaxes for name in named):
        return f"nothing is offered to it: it asks for {what}, and not in Implicit or Explicit VR Little Endian"
    return f"nothing is offered to it: it asks for {what}, and this server has the worklist and MPPS only"


def _judge(proposed: ProposedContext, offer: Offer) -> tuple[int, bytes]:
    """The result, and the transfer syntax to answer with; it means nothing where the context is refused."""
    first = next(iter(proposed.transfer_syntaxes), _DEFAULT_TRANSFER_SYNTAX)
    supported = offer.syntaxes.get(_text(proposed.abstract_syntax))
    if supported is None:
        return _NO_ABSTRACT_SYNTAX, first
    named = {_text(syntax): syntax for syntax in proposed.transfer_syntaxes}
    for syntax in supported:
        if syntax in named:
            return _ACCEPTED, syntax.encode("ascii")
    return _NO_TRANSFER_SYNTAX, first


def _context(content: bytes) -> ProposedContext:
    if len(content) < _ITEM_HEADER_BYTES:
        raise ProtocolError(Reason.UNREADABLE_REQUEST, "a presentation context of its association request is cut short")
    syntaxes = list(_items(content[_ITEM_HEADER_BYTES:]))
    return ProposedContext(
        context_id=content[0],
        abstract_syntax=next((value for kind, value in syntaxes if kind == _ABSTRACT_SYNTAX), b""),
        transfer_syntaxes=tuple(value for kind, value in syntaxes if kind == _TRANSFER_SYNTAX),
    )


def _items(data: bytes, *, forgiving: bool = False) -> Iterator[tuple[int, bytes]]:
    """Read items or sub-items. A few bytes at the end that are no item are padding.

    Args:
        data: One after the other.
        forgiving: The last one may be longer than what is left; it is left out.
    """
    start = 0
    while len(data) - start >= _ITEM_HEADER_BYTES:
        kind, _, length = struct.unpack_from(">BBH", data, start)
        end = start + _ITEM_HEADER_BYTES + length
        if end > len(data):
            if forgiving:
                return
            text = f"the item of type {kind:02X}H in its association request is longer than what is left"
            raise ProtocolError(Reason.UNREADABLE_REQUEST, text)
        yield kind, data[start + _ITEM_HEADER_BYTES : end]
        start = end


def _title(field: bytes) -> str:
    text = field.strip(b" \0").partition(b"\0")[0].strip(b" ")
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        decoded = text.decode("latin-1")
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in decoded)


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0")
