"""Reads records and items of many patients. Lives in the writer.

It reads in bulk: one statement per chunk, never one per row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from pylantir.entry import RECORD_FIELDS
from pylantir.ipc.records import RecordColumns
from pylantir.mpps.linking import read_clues
from pylantir.mpps.model import COMPLETED
from pylantir.store.decide.claims import Item, Performed
from pylantir.store.decide.classify import Existing
from pylantir.store.decide.records import LIVE, RECORD_COLUMNS, STORED_COLUMNS, Record, given_fields
from pylantir.store.schema.bulk import RowTuple, select_among, select_among_new
from pylantir.store.schema.done_exams import find_done_exams
from pylantir.store.schema.facts import Facts, ask_facts
from pylantir.store.schema.tables import mpps_instances, source_entries, worklist_items

_ITEM_COLUMNS = tuple(column.name for column in worklist_items.columns)


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of a batch's records: what reads it, once it was asked for.

    Attributes:
        existing: Key -> record.
        facts: What the decisions need besides.
    """

    existing: Callable[[], Mapping[str, Existing]]
    facts: Callable[[], Facts]


def ask_stored(connection: Connection, source: str, records: RecordColumns, version: str | None) -> Stored:
    """Ask what is stored of a source's records; `version` is that of the rules by which is decided."""
    return Stored(ask_existing(connection, source, records.keys, records.names), ask_facts(connection, version))


def ask_existing(
    connection: Connection, source: str, keys: Sequence[str], names: Sequence[str] = ()
) -> Callable[[], Mapping[str, Existing]]:
    """Ask for a source's stored records with these keys, with the named fields and more if they have more.

    Returns:
        What reads them: key -> record.
    """
    if not keys:
        return dict
    # The last two NULLs: a source may give every field, and COALESCE needs two arguments.
    others = ", ".join([*(name for name in RECORD_FIELDS if name not in names), "NULL", "NULL"])
    columns = ("record_key", "id", "state", "patient_id", f"COALESCE({others})", *names)
    found = select_among_new(connection, source_entries, columns, "record_key", keys, source=source)
    return lambda: {
        key: Existing(number, state, patient_id, contents if more is None else [*contents, more])
        for key, number, state, patient_id, more, *contents in found
    }


def ask_records(connection: Connection, patients: Iterable[str]) -> Iterator[Record]:
    """Ask for the records of these patients, in every state; see `bulk.ask`."""
    rows = select_among(connection, source_entries, STORED_COLUMNS, "patient_id", patients)

    def read() -> Iterator[Record]:
        own = len(RECORD_COLUMNS)
        for row in rows:
            named = dict(zip(RECORD_COLUMNS, row[:own], strict=True))
            yield Record(**named, fields=given_fields(row[own:]), stored=row, changed=False)

    return read()


def ask_items(connection: Connection, patients: Iterable[str]) -> Iterator[Item]:
    """Ask for the items of these patients, including cancelled ones."""
    rows = select_among(connection, worklist_items, _ITEM_COLUMNS, "patient_id", patients)
    return map(_as_item, _when_read(rows))


def _as_item(row: RowTuple) -> Item:
    return Item(row[0], dict(zip(_ITEM_COLUMNS, row, strict=True)))


def _when_read(rows: Iterable[RowTuple]) -> Iterator[RowTuple]:
    """Read asked rows no sooner than somebody wants the first."""
    yield from rows


def read_items_of(connection: Connection, item_ids: Iterable[int]) -> dict[int, Item]:
    """Return items by their ids, of any patient."""
    return {row[0]: _as_item(row) for row in select_among(connection, worklist_items, _ITEM_COLUMNS, "id", item_ids)}


def find_claiming_patients(connection: Connection, item_ids: Iterable[int]) -> Iterable[RowTuple]:
    """Return (item, patient ID) of the live records of some items."""
    named, live = ("item_id", "patient_id"), f"state = '{LIVE}'"
    return select_among(connection, source_entries, named, "item_id", item_ids, condition=live, distinct=True)


def ask_performed(
    connection: Connection, patients: Sequence[str], done_exams_key: str | None
) -> Callable[[], dict[str, list[Performed]]]:
    """Ask for the steps of completed exams whose items are gone; return what reads them: patient ID -> steps."""
    columns = ("patient_id", "sop_instance_uid", "item_ids", "updated_at")
    found = select_among_new(connection, mpps_instances, columns, "patient_id", patients)
    done = find_done_exams(connection, patients, done_exams_key)

    def read() -> dict[str, list[Performed]]:
        performed: dict[str, list[Performed]] = {}
        for patient, exam in done:
            performed.setdefault(patient, []).append(Performed(*exam))
        for patient, uid, item_ids, updated_at in found:
            # What is remembered of the item knows the issuer; the scanner need not have named it.
            known = {one.study_uid for one in performed.get(patient, ())} | {""}
            steps = [one for one in _read_steps(connection, uid, item_ids, updated_at) if one.study_uid not in known]
            if steps:
                performed.setdefault(patient, []).extend(steps)
        return performed

    return read


def _read_steps(connection: Connection, uid: str, item_ids: str, updated_at: str) -> list[Performed]:
    """Return the steps of a report, if its exam is completed and its items are gone."""
    numbers = json.loads(item_ids)
    statement = select(mpps_instances.c.attributes).where(
        mpps_instances.c.sop_instance_uid == uid,
        mpps_instances.c.status == COMPLETED,
        ~select(worklist_items.c.id).where(worklist_items.c.id.in_(numbers)).exists(),
    )
    attributes = connection.scalar(statement) if numbers else None
    if attributes is None:
        return []
    clues = read_clues(json.loads(attributes), updated_at[:10].replace("-", ""))
    return [Performed(one.study_uid, one.accession_number, clues.day, clues.issuer) for one in clues.steps]


def relink_reports(connection: Connection, patient: str, study_uid: str, item_id: int) -> None:
    """Tie the reports of a done exam to the item that it has again."""
    rows = connection.execute(
        select(mpps_instances.c.sop_instance_uid, mpps_instances.c.item_ids, mpps_instances.c.attributes).where(
            mpps_instances.c.patient_id == patient
        )
    ).all()
    for uid, item_ids, attributes in rows:
        if any(step.study_uid == study_uid for step in read_clues(json.loads(attributes), "").steps):
            numbers = json.dumps([*json.loads(item_ids), item_id])
            connection.execute(
                update(mpps_instances).where(mpps_instances.c.sop_instance_uid == uid), {"item_ids": numbers}
            )
