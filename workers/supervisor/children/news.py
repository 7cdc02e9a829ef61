"""What a child says of itself: values for `status`, and when a source's next cycle is due. Pure: time is passed in.

A child's reports fill this and do nothing more: a child cannot make the supervisor do anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from workers.supervisor.children.lifecycle import LONGEST_PROMISE_S

REPORTED_BY_SOURCES = (
    "last_sync", "last_success", "next_sync", "entries", "rejected", "last_error", "last_counts", "last_duration_s",
    "waits_for_window", "progress", "standby", "recent_cycles",
)  # fmt: skip
_PASSING = (
    "database", "queue_depth", "refusals", "warning", "left_behind", "progress", "log_dropped", "standby", "cluster",
    "database_role",
)  # fmt: skip
"""The values that say nothing of the next incarnation."""
_REPORTED = {*REPORTED_BY_SOURCES, *_PASSING, "associations", "access_lost", "audit_lost", "tally"}
"""The values that a child may report for `status`."""
_LONGEST_VALUE = 4000
LONGEST_TALLY = 512 * 1024
"""Room for all counts and histograms of as many scanners as a process keeps apart."""


class News:
    """What the incarnations of a child have said, each adding to what those before it have said.

    Attributes:
        values: For `status`: the last value of each name.
        last_sign_at: When anything was heard last (monotonic seconds, as all moments here).
        expected_at: When a source's next cycle is due; None before the first one.
        wanted_since: Since when a source's first cycle has been wanted.
    """

    def __init__(self, now: float) -> None:
        self.values: dict[str, object] = {}
        self.last_sign_at = now
        self.expected_at: float | None = None
        self.wanted_since = now

    def begin(self, now: float) -> None:
        """Begin an incarnation: forget what is true of the one before only."""
        for name in _PASSING:
            self.values.pop(name, None)
        self.last_sign_at = now

    def take(self, values: Mapping[str, object], now: float) -> float | None:
        """Take a report.

        Returns:
            When the source's next cycle is due, if a cycle has ended.
        """
        if "standby" in values and values["standby"] != self.values.get("standby"):
            # Its timetable is another host's now, or begins anew.
            self.expected_at, self.wanted_since = None, now
        self.values |= {
            name: _bounded(value, LONGEST_TALLY if name in {"tally", "cluster"} else _LONGEST_VALUE)
            for name, value in values.items()
            if name in _REPORTED
        }
        next_in_s = values.get("next_in_s")
        if not (isinstance(next_in_s, int | float) and 0 <= next_in_s < LONGEST_PROMISE_S):
            return None
        if values.get("on_time") is True:
            self.expected_at = now + next_in_s
        return now + next_in_s


def _bounded(value: object, longest: int) -> object:
    """Limit the length of a value that a child reports: `status` must always fit into one answer."""
    if isinstance(value, str):
        return value[:longest]
    return value if len(json.dumps(value)) <= longest else None
