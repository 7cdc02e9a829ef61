"""Counts what a transaction of the intake did, and logs it after the commit. Lives in the writer."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from pylantir.ipc.cycles import Rejection
from pylantir.store.decide.differences import KEPT_APART, WISH, Difference
from pylantir.store.decide.records import LIVE, REFUSED
from pylantir.store.intake.state import COUNTS
from pylantir.store.intake.working.items import Events

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What one batch did, to be added to the cycle once it is committed.

    Attributes:
        counts: As in `sync_runs`.
        seen: Ids of the records that the batch showed.
        ids: Key -> id of the stored records that the batch showed.
        unclean: Keys of records to check again in the next cycle: repeated, rejected, not live.
        rejected: Records that go into quarantine.
        refused: Keys of records that are already in quarantine.
        repeats: Exact repeats within the fetch.
        events: What became of items.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    seen: list[int] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    unclean: set[str] = field(default_factory=set)
    rejected: list[Rejection] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    repeats: int = 0
    events: list[Events] = field(default_factory=list)

    def note(self, key: str, record_id: int, state: str, counted_as: str) -> None:
        """Note a record that the batch showed and that is stored."""
        self.seen.append(record_id)
        self.ids[key] = record_id
        if state != LIVE:
            self.unclean.add(key)
        self.counts["rejected" if state == REFUSED else counted_as] += 1

    def reject(self, rejections: Iterable[Rejection]) -> None:
        """Note records that go into quarantine."""
        for one in rejections:
            self.rejected.append(one)
            self.unclean.add(one.record_key)

    def add(self, other: Outcome) -> None:
        """Add the outcome of another part of the batch."""
        for name, count in other.counts.items():
            self.counts[name] += count
        self.seen += other.seen
        self.ids |= other.ids
        self.unclean |= other.unclean
        self.rejected += other.rejected
        self.refused += other.refused
        self.repeats += other.repeats
        self.events += other.events


def tell_outcome(source: str, result: Outcome) -> None:
    """Log what a transaction did, now that it is committed: item ids and sources, never patients."""
    for events in result.events:
        tell_events(f"source {source}", events)


def tell_events(actor: str, events: Events) -> None:
    """Log what a committed transaction did to items."""
    if events.inserted:
        logger.info("%s: new items %s", actor, format_ids(events.inserted))
    if events.changed:
        logger.info("%s: changed items %s", actor, format_ids(events.changed))
    if events.cancelled:
        logger.info("%s: cancelled items %s", actor, format_ids(events.cancelled))
    for difference in events.differences:
        _tell_difference(difference)


def _tell_difference(difference: Difference) -> None:
    fields = ", ".join(sorted(difference.fields))
    if difference.other_patient is not None:
        message = "items %d and %d were one exam until a source corrected the patient ID (`pylantir conflicts`)"
        logger.warning(message, *difference.items)
    elif difference.unsaid:
        message = "items %d and %d may be one exam, and nothing says so: one lacks %s (`pylantir conflicts`)"
        logger.warning(message, *difference.items, fields)
    elif difference.kind == KEPT_APART:
        message = "items %d and %d are kept apart although their numbers agree: %s differ (`pylantir conflicts`)"
        logger.warning(message, *difference.items, fields)
    elif difference.kind == WISH:
        message = "item %d: the scanner has reported on it, so %s from %s counts no more (`pylantir conflicts`)"
        logger.warning(message, *difference.items, fields, difference.sources[0])
    else:
        message = "item %d: %s from %s wins over a different one from %s"
        logger.warning(message, *difference.items, fields, *difference.sources)


def format_ids(ids: Collection[int]) -> str:
    """Write item ids with runs shortened: 1-500, 502."""
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
