"""What crosses the entry queue between a producer and the writer: the form of its frames, written and read here alone.

A source worker writes the frames of a cycle and reads the writer's acknowledgements. What the writer reads is checked,
for it may come from a plugin: what is no frame of a cycle is a ProtocolError, which closes the connection. `VERSION`
changes with the form: producer and writer may be of different versions while an installation is replaced under a
running supervisor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pylantir.entry import ATTRIBUTES_FIELD, RECORD_FIELDS, REQUIRED_FIELDS
from pylantir.errors import ProtocolError
from pylantir.ipc.frames import MAX_FRAME_BYTES, Frame
from pylantir.ipc.records import NO_RECORDS, RecordColumns, pack_columns, unpack_columns

VERSION = 2
"""Stands in every producer's hello; the writer refuses another one."""

LONGEST_BODY_BYTES = MAX_FRAME_BYTES - 4096
"""What is left of a frame for a body from `write_batch`, after the members that every frame begins with."""
LONGEST_TEXT = 2000
"""Longer labels, reasons, identifiers and errors than any sensible one are cut."""
MAX_WARNINGS = 500
"""A field and a reason each; more kinds than that are not told."""
Passage = tuple[int | None, int]
"""Consecutive records: the name by which they are known again, if they have one, and how many they are."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_KNOWN_FIELDS = frozenset(RECORD_FIELDS)
_PARTS = ("passages", "repeated", "present", "rejected")


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that was refused.

    Attributes:
        record_key: The record's key, or a label such as "row 17" where it has none.
        field: The worklist field at fault.
        reason: What is wrong, without patient data.
        patient_id: Whose record it is, if that could be read: such a patient's items outlive the snapshot.
        unreadable: Nothing of it could be read, so it may be any record: a snapshot that has one cancels nothing.
    """

    record_key: str
    field: str
    reason: str
    patient_id: str | None = None
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class ValueWarning:
    """Values of one field that were left out or changed for one reason, in records that were taken all the same.

    Attributes:
        field: The worklist field, or the `dicom:` target.
        reason: What is wrong with them, without patient data.
        count: How many they are.
    """

    field: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryBatch:
    """Some records of a cycle.

    Attributes:
        cycle: Identifies the cycle; the same in all its frames.
        seq: 1, 2, 3 … within the cycle.
        started_at: When the cycle began (ISO 8601, UTC).
        snapshot: The cycle shows everything that the source has, so a key may come once only.
        records: What the source says, in its order.
        passages: How the records fall into passages (see `passages`): of each its name, or None, and its length.
        repeated: Names of passages that come again as the last cycle had them, in place of their records.
        present: Keys of records that still exist, sent without their fields.
        rejected: Records that could not be mapped.
    """

    cycle: str
    seq: int
    started_at: str
    snapshot: bool
    records: RecordColumns = NO_RECORDS
    passages: Sequence[Passage] = ()
    repeated: Sequence[int] = ()
    present: Sequence[str] = ()
    rejected: Sequence[Rejection] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleEnd:
    """The last frame of a cycle.

    Attributes:
        cycle, seq, started_at: As in `EntryBatch`.
        complete: All that the source has was shown.
        error: Why the fetch failed.
        warnings: Of all records of the cycle, those that were not sent again included.
        snapshot: The warnings are all that there are; else they are those of the records that have changed.
    """

    cycle: str
    seq: int
    started_at: str
    complete: bool
    error: str | None = None
    warnings: Sequence[ValueWarning] = ()
    snapshot: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleResult:
    """What the writer made of a cycle: the summary in the acknowledgement of its end.

    Attributes:
        error: Why the cycle counts as failed.
        counts: As in `sync_runs`.
        entries: Live records of the source; None where the cycle could not be stored.
        complete: It was a whole snapshot, whose removals were applied.
        unreadable: Records of which nothing could be read.
        forgotten: It named passages that this writer does not know: everything has to be sent once more.
        held: What is held back (`HeldRemoval`).
    """

    error: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    entries: int | None = None
    complete: bool = False
    unreadable: int = 0
    forgotten: bool = False
    held: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The writer's word that a frame is committed.

    Attributes:
        cycle: The frame's cycle, or the id of a scanner's report.
        seq: The frame's number.
        unkept: Passages that must come with all their records in the next cycle, too.
        failed: Why the cycle cannot be stored, although the frame is done with: the producer ends it.
        summary: Of the last frame of a cycle a `CycleResult` (`read_result`), of a report its answer; else None.
    """

    cycle: str
    seq: int
    unkept: Sequence[int] = ()
    failed: str | None = None
    summary: Frame | None = None


def write_frame(kind: str, *, cycle: str, seq: int, started_at: str, body: str) -> bytes:
    """Put the members that every frame of a cycle begins with before a body from `write_batch` or `write_end`."""
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
    """Write the body of a `batch` frame; what the arguments mean is said at `EntryBatch`."""
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
        A body, and its passages: those that had to be divided have lost their names. A record that is too long by
        itself is refused.
    """
    parts = {"records": records, "passages": passages, "repeated": repeated, "present": present, "rejected": rejected}
    body = write_batch(snapshot=snapshot, **parts)  # type: ignore[arg-type]
    # No character takes more than four bytes: the ordinary body need not be encoded to know that it is short enough.
    if len(body) * 4 <= longest or len(body.encode("utf-8", "surrogatepass")) <= longest:
        yield body, passages
        return
    for part in _divide(records, repeated, present, rejected):
        yield from write_batches(snapshot=snapshot, **part, longest=longest)


def _divide(
    records: RecordColumns, repeated: Sequence[int], present: Sequence[str], rejected: Sequence[Rejection]
) -> Iterator[dict[str, Any]]:
    """Divide what is too long for one frame."""
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
    """Write the body of an `end` frame; what the arguments mean is said at `CycleEnd`."""
    told = [[one.field[:LONGEST_TEXT], one.reason[:LONGEST_TEXT], one.count] for one in warnings[:MAX_WARNINGS]]
    return _encode({"complete": complete, "error": error, "warnings": told, "snapshot": snapshot})[1:]


def read_batch(frame: Frame) -> EntryBatch:
    """Check a batch as it came from a source.

    Raises:
        ProtocolError: It is none.
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
    """Check the end of a cycle as it came from a source.

    Raises:
        ProtocolError: It is none.
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
    """Acknowledge a frame; what the arguments mean is said at `Acknowledgement`."""
    answer: Frame = {"kind": "ack", "cycle": frame.get("cycle"), "seq": frame.get("seq")}
    if unkept:
        answer["unkept"] = unkept
    if failed is not None:
        answer["failed"] = failed
    if summary is not None:
        answer["summary"] = asdict(summary) if isinstance(summary, CycleResult) else summary
    return answer


def read_acknowledgement(frame: Frame) -> Acknowledgement:
    """Read what `write_acknowledgement` wrote.

    Raises:
        ProtocolError: It is something else.
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
    """Read the summary of a cycle; a member that this version does not know is left out."""
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
    """Check all records at once: one by one, this would be the writer's main occupation."""
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
    # Half a character, as a careless plugin may give it, cannot be stored.
    return value.encode("utf-8", "replace").decode("utf-8")
