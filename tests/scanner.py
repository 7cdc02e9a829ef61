"""A scanner that reports its work (MPPS), by pynetdicom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepRetrieve,
)

from pylantir.dicom.client import leave_answers_to_requests


@contextmanager
def connected(port: int, *, calling: str = "MR1") -> Iterator[Association]:
    entity = AE(ae_title=calling)
    for sop_class in (ModalityPerformedProcedureStep, ModalityPerformedProcedureStepRetrieve):
        entity.add_requested_context(sop_class)
    association = entity.associate("127.0.0.1", port)
    assert association.is_established
    leave_answers_to_requests(association)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def dataset(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def beginning(study_uid: str, step_id: str = "", accession: str = "", **changes: Any) -> Dataset:
    """What a real scanner sends when it starts: less than the standard asks for."""
    step = dataset(StudyInstanceUID=study_uid, ScheduledProcedureStepID=step_id, AccessionNumber=accession)
    return dataset(
        **{
            "ScheduledStepAttributesSequence": [step],
            "PatientName": "Zyxwname^Jane",
            "PatientID": "P1",
            "Modality": "MR",
            "PerformedProcedureStepID": "PPS1",
            "PerformedStationAETitle": "MR1",
            "PerformedProcedureStepStartDate": "20300101",
            "PerformedProcedureStepStartTime": "103000",
            "PerformedProcedureStepStatus": "IN PROGRESS",
            **changes,
        }
    )


def ending(status: str = "COMPLETED", day: str = "20300101") -> Dataset:
    return dataset(
        PerformedProcedureStepStatus=status,
        PerformedProcedureStepEndDate=day,
        PerformedProcedureStepEndTime="110000",
        PerformedSeriesSequence=[dataset(ProtocolName="BRAIN", SeriesInstanceUID="1.2.3.4")],
    )


def create(association: Association, uid: str | None, attributes: Dataset) -> Dataset:
    status, _ = association.send_n_create(attributes, ModalityPerformedProcedureStep, uid)
    return status


def change(association: Association, uid: str, attributes: Dataset) -> Dataset:
    status, _ = association.send_n_set(attributes, ModalityPerformedProcedureStep, uid)
    return status


def retrieve(association: Association, uid: str, *tags: int) -> tuple[Dataset, Dataset | None]:
    retrieval = ModalityPerformedProcedureStepRetrieve
    status, attributes = association.send_n_get(list(tags), retrieval, uid)
    return status, attributes
