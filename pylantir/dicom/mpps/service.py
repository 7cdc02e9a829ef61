"""Answering what scanners report: N-CREATE, N-SET and N-GET of Modality Performed Procedure Step.

Lives in the server process; called from association threads, several at once, which wait for the writer's COMMIT. It
decides nothing: whatever can be read goes to the writer. No attribute's value is logged: that is patient data.

Source: DICOM PS3.4 F.7 (MPPS SOP class), F.8 (Retrieve SOP class).
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from pylantir.dicom.mpps.decoding import read_attributes
from pylantir.dicom.mpps.encoding import write_attributes
from pylantir.dicom.net.commands import Ending, Operation
from pylantir.dicom.net.services import ReportRequest
from pylantir.errors import MppsRefused, PylantirError, StoreError, WriterUnavailable, frames_of
from pylantir.mpps.model import Attributes, DimseStatus, ErrorId, MppsAnswer, MppsRequest
from pylantir.mpps.rules import refusal_answer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MppsPorts:
    """What the service needs of the process around it.

    Attributes:
        report: Gives a request to the writer and waits for its answer. May raise WriterUnavailable.
        retrieve: The attributes of a stored instance, or None. May raise StoreError.
        creator: Returns the AE title that created a stored instance, or None; only that title may then use the step.
            May raise StoreError. None in place of the function: everybody may use every step.
    """

    report: Callable[[MppsRequest], MppsAnswer]
    retrieve: Callable[[str], Attributes | None]
    creator: Callable[[str], str | None] | None = None


class MppsService:
    """The MPPS SOP classes."""

    def __init__(self, ports: MppsPorts) -> None:
        self._ports = ports

    def answer(self, request: ReportRequest) -> Ending:
        """Answer one request, and log it in one line."""
        started = time.monotonic()
        attributes: Attributes | None = None
        try:
            self._check_owner(request)
            if request.operation is Operation.N_GET:
                answer, attributes = self._retrieve(request)
            else:
                answer = self._report(request)
        except MppsRefused as refusal:
            answer = refusal_answer(refusal, request.instance_uid)
        except (WriterUnavailable, StoreError, MemoryError) as error:
            answer = _failure(DimseStatus.RESOURCE_LIMITATION, ErrorId.UNAVAILABLE, "not possible just now; try again")
            _log_failure(request, error)
        except Exception as error:  # noqa: BLE001 - a stranger's bytes raise anything, and the scanner needs an answer
            answer = _failure(DimseStatus.PROCESSING_FAILURE, ErrorId.INTERNAL, "internal error")
            _log_failure(request, error)
        _log_answer(request, answer, (time.monotonic() - started) * 1000)
        return _ending(request, answer, attributes)

    def _check_owner(self, request: ReportRequest) -> None:
        if self._ports.creator is None or request.operation is Operation.N_CREATE:
            return
        creator = self._ports.creator(request.instance_uid or "")
        if creator not in {None, request.caller}:
            comment = "the step is another AE title's (mpps.own_only)"
            raise MppsRefused(DimseStatus.NOT_AUTHORISED, ErrorId.NOT_OWN, comment)

    def _retrieve(self, request: ReportRequest) -> tuple[MppsAnswer, Attributes]:
        attributes = self._ports.retrieve(request.instance_uid or "")
        if attributes is None:
            comment = "there is no such instance"
            raise MppsRefused(DimseStatus.NO_SUCH_INSTANCE, ErrorId.UNKNOWN_INSTANCE, comment)
        wanted = [f"{tag:08X}" for tag in request.attributes]
        missing = tuple(tag for tag in wanted if tag not in attributes)
        status = DimseStatus.ATTRIBUTE_LIST_ERROR if missing else DimseStatus.SUCCESS
        found = {tag: value for tag, value in attributes.items() if not wanted or tag in wanted}
        return MppsAnswer(status=status, tags=missing), found

    def _report(self, request: ReportRequest) -> MppsAnswer:
        reading = read_attributes(request.data, explicit_vr=request.explicit_vr)
        return self._ports.report(
            MppsRequest(
                request_id=uuid.uuid4().hex,
                operation="create" if request.operation is Operation.N_CREATE else "set",
                sop_instance_uid=request.instance_uid,
                scanner=request.caller,
                attributes=reading.attributes,
                oddities=reading.oddities,
            )
        )


def _log_answer(request: ReportRequest, answer: MppsAnswer, elapsed_ms: float) -> None:
    if answer.error_id is None:
        logger.info(
            "MPPS %s from %s: status 0x%04X, %.0f ms", request.operation, request.caller, answer.status, elapsed_ms
        )
    else:
        logger.warning(
            "MPPS %s from %s: status 0x%04X (%s), %.0f ms",
            request.operation, request.peer, answer.status, answer.comment, elapsed_ms,
        )  # fmt: skip


def _ending(request: ReportRequest, answer: MppsAnswer, attributes: Attributes | None) -> Ending:
    made = answer.sop_instance_uid if answer.status == DimseStatus.SUCCESS else None
    return Ending(
        status=answer.status,
        comment=answer.comment if answer.error_id is not None else "",
        error_id=answer.error_id,
        instance_uid=request.instance_uid or made,
        # An N-CREATE response has no element for them.
        attributes=() if request.operation is Operation.N_CREATE else tuple(int(tag, 16) for tag in answer.tags),
        data=write_attributes(attributes, explicit_vr=request.explicit_vr) if attributes else b"",
    )


def _failure(status: DimseStatus, error_id: ErrorId, comment: str) -> MppsAnswer:
    return MppsAnswer(status=status, error_id=error_id, comment=comment)


def _log_failure(request: ReportRequest, error: BaseException) -> None:
    """Log where an exception was raised, and its text only if it is ours: others quote patient data."""
    ours = isinstance(error, PylantirError)
    frames = "" if ours else "\n" + frames_of(error)
    text = error if ours else type(error).__name__
    logger.error("MPPS %s from %s failed: %s%s", request.operation, request.peer, text, frames)
