"""A search by a regular expression that gives up: some expressions take years on an unlucky text.

Lives in source workers and in `preview`. In: an expression and a text; out: the match, or `TimeoutError`.
"""

from __future__ import annotations

import re
import signal
import threading

LONGEST_SEARCH_S = 1.0
"""Of processor time, so that a busy machine spoils no search."""


def search(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Find an expression in a text. Only the main thread can be interrupted; elsewhere the search takes its time.

    Raises:
        TimeoutError: It takes longer than anybody waits.
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
