"""Finds the items that a scanner's report may mean.

Lives in the writer. In: what identifies an exam in the report. Out: candidates for `pylantir.mpps.linking`, which
decides among them; nothing here writes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, RowMapping, or_, select

from pylantir.entry import SCHEDULED
from pylantir.mpps.linking import Candidate, Clues
from pylantir.store.decide.claims import STATUS, may_be_generated
from pylantir.store.decide.evidence import (
    BIRTH_DATE,
    ISSUER,
    NAME,
    SEX,
    Description,
    is_correction,
    is_somebody_else,
)
from pylantir.store.read.study_uids import has_supplied_uid
from pylantir.store.schema.tables import worklist_items

_ITEMS = worklist_items.c


def find_candidates(connection: Connection, clues: Clues) -> Sequence[Candidate]:
    """Return the items that the report may mean, by every identifier in it."""
    study_uids = {step.study_uid for step in clues.steps if step.study_uid}
    accessions = {step.accession_number for step in clues.steps if step.accession_number}
    by_uid = _ITEMS.study_instance_uid.in_(study_uids) | _ITEMS.generated_study_uid.in_(study_uids)
    indexed: list[ColumnElement[bool]] = [_ITEMS.accession_number.in_(accessions), has_supplied_uid(study_uids)]
    if clues.patient_id:
        formerly = [_ITEMS.former_study_uids.contains(f'"{uid}"', autoescape=True) for uid in study_uids]
        meant = or_(_ITEMS.scheduled_start_date == clues.day, by_uid, *formerly)
        indexed.append((_ITEMS.patient_id == clues.patient_id) & meant)
    rows = list(connection.execute(select(worklist_items).where(or_(*indexed))).mappings())
    found = {row[name] for row in rows for name in ("study_instance_uid", "generated_study_uid")}
    if any(may_be_generated(uid) for uid in study_uids - found):
        # The UID is one that Pylantir made, but the patient ID differs: no index helps, so this look-up comes last.
        known = {row["id"] for row in rows}
        everywhere = connection.execute(select(worklist_items).where(by_uid)).mappings()
        rows += [row for row in everywhere if row["id"] not in known]
    reported = {"patient_id": clues.patient_id, NAME: clues.name, BIRTH_DATE: clues.birth_date, SEX: clues.sex}
    return [_as_candidate(row, reported) for row in rows]


def _as_candidate(row: RowMapping, reported: Description) -> Candidate:
    return Candidate(
        id=row["id"],
        study_uids=frozenset(uid for uid in (row["study_instance_uid"], row["generated_study_uid"]) if uid),
        former_uids=frozenset(json.loads(row["former_study_uids"] or "[]")),
        step_id=row["scheduled_procedure_step_id"] or str(row["id"]),
        accession_number=row["accession_number"] or "",
        patient_id=row["patient_id"] or "",
        modality=row["modality"] or "",
        day=row["scheduled_start_date"] or "",
        status=row[STATUS] or SCHEDULED,
        issuer=row[ISSUER] or "",
        is_somebody_else=is_somebody_else(dict(row), reported),
        is_same_person=is_correction(dict(row), reported),
    )
