"""Stores who was shown what, as the server, the web process and the commands tell it.

Lives in the writer. In: frames from the entry queue, and commands from the supervisor. Out: rows of `access_log`, and
audit messages. A record that cannot be stored by itself is counted as lost; it never stops the frames behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
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
        settings: Whether they are stored, and who gets audit messages.
        ae_title: Our AE title.
        report: Gets values for `status`, from any thread.
    """

    def __init__(
        self, engine: Engine, settings: AccessSettings, ae_title: str, report: Callable[[Mapping[str, object]], None]
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._log = AccessLog(engine)
        self._audit = _begin_audit(engine, settings, ae_title, report)
        self._report = report
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
        if self._audit:
            self._audit.note(accesses, alerts)
        return write_acknowledgement(frame, summary={})

    def note_report(self, frame: Frame, summary: object) -> None:
        """Send an audit message about a report that is committed, if anybody gets some."""
        if self._audit:
            self._audit.note_report(frame, summary)

    def close(self) -> None:
        """Send the last audit message: Pylantir stops."""
        if self._audit:
            self._audit.close()

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
            self._report({"access_lost": self._lost})

    def _with_items(self, access: Access) -> Access:
        """Find the items of a performed procedure step that was shown."""
        if access.instance_uid is None:
            return access
        with self._engine.connect() as connection:
            instance = find_instance(connection, access.instance_uid)
        return replace(access, item_ids=sorted(instance.item_ids)) if instance else access


def _begin_audit(
    engine: Engine, settings: AccessSettings, ae_title: str, report: Callable[[Mapping[str, object]], None]
) -> AuditTrail | None:
    """Begin to send audit messages, if anybody gets some."""
    if settings.syslog is None:
        return None
    from workers.writer.audit.trail import AuditTrail

    return AuditTrail(engine, settings.syslog, ae_title, report)
