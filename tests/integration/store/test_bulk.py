"""Reading many rows at once: whatever way is taken, the answer is that of looking at every row."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import Engine, select
from worklist_store import Feed, record, rows

from pylantir.store.schema.bulk import insert_columns, select_among
from pylantir.store.schema.tables import cluster_hosts, source_entries, worklist_items

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


def test_inserted_rows_hold_what_was_given(store: Engine) -> None:
    texts = [
        "plain",
        "",
        None,
        "null",
        "quote \" and ' and \\ and %s and {a,b}",
        "a\nb\tc\x7f",
        "Ä 山田 \U0001f600",
        "12",
        "1e5",
    ]
    columns = {
        "id": range(5, 5 + len(texts)),
        "patient_name": texts,
        "generated_study_uid": [f"1.{n}" for n in range(9)],
    }
    with store.begin() as connection:
        insert_columns(
            connection,
            worklist_items,
            columns,
            {"modality": "it's 100 %"},
            {"study_instance_uid": "generated_study_uid", "patient_id": "id"},
        )
        insert_columns(connection, worklist_items, {"id": [], "patient_id": []})
        numbers = {"host": ["a", "b"], "instance": ["", ""], "alive_at": [0.1 + 0.2, None], "lease_s": [5.0, 1e-9]}
        insert_columns(connection, cluster_hosts, {**numbers, "mark": ["", ""]})
    found = rows(store, worklist_items)
    assert [row["patient_name"] for row in found] == texts
    assert [row["patient_id"] for row in found] == [str(n) for n in columns["id"]]
    assert [row["study_instance_uid"] for row in found] == columns["generated_study_uid"]
    assert {row["modality"] for row in found} == {"it's 100 %"}
    hosts = select(cluster_hosts.c.alive_at, cluster_hosts.c.lease_s).order_by(cluster_hosts.c.host)
    with store.connect() as connection:
        assert list(map(tuple, connection.execute(hosts))) == [(0.1 + 0.2, 5.0), (None, 1e-9)]
