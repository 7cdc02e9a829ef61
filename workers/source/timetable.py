"""Decides when a source is fetched next. Pure: the caller passes the clocks in.

Lives in source workers. In: the source's interval and window, the results of its cycles, and operators' requests. Out:
times on a monotonic clock, for which the source worker waits.
"""

from __future__ import annotations

import datetime
import math

from pylantir.schedule import next_start, seconds_until_open
from pylantir.settings import OperationWindow

WATCH_EVERY_S = 1.0
"""How often the worker looks at a watched source; it also fetches no more often than this."""
RETRY_AFTER_S = 10.0
"""Time to the next attempt after a first failure: a file that is being written, or a server that restarts, should not
cost a whole long interval."""
_SHORTEST_BACKOFF_CAP_S, _LONGEST_BACKOFF_CAP_S = 30.0, 300.0


def pause_after_failures(failures: int, interval_s: float) -> float:
    """Return how long to wait after so many failures in a row.

    The pause begins with the interval (10 s if that is longer) and doubles up to the interval, but at least to 30 s and
    at most to 5 minutes: this spares a server that is down or limits its clients, and still finds it again soon.
    """
    first = max(WATCH_EVERY_S, min(interval_s, RETRY_AFTER_S))
    cap = min(max(interval_s, _SHORTEST_BACKOFF_CAP_S), _LONGEST_BACKOFF_CAP_S)
    return min(first * 2.0 ** min(failures - 1, 16), cap)


class Timetable:
    """The timetable of one source: intervals from start to start, without drift, inside the operation window.

    Args:
        interval_s: From start to start.
        window: When the source may be fetched, in its local time.
        due: When the first cycle is due; None: as soon as the window is open.
    """

    def __init__(self, interval_s: float, window: OperationWindow, *, due: float | None = None) -> None:
        self._interval_s = interval_s
        self._window = window
        self._due = due
        self._asked = False
        self._failures = 0
        self._begun_at = self._watch_from = -math.inf

    def ask(self) -> None:
        """Note that an operator wants a cycle now, even outside the window."""
        self._asked = True

    def drop_request(self) -> None:
        """Forget that an operator wants a cycle."""
        self._asked = False

    def begin_anew(self, now: float) -> None:
        """Note that the source is to be fetched at once, if its window is open: what was fetched before is void."""
        self._due = min(self._due_at(now), now)
        self._failures = 0

    def is_due(self, now: float, local_now: datetime.datetime) -> bool:
        """Say whether a cycle is to begin now.

        Args:
            now: Monotonic seconds.
            local_now: The source's local time.
        """
        return self._asked or (now >= self._due_at(now) and seconds_until_open(self._window, local_now) == 0)

    def may_watch(self, now: float, local_now: datetime.datetime) -> bool:
        """Say whether a change of a watched source may begin a cycle now."""
        return now >= self._watch_from and seconds_until_open(self._window, local_now) == 0

    def begin(self, now: float) -> bool:
        """Note that a cycle begins; return whether an operator has asked for it."""
        asked, self._asked = self._asked, False
        self._due = min(self._due_at(now), now)
        self._begun_at = now
        return asked

    def end(self, now: float, *, succeeded: bool, again: bool = False) -> None:
        """Note that the cycle is over.

        Args:
            now: Monotonic seconds.
            succeeded: Everything was fetched and is committed.
            again: The cycle must be repeated at once although it succeeded.
        """
        if succeeded:
            self._failures = 0
            self._due = now if again else next_start(self._due_at(now), self._interval_s, now)
            self._watch_from = self._begun_at + WATCH_EVERY_S
        else:
            self._failures += 1
            self._due = now + pause_after_failures(self._failures, self._interval_s)
            self._watch_from = now + WATCH_EVERY_S

    def next_start(self, now: float, local_now: datetime.datetime) -> float:
        """Say when the next cycle begins if nobody asks for one and nothing changes: the next point in the window."""
        at = max(self._due_at(now), now)
        local_at = datetime.datetime.fromtimestamp(local_now.timestamp() + at - now, local_now.tzinfo)
        return at + seconds_until_open(self._window, local_at)

    def waits_for_window(self, now: float, local_now: datetime.datetime) -> bool:
        """Say whether the window, and not the interval, decides when the next cycle begins."""
        return self.next_start(now, local_now) > max(self._due_at(now), now)

    def _due_at(self, now: float) -> float:
        return now if self._due is None else self._due
