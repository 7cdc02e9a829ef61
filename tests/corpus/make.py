"""Makes the corpus: association requests and messages as scanners send them, each described by what is wrong with it.

    python -m corpus.make     (in `tests/`) writes `corpus.json`

Every entry says in words what it is, what is sent over one connection (hexadecimal, what is
long is compressed by zlib), what the server answers, PDU by
PDU, and a part of the line in the server's log ("" where there is nothing to tell).

Source: DICOM PS3.8 9.3 (PDUs), PS3.7 9.3, 10.3 and E.1 (messages).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from fuzz.seeds import EXPLICIT, IMPLICIT, VERIFICATION, WORKLIST, element, fragment, item, pdu, release_request

CORPUS = Path(__file__).parent / "corpus.json"
MPPS, RETRIEVE = "1.2.840.10008.3.1.2.3.3", "1.2.840.10008.3.1.2.3.4"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
CONTEXTS = {1: VERIFICATION, 3: WORKLIST, 5: MPPS, 7: RETRIEVE}
ECHO, FIND, REPORT, GET = CONTEXTS
ACCEPTED = "A-ASSOCIATE-AC"
RELEASED = "A-RELEASE-RP"
ABORTED = "A-ABORT"


def title(text: bytes) -> bytes:
    return text.ljust(16)


def user_information(
    *extra: bytes, length: bytes | None = struct.pack(">I", 16384), version: bytes = b"CORPUS"
) -> bytes:
    items = b"" if length is None else item(0x51, length)
    return item(0x50, items + item(0x52, b"1.2.3.4") + item(0x55, version) + b"".join(extra))


def proposed(number: int, abstract: str, *syntaxes: str) -> bytes:
    transfer = b"".join(item(0x40, syntax.encode()) for syntax in syntaxes or (IMPLICIT,))
    return item(0x20, bytes((number, 0, 0, 0)) + item(0x30, abstract.encode()) + transfer)


def request(
    *,
    called: bytes = b"PYLANTIR",
    calling: bytes = b"CORPUS",
    version: bytes = b"\x00\x01",
    context: bytes = item(0x10, APPLICATION_CONTEXT.encode()),
    contexts: bytes | None = None,
    user: bytes | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    proposals = b"".join(proposed(*pair) for pair in CONTEXTS.items()) if contexts is None else contexts
    body = version + bytes(2) + title(called) + title(calling) + bytes(32)
    return pdu(0x01, body + before + context + proposals + (user_information() if user is None else user) + after)


def us(number: int, value: int) -> bytes:
    return element(0, number, struct.pack("<H", value))


def command(
    field: int | None,
    *,
    affected: str | None = None,
    requested: str | None = None,
    message_id: int | None = 1,
    data: int | None = 0x0101,
    more: bytes = b"",
) -> bytes:
    elements = b"" if affected is None else element(0, 0x0002, affected.encode())
    elements += b"" if requested is None else element(0, 0x0003, requested.encode())
    elements += b"" if field is None else us(0x0100, field)
    elements += b"" if message_id is None else us(0x0110, message_id)
    elements += b"" if data is None else us(0x0800, data)
    elements += more
    return element(0, 0, struct.pack("<I", len(elements))) + elements


def echo(**changes: object) -> bytes:
    values: dict[str, object] = {"affected": VERIFICATION, **changes}
    return fragment(ECHO, 3, command(0x0030, **values))  # type: ignore[arg-type]


IDENTIFIER = element(0x0010, 0x0020, b"") + element(0x0040, 0x0100, b"")
ATTRIBUTES = element(0x0008, 0x0060, b"MR") + element(0x0010, 0x0020, b"P1")


def find(identifier: bytes = IDENTIFIER, context: int = FIND, **changes: object) -> bytes:
    values: dict[str, object] = {"affected": WORKLIST, "data": 1, **changes}
    return fragment(context, 3, command(0x0020, **values)) + fragments(context, identifier)  # type: ignore[arg-type]


def whole_find() -> tuple[bytes, bytes]:
    return fragment(FIND, 3, command(0x0020, affected=WORKLIST, data=1)), fragment(FIND, 2, IDENTIFIER)


def fragments(context: int, data: bytes) -> bytes:
    parts = [data[start : start + 16000] for start in range(0, len(data), 16000)] or [b""]
    return b"".join(fragment(context, 0, part) for part in parts[:-1]) + fragment(context, 2, parts[-1])


def create(data: bytes = ATTRIBUTES, context: int = REPORT, **changes: object) -> bytes:
    uid = element(0, 0x1000, b"1.2.3")
    values: dict[str, object] = {"affected": MPPS, "data": 1, "more": uid, **changes}
    return fragment(context, 3, command(0x0140, **values)) + fragment(context, 2, data)  # type: ignore[arg-type]


def change(context: int = REPORT, **changes: object) -> bytes:
    values: dict[str, object] = {"requested": MPPS, "data": 1, "more": element(0, 0x1001, b"1.2.3"), **changes}
    return fragment(context, 3, command(0x0120, **values)) + fragment(context, 2, ATTRIBUTES)  # type: ignore[arg-type]


def bare(field: int | None, context: int, **changes: object) -> bytes:
    return fragment(context, 3, command(field, **changes))  # type: ignore[arg-type]


Entry = tuple[str, bytes, list[str], str]
ECHOED = [ACCEPTED, "C-ECHO-RSP 0000", RELEASED]


def associations() -> Iterator[Entry]:
    """What may be odd about an association request; a C-ECHO and a release follow."""

    def echoes(what: str, **changes: bytes) -> Entry:
        return what, request(**changes) + echo() + release_request(), ECHOED, ""

    yield echoes("nothing is odd")
    yield echoes("called AE title padded with NUL", called=b"PYLANTIR".ljust(16, b"\0"))
    yield echoes("calling AE title padded with NUL", calling=b"MR1".ljust(16, b"\0"))
    yield echoes("called AE title with a NUL and then spaces", called=b"PYLANTIR\0")
    yield echoes("calling AE title with leading spaces", calling=b"   MR1")
    yield echoes("calling AE title with a Latin-1 letter", calling=b"R\xd6NTGEN")
    yield echoes("calling AE title with a letter in UTF-8", calling="RÖNTGEN".encode())
    yield echoes("calling AE title with a tab", calling=b"MR\t1")
    yield echoes("calling AE title with a line feed", calling=b"MR\n1")
    yield echoes("calling AE title with a backslash", calling=b"MR\\1")
    yield echoes("calling AE title in small letters", calling=b"mr1")
    yield echoes("blank called AE title, which nobody checks", called=b"")
    yield echoes("implementation version name of 17 characters", user=user_information(version=b"V" * 17))
    yield echoes("implementation version name of 200 characters", user=user_information(version=b"V" * 200))
    yield echoes("implementation version name with a NUL", user=user_information(version=b"VERSION\0"))
    yield echoes("implementation version name that is not ASCII", user=user_information(version=b"V\xe9rsion"))
    yield echoes("empty implementation version name", user=user_information(version=b""))
    yield echoes("unknown user information sub-item 5AH", user=user_information(item(0x5A, b"whatever")))
    yield echoes("unknown user information sub-item FFH, empty", user=user_information(item(0xFF, b"")))
    identity = item(0x58, b"\x09\x01\x00\x04User\x00\x00")
    yield echoes("user identity of unknown type", user=user_information(identity))
    yield echoes("user identity that is cut short", user=user_information(item(0x58, b"\x01")))
    yield echoes(
        "user name that asks for an answer", user=user_information(item(0x58, b"\x01\x01\x00\x04User\x00\x00"))
    )
    window = item(0x53, b"\x00\x05\x00\x05")
    yield echoes("asynchronous operations are asked for", user=user_information(window))
    role = item(0x54, struct.pack(">H", len(WORKLIST)) + WORKLIST.encode() + b"\x01\x00")
    yield echoes("a role is proposed", user=user_information(role))
    yield echoes("extended negotiation of an unknown class", user=user_information(item(0x56, b"\x00\x031.2\x01")))
    cut = item(0x51, struct.pack(">I", 16384)) + b"\x55\x00\x00\x20CORPUS"
    yield echoes("implementation version name that is cut short", user=item(0x50, cut))
    yield echoes("two maximum lengths", user=user_information(item(0x51, bytes(4))))
    yield echoes("user information before the contexts", before=user_information(), user=b"")
    yield echoes("an even presentation context ID", contexts=proposed(1, VERIFICATION) + proposed(2, WORKLIST))
    yield echoes("no maximum length", user=user_information(length=None))
    yield echoes("a maximum length of 0, any length", user=user_information(length=bytes(4)))
    yield echoes("a maximum length of two bytes", user=user_information(length=b"\x40\x00"))
    yield echoes("no user information", user=b"")
    yield echoes("unknown item before all others", before=item(0x77, b"unknown"))
    yield echoes("unknown item after all others", after=item(0x60, b""))
    yield echoes("NULs after the last item", after=bytes(3))
    yield echoes("protocol version 0003H: bit 0 is version 1", version=b"\x00\x03")
    yield echoes("protocol version FFFFH", version=b"\xff\xff")
    yield echoes("application context padded with NUL", context=item(0x10, APPLICATION_CONTEXT.encode() + b"\0"))
    odd = item(
        0x20,
        bytes((1, 0, 0, 0)) + item(0x3F, b"?") + item(0x30, VERIFICATION.encode()) + item(0x40, b"1.2.840.10008.1.2\0"),
    )
    yield echoes("unknown sub-item in a presentation context, padded syntax", contexts=odd)
    many = proposed(1, VERIFICATION, "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.2", IMPLICIT)
    yield echoes("transfer syntaxes that nobody knows before one that is known", contexts=many)
    other = (
        proposed(9, "1.2.3.4.5", IMPLICIT)
        + proposed(11, WORKLIST, "1.2.840.10008.1.2.4.50")
        + proposed(1, VERIFICATION)
    )
    yield echoes("contexts that are refused beside one that is accepted", contexts=other)
    without = (
        item(0x20, bytes((9, 0, 0, 0)) + item(0x30, WORKLIST.encode()))
        + item(0x20, bytes((13, 0, 0, 0)))
        + proposed(1, VERIFICATION)
    )
    yield echoes("contexts without syntaxes", contexts=without)
    yield echoes(
        "128 presentation contexts",
        contexts=b"".join(proposed(2 * n + 1, VERIFICATION, EXPLICIT, IMPLICIT) for n in range(128)),
    )


def refused_associations() -> Iterator[Entry]:
    """Association requests that cannot be accepted."""
    line = "connection from 127.0.0.1"
    yield "blank calling AE title", request(calling=b""), ["A-ASSOCIATE-RJ 1/1/3"], "its calling AE title is blank"
    yield "calling AE title of NULs", request(calling=bytes(16)), ["A-ASSOCIATE-RJ 1/1/3"], "calling AE title is blank"
    wrong = request(context=item(0x10, b"1.2.3"))
    yield "wrong application context", wrong, ["A-ASSOCIATE-RJ 1/1/2"], "its application context is '1.2.3'"
    yield "no application context", request(context=b""), ["A-ASSOCIATE-RJ 1/1/2"], "its application context is ''"
    yield "protocol version 0002H", request(version=b"\x00\x02"), ["A-ASSOCIATE-RJ 1/2/2"], "protocol version 0002H"
    longer = request(after=b"\x50\x00\x40\x00cut")
    yield "an item that is longer than what is left", longer, [ABORTED], "the item of type 50H"
    short = request(contexts=item(0x20, b"\x01"))
    yield "a presentation context of one byte", short, [ABORTED], "a presentation context of its association request"
    yield "another protocol", b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", [ABORTED], "no DICOM association request"
    yield "data before any association", find(), [ABORTED], "no DICOM association request"
    yield "a request of 4 GB", b"\x01\x00\xff\xff\xff\xff", [ABORTED], "announces 4294967295 bytes"
    yield "a request of four bytes", pdu(1, bytes(4)), [ABORTED], "announces 4 bytes"
    yield "half a request", request()[:40], [], "it hung up in the middle of its association request"
    yield "an A-ABORT at once", pdu(7, bytes(4)), [], f"{line}: it broke off before asking"


def messages() -> Iterator[Entry]:
    """Messages on an association that is accepted; a release follows."""

    def answered(what: str, sent: bytes, answers: list[str], line: str = "") -> Entry:
        return what, request() + sent + release_request(), [ACCEPTED, *answers, RELEASED], line

    found = ["C-FIND-RSP FF00", "C-FIND-RSP 0000"]
    yield answered("C-FIND", find(), found)
    yield answered("C-FIND without a message ID", find(message_id=None), found, "its C-FIND has no message ID")
    yield answered("C-FIND without a SOP class", find(affected=None), found, "its C-FIND names no SOP class")
    swapped = "its C-FIND has (0000,0003) in place of (0000,0002)"
    yield answered("C-FIND with a Requested SOP class", find(affected=None, requested=WORKLIST), found, swapped)
    yield answered("C-FIND of unknown priority", find(more=us(0x0700, 0xFFFF)), found)
    yield answered("C-FIND that does not say that it has an identifier", find(data=None), found)
    yield answered("C-FIND with an element of another group in its command", find(more=element(9, 1, b"xy")), found)
    yield answered(
        "C-FIND for a patient root",
        find(affected="1.2.840.10008.5.1.4.1.2.1.1"),
        ["C-FIND-RSP 0122"],
        "C-FIND refused: status 0x0122",
    )
    yield answered(
        "C-FIND on the context of MPPS", find(context=REPORT), ["C-FIND-RSP 0122"], "C-FIND refused: status 0x0122"
    )
    yield answered(
        "C-FIND on the context of C-ECHO", find(context=ECHO), ["C-FIND-RSP 0122"], "C-FIND refused: status 0x0122"
    )
    cut = element(0x0010, 0x0020, b"P1")[:-1]
    yield answered(
        "C-FIND with an identifier that is cut short", find(cut), ["C-FIND-RSP A900"], "C-FIND refused: status 0xA900"
    )
    values = element(0x0010, 0x0020, b"\\" * 20_000)
    yield answered(
        "C-FIND with 20 000 values", find(values), ["C-FIND-RSP A900"], "more than 1000 values in (0010,0020)"
    )
    empty = b"".join(element(0x0011, n, b"") for n in range(0x1000, 0x1A00))
    yield answered("C-FIND with 2 560 empty keys", find(empty), ["C-FIND-RSP A900"], "more than 2000 elements")
    long = element(0x0011, 0x1000, bytes(262_144))
    yield answered(
        "C-FIND with an identifier of over 256 KiB", find(long), ["C-FIND-RSP A900"], "more than 262144 bytes"
    )
    yield answered(
        "C-ECHO without a message ID", echo(message_id=None), ["C-ECHO-RSP 0000"], "its C-ECHO has no message ID"
    )
    yield answered(
        "C-ECHO without a SOP class", echo(affected=None), ["C-ECHO-RSP 0000"], "its C-ECHO names no SOP class"
    )
    yield answered("C-ECHO that does not say that it has no data set", echo(data=None), ["C-ECHO-RSP 0000"])
    on_find = bare(0x0030, FIND, affected=VERIFICATION)
    yield answered("C-ECHO on the context of the worklist", on_find, ["C-ECHO-RSP 0000"])
    yield answered(
        "C-ECHO of another class", echo(affected="1.2.3"), ["C-ECHO-RSP 0122"], "C-ECHO refused: status 0x0122"
    )
    yield answered(
        "C-MOVE on the worklist",
        bare(0x0021, FIND, affected=WORKLIST, data=1) + fragment(FIND, 2, IDENTIFIER),
        ["C-MOVE-RSP 0211"],
        "this SOP class has no C-MOVE",
    )
    yield answered(
        "C-GET on the worklist",
        bare(0x0010, FIND, affected=WORKLIST, data=1) + fragment(FIND, 2, IDENTIFIER),
        ["C-GET-RSP 0211"],
        "this SOP class has no C-GET",
    )
    yield answered(
        "C-STORE on the worklist",
        bare(0x0001, FIND, affected=WORKLIST, data=1) + fragment(FIND, 2, IDENTIFIER),
        ["C-STORE-RSP 0211"],
        "this SOP class has no C-STORE",
    )
    yield answered("N-CREATE", create(), ["N-CREATE-RSP 0000"])
    yield answered(
        "N-CREATE with a Requested SOP class and instance",
        create(affected=None, requested=MPPS, more=element(0, 0x1001, b"1.2.3")),
        ["N-CREATE-RSP 0000"],
        "its N-CREATE has (0000,1001) in place of (0000,1000)",
    )
    yield answered(
        "N-CREATE without a message ID",
        create(message_id=None),
        ["N-CREATE-RSP 0000"],
        "its N-CREATE has no message ID",
    )
    yield answered(
        "N-CREATE without a SOP class", create(affected=None), ["N-CREATE-RSP 0000"], "its N-CREATE names no SOP class"
    )
    yield answered(
        "N-CREATE of another class",
        create(affected="1.2.840.10008.5.1.1.1"),
        ["N-CREATE-RSP 0118"],
        "N-CREATE refused: status 0x0118",
    )
    yield answered(
        "N-CREATE on the context to retrieve",
        create(context=GET, affected=RETRIEVE),
        ["N-CREATE-RSP 0211"],
        "this SOP class has no N-CREATE",
    )
    yield answered("N-SET", change(), ["N-SET-RSP 0000"])
    yield answered(
        "N-SET with an Affected instance",
        change(more=element(0, 0x1000, b"1.2.3")),
        ["N-SET-RSP 0000"],
        "its N-SET has (0000,1000) in place of (0000,1001)",
    )
    yield answered(
        "N-SET with an Affected SOP class",
        change(requested=None, affected=MPPS),
        ["N-SET-RSP 0000"],
        "its N-SET has (0000,0002) in place of (0000,0003)",
    )
    yield answered(
        "N-SET of another class", change(requested="1.2.3"), ["N-SET-RSP 0118"], "N-SET refused: status 0x0118"
    )
    yield answered(
        "N-SET on the worklist",
        change(context=FIND, requested=WORKLIST),
        ["N-SET-RSP 0211"],
        "this SOP class has no N-SET",
    )
    uid = element(0, 0x1001, b"1.2.3")
    yield answered("N-GET of the instance's class", bare(0x0110, GET, requested=MPPS, more=uid), ["N-GET-RSP 0000"])
    yield answered(
        "N-GET of one attribute",
        bare(0x0110, GET, requested=RETRIEVE, more=uid + element(0, 0x1005, b"\x10\x00\x20\x00")),
        ["N-GET-RSP 0000"],
    )
    yield answered(
        "N-GET on the context of MPPS",
        bare(0x0110, REPORT, requested=MPPS, more=uid),
        ["N-GET-RSP 0211"],
        "this SOP class has no N-GET",
    )
    yield answered(
        "N-DELETE on MPPS",
        bare(0x0150, REPORT, requested=MPPS, more=uid),
        ["N-DELETE-RSP 0211"],
        "this SOP class has no N-DELETE",
    )
    yield answered(
        "N-ACTION on MPPS",
        bare(0x0130, REPORT, requested=MPPS, more=uid),
        ["N-ACTION-RSP 0211"],
        "this SOP class has no N-ACTION",
    )
    yield answered(
        "N-EVENT-REPORT on MPPS",
        bare(0x0100, REPORT, affected=MPPS),
        ["N-EVENT-REPORT-RSP 0211"],
        "this SOP class has no N-EVENT-REPORT",
    )
    told = "says that a data set follows; answered without one"
    yield answered("C-ECHO that announces a data set", echo(data=1), ["C-ECHO-RSP 0000"], told)
    yield answered("C-ECHO that announces a data set by 0", echo(data=0), ["C-ECHO-RSP 0000"], told)
    with_data = echo(data=1) + fragments(ECHO, IDENTIFIER) + echo(message_id=2)
    yield answered("C-ECHO with a data set", with_data, ["C-ECHO-RSP 0000", "C-ECHO-RSP 0000"], told)
    yield answered(
        "N-GET that announces a data set",
        bare(0x0110, GET, requested=RETRIEVE, data=1, more=uid),
        ["N-GET-RSP 0000"],
        told,
    )
    cancelling = bare(0x0FFF, FIND, message_id=1, data=1) + fragments(FIND, IDENTIFIER) + echo()
    yield answered("C-CANCEL with a data set, of nothing", cancelling, ["C-ECHO-RSP 0000"])
    empty = pdu(4, b"") + echo()
    yield answered("a P-DATA-TF with nothing in it", empty, ["C-ECHO-RSP 0000"])
    asked = command(0x0020, affected=WORKLIST, data=1)
    parts = [(FIND, 1, asked), (FIND, 3, b""), (FIND, 0, IDENTIFIER), (FIND, 2, b"")]
    split = pdu(4, b"".join(fragment(*part)[6:] for part in parts))
    yield answered("fragments in one PDU, the last ones empty", split, found)
    late = bare(0x0FFF, FIND, message_id=None, more=us(0x0120, 1))
    yield answered("C-CANCEL of nothing", late + echo(), ["C-ECHO-RSP 0000"])
    together = pdu(4, b"".join(part[6:] for part in (*whole_find(), fragment(FIND, 3, command(0x0FFF)))))
    yield answered("C-CANCEL in the same PDU as its C-FIND", together + echo(), ["C-FIND-RSP FE00", "C-ECHO-RSP 0000"])
    two = echo() + echo(message_id=2)
    yield answered("two requests at once", two, ["C-ECHO-RSP 0000", "C-ECHO-RSP 0000"])
    in_one = pdu(
        4,
        b"".join(part[6:] for part in whole_find()),
    )
    yield answered("command and data set in one PDU", in_one, found)
    whole = command(0x0030, affected=VERIFICATION)
    pieces = b"".join(fragment(ECHO, 1 if n < len(whole) - 1 else 3, whole[n : n + 1]) for n in range(len(whole)))
    yield answered("a command in fragments of one byte", pieces, ["C-ECHO-RSP 0000"])


def broken_messages() -> Iterator[Entry]:
    """Messages of which nobody can say what they mean: the association is aborted at once."""

    def aborted(what: str, sent: bytes, line: str) -> Entry:
        return what, request() + sent, [ACCEPTED, ABORTED], line

    yield aborted("a command without a command field", bare(None, ECHO), "its message has no command field")
    yield aborted("an unknown command", bare(0x1234, ECHO), "its message is an unknown command (0x1234)")
    yield aborted("a response to nothing", bare(0x8030, ECHO), "a response to nothing that was asked (0x8030)")
    yield aborted(
        "a command that is cut short", fragment(ECHO, 3, command(0x0030)[:-1]), "its command set is cut short"
    )
    yield aborted("an empty command", fragment(ECHO, 3, b""), "its message has no command field")
    yield aborted(
        "a data set without a command", fragment(FIND, 2, IDENTIFIER), "fragments of its message are not in order"
    )
    started = fragment(FIND, 3, command(0x0020, affected=WORKLIST, data=1))
    yield aborted(
        "a command where its data set should come", started + echo(), "fragments of its message are not in order"
    )
    yield aborted("a data set on another context", started + fragment(ECHO, 2, IDENTIFIER), "not in order")
    yield aborted(
        "a context that was not accepted", fragment(99, 3, command(0x0030)), "presentation context 99 was not"
    )
    yield aborted("lengths that do not fit", pdu(4, struct.pack(">IBB", 100, 1, 3)), "lengths in its data do not fit")
    yield aborted("a PDU of unknown type", pdu(0x42, b"what"), "a PDU of type 42H does not belong here")
    yield aborted("a second association request", request(), "a PDU of type 01H does not belong here")
    yield aborted("a PDU of 4 GB", b"\x04\x00\xff\xff\xff\xff", "it announces a PDU of 4294967295 bytes")
    yield aborted(
        "a command of 70 KB", b"".join(fragment(ECHO, 1, bytes(10_000)) for _ in range(7)), "more than 65536 bytes"
    )
    yield aborted(
        "an N-ACTION that does not say whether data follow",
        bare(0x0130, REPORT, requested=MPPS, data=None),
        "does not say whether a data set follows",
    )
    line = "it has aborted the association"
    yield "an A-ABORT instead of a release", request() + echo() + pdu(7, bytes(4)), [ACCEPTED, "C-ECHO-RSP 0000"], line
    gone = "it has ended the connection without a release"
    yield "the end without a release", request() + echo(), [ACCEPTED, "C-ECHO-RSP 0000"], gone
    yield "the end within a message", request() + started[:-5], [ACCEPTED], gone


def entries() -> list[dict[str, object]]:
    """The whole corpus."""
    made = [*associations(), *refused_associations(), *messages(), *broken_messages()]
    return [{"what": what, **written(sent), "answered": answered, "log": line} for what, sent, answered, line in made]


def written(sent: bytes) -> dict[str, str]:
    """What is long and dull is written compressed."""
    return {"sent": sent.hex()} if len(sent) < 20_000 else {"sent_zlib": zlib.compress(sent).hex()}


def bytes_of(entry: Mapping[str, object]) -> bytes:
    """What an entry of the corpus sends."""
    if "sent" in entry:
        return bytes.fromhex(str(entry["sent"]))
    return zlib.decompress(bytes.fromhex(str(entry["sent_zlib"])))


if __name__ == "__main__":
    CORPUS.write_text(json.dumps(entries(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
