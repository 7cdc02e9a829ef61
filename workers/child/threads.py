"""Starts threads that a process cannot work without. Lives in every child.

An unexpected exception would end such a thread silently, while the process seemed alive. So it ends the whole process,
with a status that makes the supervisor start it again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from pylantir.errors import ExitStatus

logger = logging.getLogger(__name__)


def start_thread(work: Callable[..., object], *arguments: object, name: str) -> threading.Thread:
    """Start a daemon thread whose failure ends the process.

    Args:
        work: The thread's function; it returns when the thread is no longer needed.
        arguments: Its arguments.
        name: For the log.
    """

    def run() -> None:
        try:
            work(*arguments)
        # The last resort of a thread: whatever the error was, the process must not go on without the thread.
        except BaseException:
            logger.exception("thread %s: stopped by an unexpected error; the process will be restarted", name)
            logging.shutdown()
            os._exit(ExitStatus.FAILURE)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
