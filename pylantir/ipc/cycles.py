"""What a source and the writer tell each other of a cycle: frozen values; `batch` writes and reads them.

Glossary: cycle, batch, passage, snapshot (docs/explanation/glossary.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pylantir.ipc.frames import Frame
from pylantir.ipc.records import NO_RECORDS, RecordColumns

Passage = tuple[int | None, int]
"""A passage: its name, if it has one, and its number of records."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that was refused.

    Attributes:
        record_key: The record's key, or a label such as "row 17" where it has none.
        field: The worklist field with the fault.
        reason: What is wrong, without patient data.
        patient_id: The record's patient, if readable: the snapshot does not cancel this patient's items.
        unreadable: Nothing of the record could be read. It may be any record, so the snapshot cancels nothing.
    """

    record_key: str
    field: str
    reason: str
    patient_id: str | None = None
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class ValueWarning:
    """Values of one field that were left out or changed for one reason; their records were accepted.

    Attributes:
        field: The worklist field, or the `dicom:` target.
        reason: What is wrong with the values, without patient data.
        count: The number of values.
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
        snapshot: The cycle shows everything that the source has, so each key may come only once.
        records: The source's records, in its order.
        passages: The passages that the records form: of each its name, or None, and its number of records.
        repeated: Names of unchanged passages, sent instead of their records.
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
        complete: The cycle has shown everything that the source has.
        error: Why the fetch failed.
        warnings: The warnings of all records of the cycle, including unchanged ones.
        snapshot: The warnings cover all records of the source; otherwise only those that have changed.
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
    """The writer's summary of a cycle, sent in the acknowledgement of the cycle's end.

    Attributes:
        error: Why the cycle counts as failed.
        counts: As in `sync_runs`.
        entries: Live records of the source; None where the cycle could not be stored.
        complete: The cycle was a complete snapshot, and its removals were applied.
        unreadable: Number of records of which nothing could be read.
        forgotten: The cycle named passages that this writer does not know: the source must send everything again.
        held: The removal that is held back (`HeldRemoval`).
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
    """The writer's confirmation that a frame is committed.

    Attributes:
        cycle: The frame's cycle, or the id of a scanner's report.
        seq: The frame's number.
        unkept: Passages that the next cycle must send again with all their records.
        failed: Why the writer cannot store the cycle; the producer ends the cycle.
        summary: For the last frame of a cycle a `CycleResult` (`read_result`), for a report its answer; else None.
    """

    cycle: str
    seq: int
    unkept: Sequence[int] = ()
    failed: str | None = None
    summary: Frame | None = None
