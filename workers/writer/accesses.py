"""Stores who was shown what, as the server, the web process and the commands tell it.

Lives in the writer. In: frames from the entry queue, and commands from the supervisor. Out: rows of `access_log`, and
audit messages. A record that cannot be stored by itself is counted as lost; it never stops the frames behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from pylantir.errors import frames_of
from pylantir.ipc.accesses import Access, read_accesses
from pylantir.ipc.batch import write_acknowledgement
from pylantir.ipc.frames import Frame
from pylantir.settings import AccessSettings
from pylantir.store.change.accesses import AccessLog
from pylantir.store.failures import describe_failure, is_passing
from pylantir.store.read.mpps import find_instance

if TYPE_CHECKING:
    from workers.writer.audit.trail import AuditTrail

logger = logging.getLogger(__name__)


class AccessIntake:
    """Takes in the accesses of all processes.

    Args:
        engine: The database, opened for writing.
        settings: Whether they are stored.
        audit: Sends audit messages; None: nobody gets any.
        on_lost: Called with the number of all lost records when one more is lost.
    """

    def __init__(
        self,
        engine: Engine,
        settings: AccessSettings,
        on_lost: Callable[[int], None] = lambda _lost: None,
        audit: AuditTrail | None = None,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._log = AccessLog(engine)
        self.audit = audit
        self._on_lost = on_lost
        self._lost = 0

    def commit(self, frame: Frame) -> Frame:
        """Store the records of a frame; returns its acknowledgement.

        Raises:
            ProtocolError: The frame is malformed.
            sqlalchemy.exc.SQLAlchemyError, OSError: It cannot be stored at present; the caller may try it again.
        """
        accesses, alerts = read_accesses(frame)
        if self._settings.log and accesses:
            self._store(accesses)
        if self.audit:
            self.audit.note(accesses, alerts)
        return write_acknowledgement(frame, summary={})

    def _store(self, accesses: Sequence[Access]) -> None:
        try:
            self._log.store([self._with_items(access) for access in accesses])
        except Exception as error:
            if is_passing(error):
                raise
            if len(accesses) > 1:
                # One that cannot be stored must not take the others with it.
                for access in accesses:
                    self._store([access])
                return
            self._lost += 1
            logger.error("an answer is missing from the access log: it cannot be stored: %s\n%s",  # noqa: TRY400
                         describe_failure(error), frames_of(error))  # fmt: skip
            self._on_lost(self._lost)

    def _with_items(self, access: Access) -> Access:
        """Find the items of a performed procedure step that was shown."""
        if access.instance_uid is None:
            return access
        with self._engine.connect() as connection:
            instance = find_instance(connection, access.instance_uid)
        return replace(access, item_ids=sorted(instance.item_ids)) if instance else access
