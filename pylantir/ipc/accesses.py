"""Writes and reads the frame in which a process tells the writer who was shown what, and who was refused.

The server and the web process write it; the writer reads it and checks everything. Commands send the same form over the
control socket, through the supervisor. Keys of a question come in, never its values; of a patient only item numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pylantir.errors import ProtocolError
from pylantir.ipc.frames import Frame

KIND = "accesses"
MAX_ITEMS = 100_000
"""The most items in one record; a longer answer becomes several records."""
MAX_RECORDS = 1000
MAX_MOMENTS = 1000
MAX_MOMENTS_PER_FRAME = 50_000
MAX_ALERTS = 1000
LONGEST_TEXT = 1000
"""Texts are cut to this length. With these bounds a frame stays below `MAX_FRAME_BYTES`."""
_LAST_MOMENT_US = 253_402_300_799_000_000
"""The end of the year 9999."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """An answer, or several times the same one.

    Attributes:
        service: `C-FIND`, `N-GET`, `page`, `DICOMweb` or `command NAME`.
        address: Where the question came from.
        peer: AE title, web user or the machine's user.
        certificate: Subject of the certificate that the peer showed.
        asked: Keys of the question.
        status: DIMSE or HTTP status, or a command's exit status.
        matches: How many answers there were.
        item_ids: The items that were shown, ascending.
        moments: When, in microseconds since 1970 (UTC), ascending.
        instance_uid: The performed procedure step that was shown; the writer finds its items.
    """

    service: str
    address: str | None = None
    peer: str | None = None
    certificate: str | None = None
    asked: str = ""
    status: str
    matches: int
    item_ids: Sequence[int] = ()
    moments: Sequence[int]
    instance_uid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Somebody who was refused.

    Attributes:
        kind: `association` or `login`.
        address: Where it came from.
        peer: AE title or user, as given.
        text: Why, without patient data.
        moment: When, in microseconds since 1970 (UTC).
    """

    kind: str
    address: str | None = None
    peer: str | None = None
    text: str
    moment: int


def write_accesses(identifier: str, accesses: Iterable[Access], alerts: Iterable[Alert] = ()) -> Frame:
    """Write a frame.

    Args:
        identifier: Names the frame in its acknowledgement.
        accesses: At most `MAX_RECORDS`, each within the bounds.
        alerts: At most `MAX_ALERTS`.
    """
    return {
        "kind": KIND,
        "cycle": identifier,
        "seq": 1,
        "records": [
            [
                one.service, one.address, one.peer, one.certificate, one.asked, one.status, one.matches,
                list(one.item_ids), list(one.moments), one.instance_uid,
            ]
            for one in accesses
        ],
        "alerts": [[one.kind, one.address, one.peer, one.text, one.moment] for one in alerts],
    }  # fmt: skip


def read_accesses(frame: Frame) -> tuple[list[Access], list[Alert]]:
    """Read and check a frame.

    Raises:
        ProtocolError: The frame is malformed, or breaks a bound.
    """
    records, alerts = _list(frame.get("records"), MAX_RECORDS), _list(frame.get("alerts"), MAX_ALERTS)
    return [_read_access(record) for record in records], [_read_alert(alert) for alert in alerts]


def _read_access(record: object) -> Access:
    if not (isinstance(record, list) and len(record) == 10):
        raise ProtocolError("a malformed record of an access")
    service, address, peer, certificate, asked, status, matches, item_ids, moments, instance_uid = record
    access = Access(
        service=_text(service),
        address=_text_or_none(address),
        peer=_text_or_none(peer),
        certificate=_text_or_none(certificate),
        asked=_text(asked),
        status=_text(status),
        matches=_number(matches, 2**62),
        item_ids=sorted({_number(item, 2**63 - 1) for item in _list(item_ids, MAX_ITEMS)}),
        moments=sorted(_number(moment, _LAST_MOMENT_US) for moment in _list(moments, MAX_MOMENTS)),
        instance_uid=_text_or_none(instance_uid),
    )
    if not access.moments:
        raise ProtocolError("an access without its moment")
    return access


def _read_alert(alert: object) -> Alert:
    if not (isinstance(alert, list) and len(alert) == 5):
        raise ProtocolError("a malformed alert")
    kind, address, peer, text, moment = alert
    return Alert(
        kind=_text(kind),
        address=_text_or_none(address),
        peer=_text_or_none(peer),
        text=_text(text),
        moment=_number(moment, _LAST_MOMENT_US),
    )


def _list(value: object, most: int) -> list[object]:
    if not isinstance(value, list) or len(value) > most:
        raise ProtocolError(f"something else where a list of at most {most} belongs")
    return value


def _number(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ProtocolError("something else where a number belongs")
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _text(value: object) -> str:
    if type(value) is not str:
        raise ProtocolError("something else where text belongs")
    # A database stores neither half of a surrogate pair nor, PostgreSQL, a NUL; a peer's title may have them.
    return value[:LONGEST_TEXT].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
