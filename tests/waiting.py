"""Waiting for a condition, as every test does it: with a deadline that costs nothing where the condition comes early."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 120.0
"""A machine that runs other tests beside may be slow."""
_SHORTEST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.06


def wait_until(
    condition: Callable[[], Any], what: str | Callable[[], str] = "so", timeout_s: float = PATIENCE_S
) -> Any:
    """Wait until a condition gives something true, and return that.

    The longer it takes, and the longer the condition itself takes, the less often it is asked: the processes that it
    waits for, and other tests, need the processor.
    """
    began = time.monotonic()
    while True:
        asked = time.monotonic()
        if value := condition():
            return value
        now = time.monotonic()
        if now - began >= timeout_s:
            raise AssertionError(f"after {timeout_s:g} s still not: {what if isinstance(what, str) else what()}")
        time.sleep(min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, 2 * (now - asked), (now - began) / 10)))


def steady_today(for_s: float = 100.0) -> datetime.date:
    """Today, by this machine's clock. Shortly before midnight, the next day is waited for."""

    def steady() -> datetime.date | None:
        now = datetime.datetime.now().astimezone()
        passed_s = datetime.timedelta(hours=now.hour, minutes=now.minute, seconds=now.second).total_seconds()
        return now.date() if passed_s + for_s < 86_400 else None

    return wait_until(steady, "the next day", 2 * for_s)  # type: ignore[no-any-return]
