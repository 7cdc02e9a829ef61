"""The frames of a source's cycle, checked: what comes from a source worker may come from its plugin.

Lives in the writer. In: JSON objects; out: values for the store, or a ProtocolError, which closes the connection.
"""

from __future__ import annotations

from pylantir.entry import RECORD_ID_FIELD, WORKLIST_FIELDS
from pylantir.errors import ProtocolError
from pylantir.store.cycles import CycleEnd, EntryBatch, EntryRecord
from pylantir.store.quarantine import Rejection
from pylantir.wire.frames import Frame

_KNOWN_FIELDS = frozenset(WORKLIST_FIELDS) | {RECORD_ID_FIELD}


def read_batch(frame: Frame) -> EntryBatch:
    """Check a batch as it came from a source.

    Raises:
        ProtocolError: It is none.
    """
    cycle, seq, started_at = _read_position(frame)
    records, present, rejected = (frame.get(name, []) for name in ("records", "present", "rejected"))
    if not (isinstance(records, list) and isinstance(present, list) and isinstance(rejected, list)):
        msg = "a malformed batch"
        raise ProtocolError(msg)
    return EntryBatch(
        cycle=cycle,
        seq=seq,
        started_at=started_at,
        snapshot=frame.get("snapshot") is True,
        records=[_read_record(record) for record in records],
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


def _read_position(frame: Frame) -> tuple[str, int, str]:
    seq = frame.get("seq")
    if type(seq) is not int or seq < 1:
        msg = "a frame without its number"
        raise ProtocolError(msg)
    return _text(frame.get("cycle")), seq, _text(frame.get("started_at"))


def _read_record(record: object) -> EntryRecord:
    if isinstance(record, list) and len(record) == 3:
        key, digest, fields = record
        if (
            type(key) is str
            and type(digest) is str
            and type(fields) is dict
            and fields.keys() <= _KNOWN_FIELDS
            and fields.get("patient_id")
            and fields.get("scheduled_start_date")
            and all(type(value) is str for value in fields.values())
        ):
            return _text(key), _text(digest), fields
    msg = "a malformed record"
    raise ProtocolError(msg)


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
