"""Scanners' reports in the entry queue: the frame, and how the writer stores it.

A report waits no longer than the scanner does: the writer does not store an expired report, because the scanner was
told that it failed. If the writer had stored it before it died, the repeated report is answered at any time. The
monotonic clock is the machine's, so both processes read the same one.
"""

from __future__ import annotations

import datetime
import logging
import time

from sqlalchemy import Engine

from pylantir.errors import ProtocolError, WriterUnavailable, frames_of
from pylantir.ipc.batch import write_acknowledgement
from pylantir.ipc.frames import Frame
from pylantir.mpps.model import DimseStatus, ErrorId, MppsAnswer, MppsRequest
from pylantir.store.change.reports import record_report
from pylantir.store.decide.claims import Rules
from pylantir.store.failures import is_passing

logger = logging.getLogger(__name__)


def commit_report(engine: Engine, frame: Frame, rules: Rules, *, strict: bool) -> Frame:
    """Store one report, and return the acknowledgement that carries its answer.

    Raises:
        ProtocolError: The frame is no report.
        sqlalchemy.exc.SQLAlchemyError, OSError: It cannot be stored at present; the caller may try the frame again.
    """
    request, expires_at = _read(frame)
    now = datetime.datetime.now(datetime.UTC)
    try:
        answer = record_report(
            engine,
            request,
            rules,
            strict=strict,
            now=now,
            today=now.astimezone().strftime("%Y%m%d"),
            is_awaited=lambda: time.monotonic() <= expires_at,
        )
    except WriterUnavailable:
        return write_acknowledgement(frame, summary={"expired": True})
    except Exception as error:
        if is_passing(error):
            raise
        # One report that cannot be stored must not stop those behind it. Its text may quote the patient.
        frames = frames_of(error)
        logger.error("MPPS of %s cannot be stored: %s\n%s", request.scanner, type(error).__name__, frames)  # noqa: TRY400
        answer = MppsAnswer(
            status=DimseStatus.PROCESSING_FAILURE, error_id=ErrorId.INTERNAL, comment="internal error; see the log"
        )
    return write_acknowledgement(frame, summary=answer.as_json())


def _read(frame: Frame) -> tuple[MppsRequest, float]:
    body, request_id, expires_at = frame.get("request"), frame.get("cycle"), frame.get("expires_at")
    if (
        frame.get("kind") != "report"
        or not isinstance(body, dict)
        or not isinstance(request_id, str)
        or not isinstance(expires_at, float)
    ):
        msg = "a frame that is no report"
        raise ProtocolError(msg)
    try:
        return MppsRequest(request_id=request_id, **body), expires_at
    except TypeError:
        msg = "a malformed report"
        raise ProtocolError(msg) from None
