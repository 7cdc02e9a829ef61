"""What keeps the database from taking anything, and when to try again.

Lives in the writer. In: errors, and the news that something could be written. Out: the moment of the next attempt. The
log has each trouble once, and `status` shows it until it is over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from pylantir.store.failures import describe_failure, is_lock_timeout

_FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0

logger = logging.getLogger(__name__)


class DatabaseTrouble:
    """The database's present trouble.

    Args:
        report: Gets what `status` shows, from any thread.
        most_s: The longest time to the next attempt; this host gives signs of life only then.

    Attributes:
        text: What is wrong; None: the database works.
        is_locked_out: Nothing is wrong but that another host's writer, or another program, has a lock.
        retry_at: When to try again (monotonic seconds).
    """

    def __init__(self, report: Callable[[Mapping[str, object]], None], most_s: float = LONGEST_PAUSE_S) -> None:
        self.text: str | None = None
        self.is_locked_out = False
        self.retry_at = 0.0
        self._pause_s = 0.0
        self._damage: str | None = None
        # Two troubles may take turns: a locked table, and another host's writer that waits for it.
        self._told: set[str] = set()
        self._report = report
        self._most_s = min(most_s, LONGEST_PAUSE_S)

    def note(self, error: Exception) -> None:
        """Note that the database could not be written."""
        self.is_locked_out = is_lock_timeout(error)
        what = describe_failure(error)
        if what not in self._told:
            logger.error("the database takes nothing, everything waits: %s", what)
            self._told.add(what)
        if what != self.text:
            self._report({"database": what})
        self.text = what
        if self.is_locked_out:
            # It has waited for the lock already.
            self._pause_s = self.retry_at = 0.0
        else:
            self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), self._most_s)
            self.retry_at = time.monotonic() + self._pause_s

    def note_recovery(self, *, frames_waiting: int = 0) -> None:
        """Note that the database could be written.

        Args:
            frames_waiting: So many frames are to be tried: only they can show that the trouble is over, because what
                was written is less than theirs. On a full disk, signs of life still succeed.
        """
        if frames_waiting:
            return
        if self.text:
            logger.info("the database works again")
            self._report({"database": self._damage})
        self.text, self.is_locked_out = None, False
        self._told.clear()
        self._pause_s = self.retry_at = 0.0

    def note_damage(self, what: str) -> None:
        """Report damage that the integrity check has found; called from its thread."""
        self._damage = f"the database file is damaged: {what}; put a backup in its place while there is one"
        logger.error("%s", self._damage)
        self._report({"database": self._damage})
