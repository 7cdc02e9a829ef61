"""Looks whether the worklist can be read, also while no scanner asks, so that `status` tells a database that is stuck.

Lives in the server process, in a thread of its own: a look may take seconds, and the main loop accepts scanners.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from pylantir.errors import StoreError
from workers.child.threads import start_thread

LOOK_EVERY_S = 4.0
LOOK_AGAIN_AFTER_S = 0.05
LOOK_AGAIN_CAP_S = 1.0
"""How soon it looks again after a failure; at a first start the writer is just making the database."""
FIRST_LOOK_S = 1.0
"""How long the start waits for the first look."""


class DatabaseWatch:
    """The thread that looks.

    Args:
        look: Reads something; raises StoreError if that fails, and takes note itself.
        is_troubled: Whether the last attempt to read, by whomever, failed.
    """

    def __init__(self, look: Callable[[], object], is_troubled: Callable[[], bool]) -> None:
        self._look = look
        self._is_troubled = is_troubled
        self._woken = threading.Event()
        self._has_looked = threading.Event()
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin, and give the first look a moment."""
        start_thread(self._run, name="database-watch")
        self._has_looked.wait(FIRST_LOOK_S)

    def check(self) -> None:
        """Look again soon if a read has failed."""
        if self._is_troubled():
            self._woken.set()

    def end(self) -> None:
        """Let the thread end after its look; nobody waits for it."""
        self._ended.set()
        self._woken.set()

    def _run(self) -> None:
        pause_s = LOOK_AGAIN_AFTER_S
        while not self._ended.is_set():
            with suppress(StoreError):
                self._look()
            self._has_looked.set()
            if self._is_troubled():
                self._ended.wait(pause_s)
                pause_s = min(2 * pause_s, LOOK_AGAIN_CAP_S)
            else:
                pause_s = LOOK_AGAIN_AFTER_S
                self._woken.wait(LOOK_EVERY_S)
                self._woken.clear()
