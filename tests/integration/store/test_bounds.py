"""However many records a source has, refuses or names: no statement has more parameters than a database takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event
from worklist_store import RULES

from pylantir.ipc.cycles import CycleEnd, EntryBatch, Rejection
from pylantir.ipc.records import RecordColumns
from pylantir.store.clock import utc_now
from pylantir.store.intake.cycle import SourceIngest

MOST_PARAMETERS = 2000
"""Far below what SQLite (32 766) and PostgreSQL (65 535) take."""
MANY = 2500


@pytest.fixture
def most(store: Engine) -> Iterator[list[int]]:
    """The number of parameters of the largest statement so far."""
    found = [0]

    @event.listens_for(store, "before_cursor_execute")
    def count(_connection: Any, _cursor: Any, _statement: str, parameters: Any, _context: Any, many: bool) -> None:
        found[0] = max(found[0], *(len(one) for one in (parameters if many else [parameters])))

    yield found
    event.remove(store, "before_cursor_execute", count)


def many_records(accession: str | None = None) -> RecordColumns:
    numbers = range(MANY)
    values: dict[str, list[str | None]] = {
        "patient_id": [f"P{number}" for number in numbers],
        "scheduled_start_date": ["20300701"] * MANY,
        "modality": ["MR"] * MANY,
        "accession_number": [f"A{number}" for number in numbers],
    }
    if accession:
        values["patient_id"] = [f"{accession}{number}" for number in numbers]
    return RecordColumns([f"id:{number}" for number in numbers], values)


def run(ingest: SourceIngest, **parts: Any) -> Any:
    started_at = utc_now()
    place = {"cycle": started_at, "started_at": started_at}
    ingest.apply_batch(EntryBatch(**place, seq=1, snapshot=True, **parts))  # type: ignore[arg-type]
    return ingest.finish_cycle(CycleEnd(**place, seq=2, complete=True))


def test_very_many_rejected_records_are_one_cycle(store: Engine, most: list[int]) -> None:
    ingest = SourceIngest(store, "csv", RULES)
    rejected = [Rejection(f"row {number}", "patient_id", "it is missing") for number in range(MANY)]
    for _ in range(2):
        assert run(ingest, rejected=rejected).counts["rejected"] == MANY
    assert run(ingest, present=[f"row {number}" for number in range(MANY)]).complete
    assert most[0] <= MOST_PARAMETERS


def test_very_many_records_refused_for_another_sources_sake_are_one_cycle(store: Engine, most: list[int]) -> None:
    assert run(SourceIngest(store, "ris", RULES), records=many_records()).counts["inserted"] == MANY
    ingest = SourceIngest(store, "csv", RULES)
    passages = [(number, MANY // 10) for number in range(10)]
    for _ in range(2):
        assert run(ingest, records=many_records("Q"), passages=passages).counts["rejected"] == MANY
    assert most[0] <= MOST_PARAMETERS
