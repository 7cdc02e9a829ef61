"""Whether a snapshot's removals may be applied: the guard against half an export cancelling a day's patients. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

HELD_AT_LEAST = 10
SIGHTINGS = 3
WAIT = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRemoval:
    """A removal that waits: the same picture seen three times over 15 minutes, or an operator, lets it through.

    Attributes:
        picture: Digest of the missing records' keys.
        would_cancel: Items that it would cancel.
        of: Items that the source had before.
        since: When the picture was seen first (ISO 8601, UTC).
        times: How often it has been seen.
    """

    picture: str
    would_cancel: int
    of: int
    since: str
    times: int

    def as_json(self) -> dict[str, object]:
        """The value as the database keeps it."""
        return asdict(self)


def make_picture(record_keys: Iterable[str]) -> str:
    """Digest a set of record keys."""
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(record_keys):
        digest.update(key.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def judge_removal(
    *, picture: str, would_cancel: int, of: int, accepted: bool, held: HeldRemoval | None, now: datetime
) -> HeldRemoval | None:
    """Decide about a snapshot's removals.

    Args:
        picture: Digest of the keys of the missing records.
        would_cancel: Items that the removal would cancel.
        of: Items that the source had before this snapshot.
        accepted: An operator has said `pylantir accept`.
        held: What an earlier snapshot held back.
        now: The time.

    Returns:
        None to go ahead, or what is now held back.
    """
    too_many = would_cancel > 0 and (would_cancel >= of or (would_cancel >= HELD_AT_LEAST and would_cancel * 2 > of))
    if accepted or not too_many:
        return None
    if held is None or held.picture != picture:
        held = HeldRemoval(picture=picture, would_cancel=would_cancel, of=of, since=now.isoformat(), times=0)
    times = held.times + 1
    if times >= SIGHTINGS and now - datetime.fromisoformat(held.since) >= WAIT:
        return None
    return HeldRemoval(picture=picture, would_cancel=would_cancel, of=of, since=held.since, times=times)
