"""What the end of a cycle allows to conclude: did it succeed, was it everything, may anything be removed? Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What may be done at the end of a cycle.

    Attributes:
        error: Why the cycle failed; None if it did not.
        settles: It showed everything that the source has: waiting records come in, missing ones are looked at.
        removes: What it no longer shows may go.
    """

    error: str | None
    settles: bool
    removes: bool


def conclude(
    *,
    error: str | None,
    complete: bool,
    frames_missing: bool,
    whole: bool,
    accepted: int,
    refused: int,
    unreadable: int,
    keep_missing: bool,
) -> Conclusion:
    """Judge a cycle that is over.

    Args:
        error: Why the fetch failed, as the source's worker says.
        complete: The worker says that it has shown everything that the source has.
        frames_missing: The number of the last frame does not follow the one that was committed before it.
        whole: This writer has committed all of the cycle, and knew every passage that it named.
        accepted: Records that could be used.
        refused: Records that could not.
        unreadable: Those of the refused of which not even the key is known: any record may be among them.
        keep_missing: The configuration says `missing_entries: "keep"`.
    """
    if error is None and frames_missing:
        error = "some of its batches did not arrive; the next cycle brings them"
    snapshot = complete and whole and error is None
    if snapshot and refused and not accepted:
        # An error message in place of the bookings, or a column that was renamed: no reason to cancel anybody.
        error = f"none of the {refused} records that were fetched can be used; `pylantir rejects` says why"
        snapshot = False
    return Conclusion(error=error, settles=snapshot, removes=snapshot and not keep_missing and not unreadable)
