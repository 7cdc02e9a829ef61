"""Tells the supervisor for `status` whether the server can read the worklist, and what it has refused.

At a first start the writer is just making the tables. A worklist that cannot be read is not reported until the
supervisor says that they are made, or that the writer cannot make them.

Lives in the server process. Association threads note changes and wake the main loop, which reports them at a limited
rate that no peer can raise.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from sqlalchemy.exc import SQLAlchemyError

from pylantir.certificates import Verdict
from pylantir.errors import StoreError
from pylantir.ipc.tally import Tally
from pylantir.store.failures import describe_error
from workers.child.channel import Channel

logger = logging.getLogger(__name__)

TELL_EVERY_S = 0.5
BEHIND_S = 60.0
"""A server that is only read lacks the latest commits if no host has given a sign of life there for so long."""
BEHIND = (
    f"more than {BEHIND_S:.0f} s old: the server that is read (db_read_url, or a standby) does not follow the one that "
    "is written, or that one is down"
)


class News:
    """The state that `status` shows.

    Args:
        clock: Monotonic seconds.

    Attributes:
        trouble: Why the last attempt to read the worklist has failed; None: it has not.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.trouble: str | None = None
        self._shown: str | None = None
        self._role: str | None = None
        self._behind: str | None = None
        self._is_prepared = False
        self._certificate = Verdict()
        self._clock = clock
        self._told_at = float("-inf")
        self._is_due = True
        self._news, self._bell = socket.socketpair()
        self._news.setblocking(False)
        self._bell.setblocking(False)

    def fileno(self) -> int:
        """The descriptor for a selector: readable after `ring`."""
        return self._news.fileno()

    def ring(self) -> None:
        """Wake the main loop, because there is something to report. For any thread."""
        # If the pipe is full, the loop is awake already.
        with suppress(BlockingIOError):
            self._bell.send(b"!")

    def notice(self) -> None:
        """Take note of `ring`."""
        self._is_due = True
        with suppress(BlockingIOError):
            while self._news.recv(512):
                pass

    def pause_s(self) -> float | None:
        """Seconds until the next report; None: there is nothing to report."""
        return max(0.0, self._told_at + TELL_EVERY_S - self._clock()) if self._is_due else None

    def tell(self, channel: Channel, refusals: Mapping[str, int], associations: int, tally: Tally) -> None:
        """Report to the supervisor if it is time."""
        if self.pause_s() == 0:
            self._is_due, self._told_at = False, self._clock()
            verdict = self._certificate
            tls = verdict.text if verdict.is_unusable else None
            warned = [verdict.text if not verdict.is_unusable else None, self._behind]
            warning = "; ".join(filter(None, warned)) or None
            report: dict[str, object] = {
                "database": self._shown or tls, "warning": warning, "refusals": dict(refusals),
                "associations": associations, "database_role": self._role,
            }  # fmt: skip
            counted = tally.take_news()
            channel.report({**report, "tally": counted} if counted else report)

    def note_role(self, role: str | None, *, is_behind: bool) -> None:
        """Note which kind of server answers, the "primary" or a "standby", and whether it lacks the latest commits."""
        behind = f"what scanners get is {BEHIND}" if is_behind else None
        if behind and not self._behind:
            logger.warning("what scanners get is %s", BEHIND)
        if (role, behind) != (self._role, self._behind):
            self._role, self._behind = role, behind
            self.ring()

    def note_prepared(self) -> None:
        """Note that the writer is done with the tables: from now on a failure to read is reported."""
        self._is_prepared = True

    def note_certificate(self, verdict: Verdict) -> None:
        """Log the verdict on the server's certificate when it changes, and let `status` show it."""
        if verdict != self._certificate:
            self._certificate = verdict
            if verdict.text:
                logger.warning("dicom.tls: %s", verdict.text)
            self.ring()

    @contextmanager
    def watched(self) -> Iterator[bool]:
        """Note whether a read succeeds; a failure becomes a StoreError, which quotes no values.

        Yields:
            Whether the writer is done with the tables, and has given its first sign of life.
        """
        # A read that began earlier may not have found the tables.
        is_prepared = self._is_prepared
        try:
            yield is_prepared
        except StoreError as error:
            self._note(f"the worklist is not served: {error}", is_prepared=is_prepared)
            raise
        except SQLAlchemyError as error:
            msg = f"the worklist cannot be read: {describe_error(error)}"
            self._note(f"the worklist is not served: {msg}", is_prepared=is_prepared)
            raise StoreError(msg) from None
        else:
            self._note(None, is_prepared=is_prepared)

    def _note(self, trouble: str | None, *, is_prepared: bool) -> None:
        self.trouble = trouble
        shown = trouble if is_prepared else None
        if shown != self._shown:
            self._shown = shown
            self.ring()
