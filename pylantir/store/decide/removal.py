"""The guard that keeps half an export from cancelling a day's patients: what is held back, and for how long. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

HELD_AT_LEAST = 3
SNAPSHOTS = 3
SNAPSHOTS_IF_SELDOM = 2
WAIT = timedelta(minutes=15)
SELDOM_S = WAIT.total_seconds()
"""A source that is fetched less often than this needs fewer snapshots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRemoval:
    """What a source's snapshots hold back: the records themselves carry since when.

    Attributes:
        would_cancel: Items that would be cancelled.
        of: Items that the source had before the hold began: the measure until it ends.
        since: When it began (ISO 8601, UTC).
        times: In how many snapshots the first of the records has been missing.
    """

    would_cancel: int
    of: int
    since: str
    times: int

    def as_json(self) -> dict[str, object]:
        """The value as the database keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> HeldRemoval | None:
        """The value that the database has; None for one of an earlier version, which is judged anew."""
        names = cls.__dataclass_fields__
        return cls(**value) if value.keys() == names.keys() else None  # type: ignore[arg-type]  # we wrote it


def is_suspicious(newly_missing: int, *, of: int, anything_new: bool) -> bool:
    """Tell whether a snapshot is rather half an export than a day's cancellations.

    Args:
        newly_missing: Items that it would cancel, and that the snapshot before it still had.
        of: Items that the source had; during a hold, before the hold began.
        anything_new: The snapshot brought records that the source did not have before.
    """
    if newly_missing >= HELD_AT_LEAST and newly_missing * 2 > of:
        return True
    return newly_missing > 0 and newly_missing >= of and not anything_new


def is_due(*, since: str, times: int, now: datetime, seldom: bool) -> bool:
    """Tell whether a held record has been missing for long enough to go.

    Args:
        since: When it was held first (ISO 8601, UTC).
        times: In how many whole snapshots it has been missing, this one included.
        now: The time.
        seldom: Its source is fetched less often than every `SELDOM_S` seconds.
    """
    needed = SNAPSHOTS_IF_SELDOM if seldom else SNAPSHOTS
    return times >= needed and now - datetime.fromisoformat(since) >= WAIT
