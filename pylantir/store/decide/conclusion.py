"""Judges a finished cycle: did it succeed, was it complete, may the writer withdraw records? Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What the writer may do at the end of a cycle.

    Attributes:
        error: Why the cycle failed; None if it did not.
        settles: The cycle showed everything that the source has: the writer admits pending records and judges missing
            ones.
        removes: The writer may withdraw the missing records.
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
    """Judge a finished cycle.

    Args:
        error: Why the fetch failed, according to the source worker.
        complete: The source worker says that it has shown everything that the source has.
        frames_missing: The number of the last frame does not follow that of the frame committed before it.
        whole: This writer has committed the whole cycle and knew every passage that the cycle named.
        accepted: Number of usable records.
        refused: Number of unusable records.
        unreadable: Number of refused records without a readable key: any record may be among them.
        keep_missing: The configuration says `missing_entries: "keep"`.
    """
    if error is None and frames_missing:
        error = "some of its batches did not arrive; the next cycle brings them"
    snapshot = complete and whole and error is None
    if snapshot and refused and not accepted:
        # The export may hold an error message instead of bookings, or a renamed column: do not cancel anybody.
        error = f"none of the {refused} records that were fetched can be used; `pylantir rejects` says why"
        snapshot = False
    return Conclusion(error=error, settles=snapshot, removes=snapshot and not keep_missing and not unreadable)
