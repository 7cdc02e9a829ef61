"""The guard against truncated exports: it decides which removals to hold back, and for how long. Pure.

Glossary: held (docs/explanation/glossary.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

HELD_AT_LEAST = 3
SNAPSHOTS = 3
SNAPSHOTS_IF_SELDOM = 2
WAIT = timedelta(minutes=15)
SELDOM_S = WAIT.total_seconds()
"""For a source that is fetched less often than this, fewer snapshots end the hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRemoval:
    """The removal that is held back for one source; each held record says since when it has been missing.

    Attributes:
        would_cancel: Items that would be cancelled.
        of: Items that the source had before the hold began; the guard compares with this number until the hold ends.
        since: When the hold began (ISO 8601, UTC).
        times: From how many snapshots the first of the records has been missing.
    """

    would_cancel: int
    of: int
    since: str
    times: int

    def as_json(self) -> dict[str, object]:
        """Return the JSON object that the database keeps."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> HeldRemoval | None:
        """Read the database's JSON object; return None for an earlier version's, so that it is judged again."""
        names = cls.__dataclass_fields__
        return cls(**value) if value.keys() == names.keys() else None  # type: ignore[arg-type]  # we wrote it


def is_suspicious(newly_missing: int, *, of: int, anything_new: bool) -> bool:
    """Tell whether a snapshot looks like a truncated export rather than a day's cancellations.

    Args:
        newly_missing: Items that it would cancel and that the previous snapshot still showed.
        of: Items that the source had; during a hold, before the hold began.
        anything_new: The snapshot brought records that the source did not have before.
    """
    if newly_missing >= HELD_AT_LEAST and newly_missing * 2 > of:
        return True
    return newly_missing > 0 and newly_missing >= of and not anything_new


def is_due(*, since: str, times: int, now: datetime, seldom: bool) -> bool:
    """Tell whether a held record has been missing long enough to be withdrawn.

    Args:
        since: Since when it is held (ISO 8601, UTC).
        times: From how many complete snapshots it has been missing, this one included.
        now: The time.
        seldom: Its source is fetched less often than every `SELDOM_S` seconds.
    """
    needed = SNAPSHOTS_IF_SELDOM if seldom else SNAPSHOTS
    return times >= needed and now - datetime.fromisoformat(since) >= WAIT
