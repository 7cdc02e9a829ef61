"""Limits how often a line is logged that anybody can cause over HTTP: strangers must not fill the disk.

Lives in the web process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

EVERY_S = 60.0
LOGGERS = ("uvicorn.error", "pylantir.web.pages.views")
_NO_WEBSOCKETS = ("Unsupported upgrade request", "No supported WebSocket library")
"""uvicorn's advice to install a library that would change nothing here."""


class OnceAMinute(logging.Filter):
    """Lets each message of a logger through at most once a minute, and says then how many there were.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._told: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide on one line; messages without their arguments are compared, so there are few of them."""
        message = str(record.msg)
        if message.startswith(_NO_WEBSOCKETS):
            return False
        now = self._clock()
        told_at, untold = self._told.get(message, (-EVERY_S, 0))
        is_due = now - told_at >= EVERY_S
        self._told[message] = (now, 0) if is_due else (told_at, untold + 1)
        if is_due and untold:
            record.msg = f"{message} ({untold} more since the last such line)"
        return is_due


def limit_log() -> None:
    """Limit the lines of what answers strangers."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(OnceAMinute())
