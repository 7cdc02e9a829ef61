"""Reading many rows at once: whatever way is taken, the answer is that of looking at every row."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import Engine
from worklist_store import Feed, record

from pylantir.store.schema.bulk import select_among
from pylantir.store.schema.tables import source_entries, worklist_items

KNOWN = [f"P{number:04d}" for number in range(0, 400, 2)]
"""Every second number is somebody's."""


@pytest.fixture
def filled(store: Engine) -> Engine:
    for source in ("csv", "ris"):
        Feed(store, source).sync(*(record(patient, patient=patient) for patient in KNOWN))
    return store


@pytest.mark.parametrize(
    "asked",
    [
        ["P0004", "P0005"],
        [f"P{number:04d}" for number in range(100, 200)],
        [f"P{number:04d}" for number in range(101, 201, 2)],
        [f"P{number:04d}" for number in range(390, 490)],
        [f"Q{number:04d}" for number in range(100)],
        [*(f"A{number}" for number in range(50)), *(f"Z{number}" for number in range(50)), "P0004"],
        [],
    ],
    ids=["few", "dense", "between the known", "beyond the last", "all new", "all around", "none"],
)
def test_the_rows_are_those_with_one_of_the_values(filled: Engine, asked: list[str]) -> None:
    random.Random(1).shuffle(asked)
    found = sorted(set(KNOWN) & set(asked))
    wanted = ("patient_id", "data_source")
    with filled.connect() as connection:
        both = select_among(connection, source_entries, wanted, "patient_id", asked)
        assert sorted(both) == [(patient, source) for patient in found for source in ("csv", "ris")]
        own = select_among(connection, source_entries, wanted, "patient_id", asked, source="ris")
        assert sorted(own) == [(patient, "ris") for patient in found]
        restricted = select_among(
            connection, source_entries, wanted, "patient_id", asked, condition="data_source = 'csv'"
        )
        assert sorted(restricted) == [(patient, "csv") for patient in found]
        once = select_among(connection, worklist_items, ("patient_id",), "patient_id", asked, distinct=True)
        assert {patient for (patient,) in once} == set(found)
