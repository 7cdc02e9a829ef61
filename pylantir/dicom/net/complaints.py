"""Warnings about strangers, at a rate that no stranger sets.

Lives in the server process. What is wrong with whom comes in, at most a line a minute per host goes to the log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

EVERY_S = 60.0
MAX_HOSTS = 256


class Complaints:
    """Says once what a host would have it say a thousand times. May be used from several threads."""

    def __init__(self, logger: logging.Logger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, tuple[float, int]] = {}

    def add(self, host: str, text: str) -> None:
        """Log `text` about `host`, unless something was logged about it less than a minute ago."""
        now = self._clock()
        with self._lock:
            logged_at, unsaid = self._last.pop(host, (-EVERY_S, 0))
            is_due = now - logged_at >= EVERY_S
            # The host complained of last is at the end; the first one is forgotten.
            self._last[host] = (now, 0) if is_due else (logged_at, unsaid + 1)
            if len(self._last) > MAX_HOSTS:
                del self._last[next(iter(self._last))]
        if is_due:
            more = f" ({unsaid} more since the last such line)" if unsaid else ""
            self._logger.warning("connection from %s: %s%s", host, text, more)
