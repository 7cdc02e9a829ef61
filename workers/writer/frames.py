"""The frames of a source's cycle, checked: what comes from a source worker may come from its plugin.

Lives in the writer. In: JSON objects; out: values for the store, or a ProtocolError, which closes the connection.
"""

from __future__ import annotations

from pylantir.entry import RECORD_FIELDS, REQUIRED_FIELDS
from pylantir.errors import ProtocolError
from pylantir.ipc.frames import Frame
from pylantir.ipc.records import RecordColumns, unpack_columns
from pylantir.store.intake.quarantine import Rejection
from pylantir.store.intake.state import CycleEnd, EntryBatch

_KNOWN_FIELDS = frozenset(RECORD_FIELDS)
_PARTS = ("passages", "repeated", "present", "rejected")


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
        error=None if error is None else _text(error)[:2000],
    )


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
    try:
        "".join(records.keys).encode()
    except UnicodeEncodeError:
        return RecordColumns([_text(key) for key in records.keys], records.values)
    return records


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


def _text(value: object) -> str:
    if type(value) is not str:
        msg = "a number or an object where text belongs"
        raise ProtocolError(msg)
    # Half a character, as a careless plugin may give it, cannot be stored.
    return value.encode("utf-8", "replace").decode("utf-8")
