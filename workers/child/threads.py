"""Threads that a process cannot do without. Lives in every child.

An exception that nobody expected would end such a thread without a word, and the process would look alive. It ends the
process instead, with a status that makes the supervisor start it anew.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from pylantir.errors import ExitStatus

logger = logging.getLogger(__name__)


def start_thread(work: Callable[..., object], *arguments: object, name: str) -> threading.Thread:
    """Start a thread that does not keep the process alive, and that takes the process along if it fails.

    Args:
        work: What it does; it returns when it is no longer needed.
        arguments: Handed to it.
        name: For the log.
    """

    def run() -> None:
        try:
            work(*arguments)
        # The last resort of a thread: whatever it was, the process must not go on without it.
        except BaseException:
            logger.exception("thread %s: stopped by an unexpected error; the process will be restarted", name)
            logging.shutdown()
            os._exit(ExitStatus.FAILURE)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
