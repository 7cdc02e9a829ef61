"""Reporting as a scanner does: N-CREATE and N-SET for one item of the worklist, and N-GET to see what was kept.

Lives in the commands. A peer and a worklist item by worklist field come in; what the server answered comes out. The
reports are complete by the standard, so a server may be strict.

Source: DICOM PS3.4 F.7.2 (table F.7.2-1).
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepRetrieve,
)

from pylantir.dicom.client import Peer, check_status, open_association
from pylantir.errors import DicomPeerError

_EMPTY = (
    "PerformedStationName",
    "PerformedLocation",
    "PerformedProcedureTypeDescription",
    "PerformedProcedureStepEndDate",
    "PerformedProcedureStepEndTime",
)
_EMPTY_SEQUENCES = (
    "ReferencedPatientSequence",
    "ProcedureCodeSequence",
    "PerformedProtocolCodeSequence",
    "PerformedSeriesSequence",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request that was answered with success.

    Attributes:
        status: The performed procedure step's status that it told, or that was read.
        elapsed_ms: Until the answer.
    """

    operation: str
    status: str
    elapsed_ms: float


def report_scan(
    peer: Peer, item: Mapping[str, str], status: str, *, now: Callable[[], datetime.datetime]
) -> Iterator[Exchange]:
    """Begin a scan of an item and end it.

    Args:
        peer: Whom to tell.
        item: Worklist field -> value, as `pylantir.dicom.client.find_scheduled` gives it.
        status: `COMPLETED` or `DISCONTINUED`.
        now: Local time.

    Yields:
        Each request as soon as it is answered.

    Raises:
        DicomPeerError: The server cannot be reached or refuses, or did not keep what it was told.
    """
    uid = generate_uid(prefix=None)
    sop_class = ModalityPerformedProcedureStep
    with open_association(peer, sop_class, ModalityPerformedProcedureStepRetrieve) as association:
        beginning = make_beginning(item, station_aet=peer.calling, now=now())
        started = time.monotonic()
        check_status(peer, association.send_n_create(beginning, sop_class, uid)[0])
        yield Exchange(operation="N-CREATE", status="IN PROGRESS", elapsed_ms=_since(started))
        ending = make_ending(item, status, now=now())
        started = time.monotonic()
        check_status(peer, association.send_n_set(ending, sop_class, uid)[0])
        yield Exchange(operation="N-SET", status=status, elapsed_ms=_since(started))
        if not any(one.abstract_syntax != sop_class for one in association.accepted_contexts):
            return
        started = time.monotonic()
        answer, kept = association.send_n_get([], ModalityPerformedProcedureStepRetrieve, uid)
        check_status(peer, answer)
        found = str((kept or Dataset()).get("PerformedProcedureStepStatus", ""))
        if found != status:
            raise DicomPeerError(f'{peer} was told {status}, and has kept "{found}"')
        yield Exchange(operation="N-GET", status=found, elapsed_ms=_since(started))


def make_beginning(item: Mapping[str, str], *, station_aet: str, now: datetime.datetime) -> Dataset:
    """The attribute list of an N-CREATE."""
    step = _dataset(
        StudyInstanceUID=item.get("study_instance_uid"),
        ReferencedStudySequence=[],
        AccessionNumber=item.get("accession_number"),
        RequestedProcedureID=item.get("requested_procedure_id"),
        RequestedProcedureDescription=item.get("procedure_description"),
        ScheduledProcedureStepID=item.get("scheduled_procedure_step_id"),
        ScheduledProcedureStepDescription=item.get("protocol_name"),
        ScheduledProtocolCodeSequence=[],
    )
    return _dataset(
        SpecificCharacterSet="ISO_IR 192",
        ScheduledStepAttributesSequence=[step],
        PatientName=item.get("patient_name"),
        PatientID=item.get("patient_id"),
        PatientBirthDate=item.get("patient_birth_date"),
        PatientSex=item.get("patient_sex"),
        PerformedProcedureStepID=f"TEST{now:%H%M%S}",
        PerformedStationAETitle=station_aet,
        PerformedProcedureStepStartDate=f"{now:%Y%m%d}",
        PerformedProcedureStepStartTime=f"{now:%H%M%S}",
        PerformedProcedureStepStatus="IN PROGRESS",
        PerformedProcedureStepDescription=item.get("procedure_description"),
        Modality=item.get("modality"),
        StudyID=item.get("requested_procedure_id"),
        **dict.fromkeys(_EMPTY),
        **{keyword: [] for keyword in _EMPTY_SEQUENCES},
    )


def make_ending(item: Mapping[str, str], status: str, *, now: datetime.datetime) -> Dataset:
    """The modification list of the N-SET that ends a scan, with one series."""
    series = _dataset(
        PerformingPhysicianName=None,
        ProtocolName=item.get("protocol_name") or "TEST",
        OperatorsName=None,
        SeriesInstanceUID=generate_uid(prefix=None),
        SeriesDescription="test-mpps",
        RetrieveAETitle=None,
        ReferencedImageSequence=[],
        ReferencedNonImageCompositeSOPInstanceSequence=[],
    )
    return _dataset(
        SpecificCharacterSet="ISO_IR 192",
        PerformedProcedureStepStatus=status,
        PerformedProcedureStepEndDate=f"{now:%Y%m%d}",
        PerformedProcedureStepEndTime=f"{now:%H%M%S}",
        PerformedSeriesSequence=[series],
    )


def _dataset(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _since(started: float) -> float:
    return (time.monotonic() - started) * 1000
