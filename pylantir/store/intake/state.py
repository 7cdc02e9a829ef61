"""The values that the writer's intake works on: a source's cycle, its progress and its summary.

Glossary: cycle, snapshot (docs/explanation/glossary.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pylantir.store.decide.removal import HeldRemoval
from pylantir.store.intake.remembered import Passages

COUNTS = ("fetched", "inserted", "updated", "unchanged", "cancelled", "rejected")


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleSummary:
    """The result of a cycle, as in its row of `sync_runs`, and the source's present state.

    Attributes:
        counts: As in `sync_runs`.
        entries: Live records of the source.
        complete: The cycle was a complete snapshot, and its removals were applied.
        error: Why it failed; None if it did not.
        unreadable: Number of records of which nothing could be read.
        held: The removal that is held back.
        forgotten: The cycle named passages that this writer does not know: the source must send everything again.
    """

    counts: Mapping[str, int]
    entries: int
    complete: bool
    error: str | None = None
    forgotten: bool = False
    unreadable: int = 0
    held: HeldRemoval | None = None


@dataclass(slots=True)
class CycleState:
    """The committed part of the cycle in progress.

    `whole` becomes false when this writer missed a part of the cycle: it must not treat the cycle as a snapshot then.
    `gap` becomes true when the database lacks a part of it. `repeats` counts the exact repeats in it.
    """

    cycle: str
    started_at: str
    last_seq: int = 0
    whole: bool = True
    forgotten: bool = False
    gap: bool = False
    passages: Passages = field(default_factory=Passages)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    seen: bytearray = field(default_factory=bytearray)
    seen_count: int = 0
    spared_patients: set[str] = field(default_factory=set)
    accepted: int = 0
    refused: int = 0
    unreadable: int = 0
    repeats: int = 0

    def has_seen(self, record_id: int) -> bool:
        """Whether the cycle has shown a record."""
        byte = record_id >> 3
        return byte < len(self.seen) and bool(self.seen[byte] >> (record_id & 7) & 1)

    def has_seen_any(self, record_ids: Sequence[int]) -> bool:
        """Whether the cycle has shown one of several records."""
        if isinstance(record_ids, range):
            first, last = record_ids.start, record_ids.stop - 1
            part = int.from_bytes(self.seen[first >> 3 : (last >> 3) + 1], "little")
            return bool(part >> (first & 7) & (1 << len(record_ids)) - 1)
        return any(map(self.has_seen, record_ids))

    def mark_seen(self, record_ids: Sequence[int]) -> None:
        """Remember the records that a committed batch has shown: one bit per record id."""
        if not record_ids:
            return
        seen, first, last = self.seen, min(record_ids), max(record_ids)
        seen.extend(bytes(max(0, (last >> 3) + 1 - len(seen))))
        if last - first + 1 == len(record_ids) == len(set(record_ids)):
            begin, end = first >> 3, (last >> 3) + 1
            before = int.from_bytes(seen[begin:end], "little")
            after = before | (1 << len(record_ids)) - 1 << (first & 7)
            seen[begin:end] = after.to_bytes(end - begin, "little")
            self.seen_count += after.bit_count() - before.bit_count()
            return
        for record_id in record_ids:
            byte, bit = record_id >> 3, 1 << (record_id & 7)
            if not seen[byte] & bit:
                seen[byte] |= bit
                self.seen_count += 1
