"""Turns what happens into audit messages: accesses, refusals, reports, and the application's start and stop.

Lives in the writer, because everything comes together here. In: what has been committed. Out: messages for the
`SyslogSender`. Nothing here can fail a frame.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from pylantir.audit import messages
from pylantir.audit.messages import AuditSource, Study
from pylantir.audit.syslog import pack
from pylantir.errors import StoreError
from pylantir.ipc.accesses import Access, Alert
from pylantir.ipc.frames import Frame
from pylantir.settings import SyslogServer
from pylantir.store.read.accesses import find_studies, find_studies_of_step
from workers.writer.audit.syslog_sender import SyslogSender

LAST_MESSAGES_S = 1.0
"""How long the last messages may take at the end of the process."""
_REPORTED = {"create": ("N-CREATE", "C"), "set": ("N-SET", "U")}
_DONE = frozenset({0x0000, 0x0001, 0x0107, 0x0116})
_RECORDS = ("/items/", "/dicomweb/modality-performed-procedure-steps/")

logger = logging.getLogger(__name__)


class AuditTrail:
    """The audit messages of this installation.

    Args:
        engine: The database, which is only read.
        server: Where they go.
        ae_title: Our AE title.
        tell: Gets values for `status`, from any thread.
    """

    def __init__(
        self, engine: Engine, server: SyslogServer, ae_title: str, tell: Callable[[Mapping[str, object]], None]
    ) -> None:
        self._engine = engine
        self._source = AuditSource(ae_title=ae_title, host=socket.gethostname(), pid=os.getpid())
        self._sender = SyslogSender(server, tell)
        self._send(messages.activity_message(self._source, moment := _now(), "start"), moment)

    def close(self) -> None:
        """Say that Pylantir stops."""
        self._send(messages.activity_message(self._source, moment := _now(), "stop"), moment)
        self._sender.close(LAST_MESSAGES_S)

    def note(self, accesses: Iterable[Access], alerts: Iterable[Alert]) -> None:
        """Report answers and refusals, each by itself."""
        for access in accesses:
            studies = self._studies_of(access) if is_record(access) else ()
            for moment in access.moments:
                if not studies:
                    self._send(messages.query_message(self._source, moment, access), moment)
                self._send_records(studies, moment, "R", access)
        for alert in alerts:
            self._send(messages.alert_message(self._source, alert), alert.moment)

    def note_report(self, frame: Frame, answer: object) -> None:
        """Report a scanner's report that was taken."""
        request = frame.get("request")
        if not isinstance(request, dict) or not isinstance(answer, dict) or answer.get("status") not in _DONE:
            return
        service, action = _REPORTED.get(str(request.get("operation")), ("N-SET", "U"))
        uid = request.get("sop_instance_uid") or answer.get("sop_instance_uid")
        moment = _now()
        who = Access(
            service=service, peer=str(request.get("scanner")), status=f"{answer['status']:04X}", matches=1,
            moments=[moment], instance_uid=str(uid),
        )  # fmt: skip
        self._send_records(self._studies_of(who), moment, action, who)

    def _send_records(self, studies: Sequence[Study], moment: int, action: str, who: Access) -> None:
        ordered = sorted(studies, key=lambda study: study.patient_id or "")
        for _, of_patient in groupby(ordered, key=lambda study: study.patient_id):
            text = messages.record_message(
                self._source, moment, action, who, list(of_patient), who.instance_uid,  # type: ignore[arg-type]
            )  # fmt: skip
            self._send(text, moment)

    def _studies_of(self, access: Access) -> Sequence[Study]:
        try:
            with self._engine.connect() as connection:
                if access.instance_uid:
                    found = find_studies_of_step(connection, access.instance_uid)
                else:
                    found = find_studies(connection, access.item_ids)
        except (SQLAlchemyError, StoreError) as error:
            logger.warning("an audit message names no study: the database cannot be read (%s)", type(error).__name__)
            return [Study(study_uid=None, patient_id=None)]
        return [Study(study_uid=study_uid, patient_id=patient_id) for study_uid, patient_id in found]

    def _send(self, message: str, moment: int) -> None:
        self._sender.send(pack(message, moment=moment, host=self._source.host, pid=self._source.pid))


def is_record(access: Access) -> bool:
    """Whether somebody was shown one procedure, rather than what a query found."""
    if not access.item_ids and access.instance_uid is None:
        return False
    return (
        access.service in {"N-GET", "command explain"}
        or (access.service in {"page", "DICOMweb"} and access.asked.startswith(_RECORDS))
    )  # fmt: skip


def _now() -> int:
    return time.time_ns() // 1000
