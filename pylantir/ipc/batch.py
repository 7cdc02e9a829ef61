"""Writes and reads the frames that a source and the writer exchange over the entry queue; no other module does.

(The frames that say who was shown what are `pylantir.ipc.accesses`.)

A source worker writes the frames of a cycle and reads the writer's acknowledgements. The writer checks everything that
it reads, because it may come from a plugin; a malformed frame raises ProtocolError, which closes the connection.
If you change the form of a frame, also change `VERSION`: while an installation is replaced under a running
supervisor, producer and writer may have different versions.
Glossary: batch (docs/explanation/glossary.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from pylantir.entry import ATTRIBUTES_FIELD, RECORD_FIELDS, REQUIRED_FIELDS
from pylantir.errors import ProtocolError
from pylantir.ipc.cycles import Acknowledgement, CycleEnd, CycleResult, EntryBatch, Passage, Rejection, ValueWarning
from pylantir.ipc.frames import MAX_FRAME_BYTES, Frame
from pylantir.ipc.records import NO_RECORDS, RecordColumns, pack_columns, unpack_columns

VERSION = 2
"""Every producer sends it in its hello; the writer refuses any other version."""

LONGEST_BODY_BYTES = MAX_FRAME_BYTES - 4096
"""The longest body from `write_batch` that fits into a frame beside the members that every frame begins with."""
LONGEST_TEXT = 2000
"""Labels, reasons, identifiers and errors are cut to this length."""
MAX_WARNINGS = 500
"""The most pairs of field and reason that are reported."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_KNOWN_FIELDS = frozenset(RECORD_FIELDS)
_PARTS = ("passages", "repeated", "present", "rejected")


def write_frame(kind: str, *, cycle: str, seq: int, started_at: str, body: str) -> bytes:
    """Prefix a body from `write_batch` or `write_end` with the members that every frame of a cycle begins with."""
    head = {"kind": kind, "cycle": cycle, "seq": seq, "started_at": started_at}
    return f"{_encode(head)[:-1]},{body}".encode("utf-8", "surrogatepass")


def write_batch(
    *,
    snapshot: bool,
    records: RecordColumns = NO_RECORDS,
    passages: Sequence[Passage] = (),
    repeated: Sequence[int] = (),
    present: Sequence[str] = (),
    rejected: Sequence[Rejection] = (),
) -> str:
    """Write the body of a `batch` frame; `EntryBatch` explains the arguments."""
    members = {
        "snapshot": snapshot, **pack_columns(records), "passages": passages, "repeated": repeated, "present": present,
        "rejected": [[one.record_key, one.field, one.reason, one.patient_id, one.unreadable] for one in rejected],
    }  # fmt: skip
    return _encode(members)[1:]


def write_batches(
    *,
    snapshot: bool,
    records: RecordColumns = NO_RECORDS,
    passages: Sequence[Passage] = (),
    repeated: Sequence[int] = (),
    present: Sequence[str] = (),
    rejected: Sequence[Rejection] = (),
    longest: int = LONGEST_BODY_BYTES,
) -> Iterator[tuple[str, Sequence[Passage]]]:
    """Write as few bodies of `batch` frames as possible, none longer than a frame may be.

    Yields:
        A body and its passages. A divided passage loses its name; a record that is too long by itself is refused.
    """
    parts = {"records": records, "passages": passages, "repeated": repeated, "present": present, "rejected": rejected}
    body = write_batch(snapshot=snapshot, **parts)  # type: ignore[arg-type]
    # A character takes at most four bytes, so an ordinary body is short enough without encoding it first.
    if len(body) * 4 <= longest or len(body.encode("utf-8", "surrogatepass")) <= longest:
        yield body, passages
        return
    for part in _divide(records, repeated, present, rejected):
        yield from write_batches(snapshot=snapshot, **part, longest=longest)


def _divide(
    records: RecordColumns, repeated: Sequence[int], present: Sequence[str], rejected: Sequence[Rejection]
) -> Iterator[dict[str, Any]]:
    """Divide records that are too long for one frame."""
    if records and (repeated or present or rejected):
        yield {"records": records, "passages": [(None, len(records))]}
        yield {"repeated": repeated, "present": present, "rejected": rejected}
    elif len(records) > 1:
        middle = len(records) // 2
        for places in (range(middle), range(middle, len(records))):
            yield {"records": records.pick(places), "passages": [(None, len(places))]}
    elif records:
        reason = "the record is too long: shorten its longest fields at the source"
        yield {"rejected": [Rejection(records.keys[0][:LONGEST_TEXT], "", reason, records.patients[0][:LONGEST_TEXT])]}
    else:
        lists = {"repeated": repeated, "present": present, "rejected": rejected}
        name, part = max(lists.items(), key=lambda one: len(one[1]))
        if len(part) < 2:
            raise ProtocolError("a rejected record is too long for a frame")
        yield {**lists, name: part[: len(part) // 2]}
        yield {name: part[len(part) // 2 :]}


def write_end(
    *, complete: bool, error: str | None, warnings: Sequence[ValueWarning] = (), snapshot: bool = True
) -> str:
    """Write the body of an `end` frame; `CycleEnd` explains the arguments."""
    told = [[one.field[:LONGEST_TEXT], one.reason[:LONGEST_TEXT], one.count] for one in warnings[:MAX_WARNINGS]]
    return _encode({"complete": complete, "error": error, "warnings": told, "snapshot": snapshot})[1:]


def read_batch(frame: Frame) -> EntryBatch:
    """Read and check a source's batch.

    Raises:
        ProtocolError: The frame is not a valid batch.
    """
    cycle, seq, started_at = _read_position(frame)
    passages, repeated, present, rejected = (_list(frame, part) for part in _PARTS)
    return EntryBatch(
        cycle=cycle,
        seq=seq,
        started_at=started_at,
        snapshot=frame.get("snapshot") is True,
        records=_read_records(frame.get("keys", []), frame.get("values", {})),
        passages=[_read_passage(passage) for passage in passages],
        repeated=[_number(name) for name in repeated],
        present=[_text(key) for key in present],
        rejected=[_read_rejection(rejection) for rejection in rejected],
    )


def read_end(frame: Frame) -> CycleEnd:
    """Read and check the end of a source's cycle.

    Raises:
        ProtocolError: The frame is not a valid end of a cycle.
    """
    cycle, seq, started_at = _read_position(frame)
    error = frame.get("error")
    return CycleEnd(
        cycle=cycle,
        seq=seq,
        started_at=started_at,
        complete=frame.get("complete") is True,
        error=None if error is None else _text(error)[:LONGEST_TEXT],
        warnings=[_read_warning(warning) for warning in _list(frame, "warnings")[:MAX_WARNINGS]],
        snapshot=frame.get("snapshot") is True,
    )


def write_acknowledgement(
    frame: Frame,
    *,
    unkept: Sequence[int] = (),
    failed: str | None = None,
    summary: Mapping[str, object] | CycleResult | None = None,
) -> Frame:
    """Write the acknowledgement of a frame; `Acknowledgement` explains the arguments."""
    answer: Frame = {"kind": "ack", "cycle": frame.get("cycle"), "seq": frame.get("seq")}
    if unkept:
        answer["unkept"] = unkept
    if failed is not None:
        answer["failed"] = failed
    if summary is not None:
        answer["summary"] = asdict(summary) if isinstance(summary, CycleResult) else summary
    return answer


def read_acknowledgement(frame: Frame) -> Acknowledgement:
    """Read an acknowledgement from `write_acknowledgement`.

    Raises:
        ProtocolError: The frame is not an acknowledgement.
    """
    cycle, seq, failed, summary = (frame.get(name) for name in ("cycle", "seq", "failed", "summary"))
    unkept = frame.get("unkept", [])
    if (
        not isinstance(cycle, str)
        or type(seq) is not int
        or not isinstance(unkept, list)
        or not isinstance(failed, str | None)
        or not isinstance(summary, dict | None)
    ):
        raise ProtocolError("a malformed acknowledgement")
    return Acknowledgement(cycle, seq, unkept, failed, summary)


def read_result(summary: Frame | None) -> CycleResult:
    """Read the summary of a cycle; members that this version does not know are ignored."""
    known = {one.name for one in fields(CycleResult)}
    return CycleResult(**{name: value for name, value in (summary or {}).items() if name in known})  # type: ignore[arg-type]


def _list(frame: Frame, name: str) -> list[object]:
    part = frame.get(name, [])
    if not isinstance(part, list):
        msg = "a malformed batch"
        raise ProtocolError(msg)
    return part


def _read_position(frame: Frame) -> tuple[str, int, str]:
    seq = frame.get("seq")
    if type(seq) is not int or seq < 1:
        msg = "a frame without its number"
        raise ProtocolError(msg)
    return _text(frame.get("cycle")), seq, _text(frame.get("started_at"))


def _read_records(keys: object, values: object) -> RecordColumns:
    """Check all records at once: checking them one by one would take most of the writer's time."""
    records = unpack_columns(keys, values)
    given = records.values
    if records and not (
        given.keys() <= _KNOWN_FIELDS and all(all(given.get(name, (None,))) for name in REQUIRED_FIELDS)
    ):
        raise ProtocolError("a record without patient or date, or with a field that nobody knows")
    for attributes in {*given.get(ATTRIBUTES_FIELD, ())} - {None, ""}:
        _check_attributes(attributes)
    try:
        "".join(records.keys).encode()
    except UnicodeEncodeError:
        return RecordColumns([_text(key) for key in records.keys], records.values)
    return records


def _check_attributes(text: str | None) -> None:
    try:
        is_object = isinstance(json.loads(text or ""), dict)
    except ValueError:
        is_object = False
    if not is_object:
        raise ProtocolError("further attributes that are no JSON object")


def _read_passage(passage: object) -> tuple[int | None, int]:
    if not (isinstance(passage, list) and len(passage) == 2):
        msg = "a malformed passage"
        raise ProtocolError(msg)
    name, length = passage
    return None if name is None else _number(name), _number(length)


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**64:
        msg = "something else where a number belongs"
        raise ProtocolError(msg)
    return value


def _read_rejection(rejection: object) -> Rejection:
    if not (isinstance(rejection, list) and len(rejection) == 5):
        msg = "a malformed rejection"
        raise ProtocolError(msg)
    key, name, reason, patient_id, unreadable = rejection
    owner = None if patient_id is None else _text(patient_id)
    return Rejection(_text(key), _text(name), _text(reason), owner, unreadable is True)


def _read_warning(warning: object) -> ValueWarning:
    if not (isinstance(warning, list) and len(warning) == 3):
        msg = "a malformed warning"
        raise ProtocolError(msg)
    name, reason, count = warning
    return ValueWarning(_text(name)[:LONGEST_TEXT], _text(reason)[:LONGEST_TEXT], min(_number(count), 2**62))


def _text(value: object) -> str:
    if type(value) is not str:
        msg = "a number or an object where text belongs"
        raise ProtocolError(msg)
    # The database cannot store half of a surrogate pair, which a plugin may give.
    return value.encode("utf-8", "replace").decode("utf-8")
