"""Searches by a regular expression with a time limit: some expressions take practically for ever on some texts.

Lives in source workers and in `preview`. In: an expression and a text; out: the match, or `TimeoutError`.
"""

from __future__ import annotations

import re
import signal
import threading

LONGEST_SEARCH_S = 1.0
"""Measured in processor time, so that a busy machine makes no search fail."""


def search(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Find an expression in a text. The limit works in the main thread only; no other thread can be interrupted.

    Raises:
        TimeoutError: The search exceeds the time limit.
    """
    if threading.current_thread() is not threading.main_thread():
        return pattern.search(text)
    if signal.getsignal(signal.SIGVTALRM) is not _give_up:
        signal.signal(signal.SIGVTALRM, _give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_SEARCH_S)
    try:
        return pattern.search(text)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _give_up(_number: int, _frame: object) -> None:
    raise TimeoutError
