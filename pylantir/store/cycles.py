"""What a cycle of a source consists of, and how far one has come: the values that the writer's intake works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pylantir.store.quarantine import Rejection
from pylantir.store.removal import HeldRemoval

COUNTS = ("fetched", "inserted", "updated", "unchanged", "cancelled", "rejected")


def utc_now() -> str:
    """The time as the database keeps it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


EntryRecord = tuple[str, str, Mapping[str, str]]
"""Record key, digest of the fields, worklist field -> value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryBatch:
    """Some records of a cycle.

    Attributes:
        cycle: Identifies the cycle; the same in all its frames.
        seq: 1, 2, 3 … within the cycle.
        started_at: When the cycle began (ISO 8601, UTC).
        snapshot: The cycle shows everything that the source has, so a key may come once only.
        records: What the source says, in its order.
        present: Keys of records that still exist, sent without their fields.
        rejected: Records that could not be mapped.
    """

    cycle: str
    seq: int
    started_at: str
    snapshot: bool
    records: Sequence[EntryRecord] = ()
    present: Sequence[str] = ()
    rejected: Sequence[Rejection] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleEnd:
    """The last frame of a cycle; `complete` if all that the source has was shown, `error` if the fetch failed."""

    cycle: str
    seq: int
    started_at: str
    complete: bool
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleSummary:
    """What became of a cycle, as its row in `sync_runs` says, and what the source holds now."""

    counts: Mapping[str, int]
    entries: int
    complete: bool
    unreadable: int = 0
    held: HeldRemoval | None = None


@dataclass(slots=True)
class CycleState:
    """The cycle in progress, as far as it is committed."""

    cycle: str
    started_at: str
    last_seq: int = 0
    whole: bool = True
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    seen: bytearray = field(default_factory=bytearray)
    seen_count: int = 0
    spared_patients: set[str] = field(default_factory=set)
    unreadable: int = 0

    def has_seen(self, record_id: int) -> bool:
        """Whether the cycle has shown a record."""
        byte = record_id >> 3
        return byte < len(self.seen) and bool(self.seen[byte] >> (record_id & 7) & 1)

    def mark_seen(self, record_ids: Sequence[int]) -> None:
        """Remember what a committed batch has shown: a bit per record id."""
        if not record_ids:
            return
        missing = (max(record_ids) >> 3) + 1 - len(self.seen)
        if missing > 0:
            self.seen.extend(bytes(missing))
        for record_id in record_ids:
            if not self.has_seen(record_id):
                self.seen[record_id >> 3] |= 1 << (record_id & 7)
                self.seen_count += 1
