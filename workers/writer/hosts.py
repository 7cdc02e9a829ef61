"""What the writer does when something changes among the hosts: it begins sources anew, or lets them stand by.

Lives in the writer's loop. In: what `Membership` finds, and what a transaction found to be over. Out: welcomes for the
sources that it concerns, rules for further decisions, the hosts and leases for `status`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from pylantir.errors import ClusterChanged, HistoryLost, StoreError
from pylantir.store.failures import is_passing
from workers.child.channel import Channel
from workers.writer.frames import FrameIntake
from workers.writer.membership import Membership

logger = logging.getLogger(__name__)


class HostWatch:
    """Keeps up with the other hosts.

    Args:
        membership: This host's place among them.
        frames: The sources' places in the writer.
        greet_again: Sends a source a new welcome.
        channel: To the supervisor.
        note_trouble: Called when the database cannot be written.
        note_recovery: Called when it could be written.
    """

    def __init__(
        self,
        membership: Membership,
        frames: FrameIntake,
        greet_again: Callable[[str], None],
        channel: Channel,
        note_trouble: Callable[[Exception], None],
        note_recovery: Callable[[], None],
    ) -> None:
        self._membership = membership
        self._frames = frames
        self._greet_again = greet_again
        self._channel = channel
        self._note_trouble = note_trouble
        self._note_recovery = note_recovery
        self._told: dict[str, object] | None = None

    def watch(self) -> None:
        """Give this host's sign of life when it is due, and see whether another host's end leaves it something.

        Raises:
            StoreError: The database is another one; the next writer begins anew.
        """
        if time.monotonic() < self._membership.next_at:
            return
        try:
            if self._membership.must_look():
                self._look()
        except SQLAlchemyError as error:
            if not is_passing(error):
                raise
            self._note_trouble(error)

    def adapt(self, change: ClusterChanged) -> None:
        """Read anew what a transaction has found to be over; its caller tries again."""
        if isinstance(change, HistoryLost):
            logger.warning(
                "source %s: the database is not as this host's writer left it; it is fetched once more", change.source
            )
            self._begin_anew(change.source)
            return
        try:
            self._look()
        except SQLAlchemyError as error:
            self._note_trouble(error)

    def tell(self) -> None:
        """Report hosts and leases for `status`, if they are not those reported last."""
        described = self._membership.describe()
        if described != self._told:
            self._told = described
            self._channel.report({"cluster": described})

    def _look(self) -> None:
        try:
            changes = self._membership.look()
        except StoreError as error:
            self._channel.report({"database": str(error)})
            raise
        self._note_recovery()
        anew = set(changes.gained)
        if changes.history_lost:
            logger.warning("the database has lost what was committed last; every source is fetched once more")
            anew |= set(self._frames.forget_all())
        if changes.rules:
            self._frames.use_rules(changes.rules)
        for source in anew | changes.lost:
            self._begin_anew(source)
        self.tell()

    def _begin_anew(self, source: str) -> None:
        """Forget what is in memory about a source, and let its worker do the same."""
        self._frames.forget(source)
        self._greet_again(source)
