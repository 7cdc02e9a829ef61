"""Lists the present differences between sources, with advice. Lives in commands and web process; only reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from pylantir.store.decide.differences import DIFFERS, HELD, KEPT_APART, WISH
from pylantir.store.decide.evidence import IDENTITY
from pylantir.store.read.listings import stream
from pylantir.store.schema.tables import conflicts, source_entries

_WHAT_TO_DO = {
    KEPT_APART: "If it is one exam of one person, correct the fields in one of the two sources; if not, nothing.",
    DIFFERS: "Correct the fields in the source that is wrong; until then the first source counts.",
    WISH: "Nothing changes any more: a scanner, or `set-status`, has set its status. Correct the images if wrong.",
    HELD: "If they are cancelled indeed, run `pylantir accept {source}`; if not, repair the source.",
}
_NEW_RULES = (
    "This version's rules give the exam another study UID (a scanner may show the present one). They do so when its "
    "sources change it, or at the first start after a day; correct the records if that would be wrong."
)
_CORRECTED = (
    "One source has corrected the patient ID and the other has not; correct it there as well. If they are two people, "
    "nothing."
)
_TWO_PEOPLE = (
    "If it is one person, correct the fields where they are wrong. If they are two, both are listed: correct a patient "
    "ID, or give each site its issuer_of_patient_id or patient_id_prefix."
)
_OF_ANOTHER_EXAM = (
    "Nothing changes any more: a scanner, or `set-status`, has reported on the item. If another exam is meant, book it "
    "under another record ID and accession number."
)
_UNCLEAR = (
    "One record fits several exams of the day, so it is listed by itself. Give it what it lacks, the procedure or an "
    "accession number in its source; if it is another exam, nothing."
)
_MOVED = "One source has moved the exam and the other has not; correct it, or cancel it, in the source that is wrong."


def find_conflicts(connection: Connection, *, source: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the open differences, the oldest first, and then the removals that are held back, one per source.

    Args:
        connection: Open for reading.
        source: Only differences that involve this source.

    Yields:
        `kind` (kept_apart, differs, wish or held), `patient_id`, `items` (numbers), `sources` and `records` (lists),
        `fields` (names) and `what_to_do` (a sentence).

    Raises:
        StoreError: The database cannot be read just now.
    """
    for row in stream(connection, select(conflicts).order_by(conflicts.c.id)):
        entry = _describe(row)
        if source is None or source in entry["sources"]:
            yield entry
    yield from _find_held(connection, source)


def count_conflicts(connection: Connection) -> tuple[int, dict[str, int]]:
    """Count what `find_conflicts` lists, and of that the held-back removals of each source that has some.

    Raises:
        StoreError: The database cannot be read just now.
    """
    source, since = source_entries.c.data_source, source_entries.c.held_since
    holding = select(source, func.count().label("held")).where(since.is_not(None)).group_by(source)
    held = {row["data_source"]: int(row["held"]) for row in stream(connection, holding)}
    (row,) = stream(connection, select(func.count().label("open")).select_from(conflicts))
    return int(row["open"]) + sum(held.values()), held


def _describe(row: Mapping[str, Any]) -> dict[str, Any]:
    kind, said = row["kind"], json.loads(row["fields"])
    fields = sorted(said)
    advice = _NEW_RULES if kind == HELD else _WHAT_TO_DO[kind]
    if row["other_patient_id"] is not None:
        advice = _CORRECTED
    elif kind == KEPT_APART and any(other is not None for _, other in said.values()):
        advice = _UNCLEAR
    elif kind == KEPT_APART and set(fields) <= {"scheduled_start_date", "scheduled_start_time", "modality"}:
        advice = _MOVED
    elif kind == KEPT_APART and not set(fields).isdisjoint(IDENTITY):
        advice = _TWO_PEOPLE
    elif kind == WISH and "scheduled_start_date" in fields:
        advice = _OF_ANOTHER_EXAM
    return {
        "kind": kind,
        "patient_id": row["patient_id"],
        "items": json.loads(row["items"]),
        "sources": json.loads(row["sources"]),
        "records": json.loads(row["records"]),
        "fields": fields,
        "what_to_do": advice,
    }


def _find_held(connection: Connection, source: str | None) -> Iterator[dict[str, Any]]:
    entries = source_entries.c
    columns = (entries.data_source, entries.record_key, entries.patient_id, entries.item_id)
    statement = select(*columns).where(entries.held_since.is_not(None)).order_by(entries.data_source, entries.id)
    for row in stream(connection, statement):
        if source is None or source == row["data_source"]:
            yield {
                "kind": HELD,
                "patient_id": row["patient_id"],
                "items": [] if row["item_id"] is None else [row["item_id"]],
                "sources": [row["data_source"]],
                "records": [row["record_key"]],
                "fields": [],
                "what_to_do": _WHAT_TO_DO[HELD].format(source=row["data_source"]),
            }
