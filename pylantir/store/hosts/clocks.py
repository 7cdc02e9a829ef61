"""Compares this machine's clock with the database server's, and says so where they differ.

Lives in the writer. Signs of life go by the server's clock alone. What counts as today is by each host's own clock, and
so is the moment in each row: a host whose clock is wrong must be told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from pylantir.store.clock import Clock, system_time

CLOCKS_DIFFER_S = 60.0
"""A difference that is told: more than the clocks of machines differ that are set by NTP."""

logger = logging.getLogger(__name__)


def difference_s(asked_at: float, server_at: float, answered_at: float) -> float:
    """Return how far this machine's clock is at least ahead of the server's; negative: behind; 0: they may agree.

    Args:
        asked_at: When the server was asked for its time, by this machine's clock (seconds since 1970).
        server_at: What it answered.
        answered_at: When the answer was there, by this machine's clock.
    """
    return max(0.0, asked_at - server_at) + min(0.0, answered_at - server_at)


class ClockComparison:
    """This machine's clock beside the server's.

    Args:
        clock: This machine's clock.

    Attributes:
        told: What the log and `status` say of the difference; None: there is none, or it was never looked for.
    """

    def __init__(self, clock: Clock = system_time) -> None:
        self.told: str | None = None
        self._clock = clock
        self._ahead_s = self._told_ahead_s = 0.0

    def ask(self, read_server_time: Callable[[], float]) -> None:
        """Ask the server for its time (seconds since 1970), and compare."""
        asked_at = self._clock().timestamp()
        server_at = read_server_time()
        self._ahead_s = difference_s(asked_at, server_at, self._clock().timestamp())
        if abs(self._ahead_s) <= CLOCKS_DIFFER_S:
            if self.told:
                logger.info("this machine's clock agrees with the database server's again")
            self.told = None
        elif not self.told or abs(self._ahead_s - self._told_ahead_s) > CLOCKS_DIFFER_S:
            self._told_ahead_s = self._ahead_s
            by = f"{timedelta(seconds=round(abs(self._ahead_s)))} {'ahead of' if self._ahead_s > 0 else 'behind'}"
            self.told = f"this machine's clock is {by} the database server's; set both by NTP"
            logger.warning(
                "this machine's clock is %s the database server's; what counts as today depends on it: set both by NTP",
                by,
            )

    def earlier(self) -> datetime:
        """Return the time by this machine's clock, or by the server's if that one is behind."""
        return self._clock() - timedelta(seconds=max(0.0, self._ahead_s))
