"""Answering what scanners report: N-CREATE, N-SET and N-GET of Modality Performed Procedure Step.

Lives in the server process; called from association threads, several at once, which wait for the writer's COMMIT. It
decides nothing: whatever can be read goes to the writer. No attribute's value is logged: that is patient data.

Source: DICOM PS3.4 F.7 (MPPS SOP class), F.8 (Retrieve SOP class).
"""

from __future__ import annotations

import logging
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepRetrieve,
)

from pylantir.dicom.mpps.json_model import attributes_of, dataset_of
from pylantir.errors import MppsRefused, PylantirError, StoreError, WriterUnavailable
from pylantir.mpps.model import Attributes, DimseStatus, ErrorId, MppsAnswer, MppsRequest, Operation
from pylantir.mpps.rules import refusal_answer

logger = logging.getLogger(__name__)

MPPS_SOP_CLASSES = (ModalityPerformedProcedureStep, ModalityPerformedProcedureStepRetrieve)
Response = tuple[Dataset, Dataset | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MppsPorts:
    """What the service needs of the process around it.

    Attributes:
        report: Gives a request to the writer and waits for its answer. May raise WriterUnavailable.
        retrieve: The attributes of a stored instance, or None. May raise StoreError.
    """

    report: Callable[[MppsRequest], MppsAnswer]
    retrieve: Callable[[str], Attributes | None]


class MppsService:
    """The MPPS SOP classes."""

    def __init__(self, ports: MppsPorts) -> None:
        self._ports = ports

    @property
    def handlers(self) -> list[tuple[evt.EventType, Callable[[evt.Event], object]]]:
        """What to bind to an association server."""
        return [
            (evt.EVT_N_CREATE, self._create),
            (evt.EVT_N_SET, self._set),
            (evt.EVT_N_GET, self._get),
        ]

    def _create(self, event: evt.Event) -> Response:
        request: Any = event.request
        uid, sop_class = _text(request.AffectedSOPInstanceUID), request.AffectedSOPClassUID

        def work() -> tuple[MppsAnswer, Dataset | None]:
            _check_operation(event, sop_class, ModalityPerformedProcedureStep, "N-CREATE")
            answer = self._report(event, "create", uid, "attribute_list")
            made = Dataset()
            if uid is None and answer.status == DimseStatus.SUCCESS:
                made.AffectedSOPInstanceUID = answer.sop_instance_uid
            return answer, made

        return _respond(event, "N-CREATE", uid, work)

    def _set(self, event: evt.Event) -> Response:
        request: Any = event.request
        uid, sop_class = _text(request.RequestedSOPInstanceUID), request.RequestedSOPClassUID

        def work() -> tuple[MppsAnswer, Dataset | None]:
            _check_operation(event, sop_class, ModalityPerformedProcedureStep, "N-SET")
            return self._report(event, "set", uid, "modification_list"), None

        return _respond(event, "N-SET", uid, work)

    def _get(self, event: evt.Event) -> Response:
        request: Any = event.request
        uid, sop_class = _text(request.RequestedSOPInstanceUID), request.RequestedSOPClassUID

        def work() -> tuple[MppsAnswer, Dataset | None]:
            _check_operation(event, sop_class, ModalityPerformedProcedureStepRetrieve, "N-GET")
            attributes = self._ports.retrieve(uid or "")
            if attributes is None:
                comment = "there is no such instance"
                raise MppsRefused(DimseStatus.NO_SUCH_INSTANCE, ErrorId.UNKNOWN_INSTANCE, comment)
            wanted = [f"{tag:08X}" for tag in event.attribute_identifiers]
            missing = tuple(tag for tag in wanted if tag not in attributes)
            status = DimseStatus.ATTRIBUTE_LIST_ERROR if missing else DimseStatus.SUCCESS
            found = {tag: value for tag, value in attributes.items() if not wanted or tag in wanted}
            return MppsAnswer(status=status, tags=missing), dataset_of(found)

        return _respond(event, "N-GET", uid, work)

    def _report(self, event: evt.Event, operation: Operation, uid: str | None, source: str) -> MppsAnswer:
        try:
            attributes: Dataset = getattr(event, source)
        except Exception as error:  # noqa: BLE001 - pydicom decodes here, and a stranger's bytes raise anything
            comment = f"the data set cannot be decoded ({type(error).__name__})"
            raise MppsRefused(DimseStatus.INVALID_VALUE, ErrorId.UNREADABLE, comment) from None
        return self._ports.report(
            MppsRequest(
                request_id=uuid.uuid4().hex,
                operation=operation,
                sop_instance_uid=uid,
                scanner=event.assoc.requestor.ae_title,
                attributes=attributes_of(attributes),
            )
        )


def _check_operation(event: evt.Event, sop_class: object, expected: str, operation: str) -> None:
    """Refuse an operation that the SOP class of the presentation context, or of the request, does not have."""
    if event.context.abstract_syntax != expected:
        comment = f"this SOP class has no {operation}"
        raise MppsRefused(DimseStatus.UNRECOGNISED_OPERATION, ErrorId.WRONG_OPERATION, comment)
    # A request to retrieve may name the class of the instance or the one that retrieves it.
    if sop_class not in {expected, ModalityPerformedProcedureStep}:
        comment = "the request is for another SOP class"
        raise MppsRefused(DimseStatus.NO_SUCH_CLASS, ErrorId.WRONG_CLASS, comment)


def _respond(
    event: evt.Event, operation: str, uid: str | None, work: Callable[[], tuple[MppsAnswer, Dataset | None]]
) -> Response:
    """Do the work, turn whatever happens into a response, and log it in one line."""
    started = time.monotonic()
    caller = event.assoc.requestor.ae_title
    attributes = None
    try:
        answer, attributes = work()
    except MppsRefused as refusal:
        answer = refusal_answer(refusal, uid)
    except (WriterUnavailable, StoreError, MemoryError) as error:
        answer = _failure(DimseStatus.RESOURCE_LIMITATION, ErrorId.UNAVAILABLE, "not possible just now; try again")
        _log_failure(operation, caller, error)
    except Exception as error:  # noqa: BLE001 - a stranger's bytes raise anything, and the scanner needs an answer
        answer = _failure(DimseStatus.PROCESSING_FAILURE, ErrorId.INTERNAL, "internal error")
        _log_failure(operation, caller, error)
    refused = answer.error_id is not None
    logger.log(
        logging.WARNING if refused else logging.INFO,
        "MPPS %s from %s: status 0x%04X%s, %.0f ms",
        operation,
        caller,
        answer.status,
        f" ({answer.comment})" if refused else "",
        (time.monotonic() - started) * 1000,
    )
    return _status(answer, with_tags=operation != "N-CREATE"), attributes


def _status(answer: MppsAnswer, *, with_tags: bool) -> Dataset:
    status = Dataset()
    status.Status = answer.status
    if answer.error_id is not None:
        status.ErrorID = answer.error_id
        status.ErrorComment = answer.comment
    if answer.tags and with_tags:
        status.AttributeIdentifierList = [int(tag, 16) for tag in answer.tags]
    return status


def _failure(status: DimseStatus, error_id: ErrorId, comment: str) -> MppsAnswer:
    return MppsAnswer(status=status, error_id=error_id, comment=comment)


def _log_failure(operation: str, caller: str, error: BaseException) -> None:
    """Log where an exception was raised, and its text only if it is ours: others quote patient data."""
    ours = isinstance(error, PylantirError)
    frames = "" if ours else "\n" + "".join(traceback.format_tb(error.__traceback__)).rstrip()
    logger.error("MPPS %s from %s failed: %s%s", operation, caller, error if ours else type(error).__name__, frames)


def _text(uid: object) -> str | None:
    return str(uid) if uid else None
