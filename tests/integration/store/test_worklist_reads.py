"""What the database selects is what the definition of matching says, for any rows and any query."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, create_engine, insert, make_url, text
from sqlalchemy.exc import OperationalError

from pylantir.errors import StoreError
from pylantir.query import WorklistQuery, item_matches, narrowed, single_conditions
from pylantir.store.read import worklist
from pylantir.store.read.worklist import find_matching, find_values
from pylantir.store.schema.engine import open_for_reading, open_for_writing
from pylantir.store.schema.tables import metadata, worklist_items
from pylantir.store.schema.upgrade import prepare_database

# Few and colliding values, with what SQL finds hard: letter case, other scripts, component groups, LIKE's own signs.
NAMES = st.text(alphabet="aAbB^=ßſéÉe\u0301%_\\", min_size=1, max_size=7)  # noqa: RUF001
NAME_PATTERNS = st.text(alphabet="aAbB^=ßſéÉ%_\\*?s", min_size=1, max_size=6)
IDS = st.text(alphabet="aAb%_\\[]é", min_size=1, max_size=4)
ID_PATTERNS = st.text(alphabet="aAb%_\\[]é*?", min_size=1, max_size=4)
DATES = st.sampled_from(["20260104", "20260105", "20260106"])
TIMES = st.sampled_from(["000000", "093000", "180059"])
MODALITIES = st.sampled_from(["MR", "CT", "mr"])


def or_missing(values: st.SearchStrategy[str]) -> st.SearchStrategy[str | None]:
    return st.one_of(values, values, st.none(), st.just(""))


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "patient_name": or_missing(NAMES),
            "performing_physician": or_missing(NAMES),
            "patient_id": or_missing(IDS),
            "modality": or_missing(MODALITIES),
            "scheduled_start_date": or_missing(DATES),
            "scheduled_start_time": or_missing(TIMES),
        }
    ),
    max_size=12,
)


def bounds(low: st.SearchStrategy[str], high: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.tuples(st.one_of(st.none(), low), st.one_of(st.none(), high))


def some_of(**conditions: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=conditions)


MOMENTS = st.builds(str.__add__, DATES, TIMES)
QUERIES = st.builds(
    WorklistQuery,
    equal=some_of(modality=st.lists(or_missing(MODALITIES).map(str), max_size=2).map(tuple)),
    equal_or_unknown=some_of(modality=st.lists(MODALITIES, max_size=2).map(tuple)),
    like=st.one_of(
        some_of(patient_name=NAME_PATTERNS),
        some_of(patient_id=ID_PATTERNS),
        some_of(patient_name=NAME_PATTERNS, performing_physician=NAME_PATTERNS),
    ),
    ranges=st.one_of(
        some_of(scheduled_start_date=bounds(DATES, DATES)), some_of(scheduled_start_time=bounds(TIMES, TIMES))
    ),
    period=st.one_of(st.none(), bounds(MOMENTS, MOMENTS)),
)


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


LIMITS = st.builds(
    WorklistQuery,
    equal=some_of(modality=st.lists(MODALITIES, max_size=2).map(tuple)),
    equal_or_unknown=some_of(modality=st.lists(MODALITIES, max_size=2).map(tuple)),
    ranges=some_of(scheduled_start_date=bounds(DATES, DATES)),
)


def fill(connection: Connection, rows: list[dict[str, str | None]]) -> list[dict[str, Any]]:
    connection.execute(worklist_items.delete())
    items = [{"id": number, **row} for number, row in enumerate(rows, start=1)]
    if items:
        connection.execute(insert(worklist_items), items)
    return items


@given(rows=ROWS, query=QUERIES, limits=LIMITS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_database_selects_what_the_definition_says(
    connection: Connection, rows: list[dict[str, str | None]], query: WorklistQuery, limits: WorklistQuery
) -> None:
    items = fill(connection, rows)
    expected = {item["id"] for item in items if item_matches(query, item)}
    assert {row["id"] for row in find_matching(connection, query)} == expected
    expected = {item["id"] for item in items if item_matches(query, item) and item_matches(limits, item)}
    assert {row["id"] for row in find_matching(connection, narrowed(query, limits))} == expected


@given(rows=ROWS, query=QUERIES)
def test_an_item_matches_a_query_when_it_meets_each_of_its_conditions(
    rows: list[dict[str, str | None]], query: WorklistQuery
) -> None:
    for row in rows:
        met = [item_matches(condition, row) for _, condition in single_conditions(query)]
        assert item_matches(query, row) == all(met)


def test_items_come_by_date_time_and_id_and_stop_at_the_limit(connection: Connection) -> None:
    fill(
        connection,
        [
            {"scheduled_start_date": date, "scheduled_start_time": time, "patient_name": name}
            for date, time, name in (
                ("20260106", "080000", "Doe^A"),
                ("20260105", "090000", "Doe^B"),
                ("20260105", "080000", "Doe^C"),
                ("20260105", "080000", "Doe^D"),
                ("20260105", "070000", "Roe^E"),
            )
        ],
    )
    query = WorklistQuery(like={"patient_name": "doe*"})
    assert [row["id"] for row in find_matching(connection, query)] == [3, 4, 2, 1]
    assert [row["id"] for row in find_matching(connection, query, limit=2)] == [3, 4]


def test_a_day_and_a_patient_are_looked_up_by_index(connection: Connection) -> None:
    fill(connection, [])
    for query, index in (
        (WorklistQuery(equal={"scheduled_start_date": ("20260105",)}), "ix_worklist_items_start"),
        (WorklistQuery(period=("20260105000000", "20260106000000")), "ix_worklist_items_start"),
        (WorklistQuery(equal={"patient_id": ("P1",)}), "ix_worklist_items_patient"),
        (WorklistQuery(equal={"accession_number": ("A1",)}), "ix_worklist_items_accession"),
    ):
        plans: list[str] = []
        with_status = WorklistQuery(
            equal={**query.equal, "performed_procedure_step_status": ("SCHEDULED", "IN_PROGRESS")},
            period=query.period,
        )
        driver = connection.connection.dbapi_connection
        assert driver is not None
        driver.set_trace_callback(plans.append)
        list(find_matching(connection, with_status))
        driver.set_trace_callback(None)
        plan = connection.exec_driver_sql("EXPLAIN QUERY PLAN " + plans[-1]).all()
        assert any(index in str(step) and "SEARCH" in str(step) for step in plan), plan


def test_a_database_without_tables_is_an_error_without_the_querys_values(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    engine = open_for_reading(f"sqlite:///{path}")
    query = WorklistQuery(like={"patient_name": "Secret^Name"})
    with engine.connect() as connection, pytest.raises(StoreError, match="no such table") as caught:
        list(find_matching(connection, query))
    assert "Secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    engine.dispose()


def test_a_field_that_is_none_of_the_worklists_is_an_error(connection: Connection) -> None:
    with pytest.raises(StoreError, match="not a worklist field"):
        list(find_matching(connection, WorklistQuery(equal={"former_study_uids": ("x",)})))


def test_only_the_fields_that_are_wanted_are_read_and_those_of_a_pattern_are_not_given(connection: Connection) -> None:
    fill(connection, [{"patient_name": name, "modality": "MR"} for name in ("Ärzte", "ärzte", "Doe", None)])
    query = WorklistQuery(like={"patient_name": "ÄRZ*"})
    batches = list(find_values(connection, query, ["modality", "id"]))
    assert [tuple(row) for batch in batches for row in batch] == [("MR", 1), ("MR", 2)]
    with pytest.raises(StoreError, match="not a worklist field"):
        list(find_values(connection, query, ["former_study_uids"]))


def test_a_kept_connection_is_not_used_for_another_file(tmp_path: Path) -> None:
    path = tmp_path / "worklist.db"
    reader = open_for_reading(f"sqlite:///{path}")

    def make(file: Path, patient: str) -> None:
        writer = open_for_writing(f"sqlite:///{file}")
        metadata.create_all(writer)
        with writer.begin() as connection:
            connection.execute(insert(worklist_items), [{"patient_id": patient}])
        writer.dispose()

    def read() -> tuple[object, list[object]]:
        with reader.connect() as connection:
            rows = [row["patient_id"] for row in find_matching(connection, WorklistQuery())]
            return connection.connection.driver_connection, rows

    make(path, "P1")
    first, rows = read()
    assert rows == ["P1"]
    assert read()[0] is first
    make(tmp_path / "other.db", "P2")
    (tmp_path / "other.db").replace(path)
    assert read()[1] == ["P2"]
    path.unlink()
    with pytest.raises(OperationalError):
        read()
    make(path, "P3")
    assert read()[1] == ["P3"]
    reader.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def many_names(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'w.db'}" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    engine = open_for_writing(url)
    prepare_database(engine)
    # A second start finds the indexes there.
    prepare_database(engine)
    names = [f"N{number:05}^A" for number in range(5000)] + [
        "Doe^Jane",
        "doe^john",
        "Łęcki^Ż",
        "X=山田^太郎",
        "DOE=道^",
    ]
    with engine.begin() as connection:
        connection.execute(insert(worklist_items), [{"patient_name": name} for name in names])
        connection.execute(text("ANALYZE"))
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("DOE*", {"Doe^Jane", "doe^john", "DOE=道^"}),
        ("doe^J*n*", {"Doe^Jane", "doe^john"}),
        ("łĘ*", {"Łęcki^Ż"}),
        ("山*", {"X=山田^太郎"}),
        ("n0000?", set()),
        ("n0000?^a", {f"N0000{number}^A" for number in range(10)}),
        ("*JOHN", {"doe^john"}),
    ],
)
def test_the_beginning_of_a_name_is_found_by_an_index(many_names: Engine, pattern: str, names: set[str]) -> None:
    query = WorklistQuery(like={"patient_name": pattern})
    with many_names.connect() as connection:
        found = {row[0] for rows in find_values(connection, query, ["patient_name"]) for row in rows}
        assert found == names
        statement = worklist._statement(query, [worklist_items.c.id], dialect=connection.dialect.name)
        written = statement.compile(connection, compile_kwargs={"literal_binds": True})
        explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        plan = " ".join(str(row) for row in connection.exec_driver_sql(explain + str(written)))
    if not pattern.startswith("*"):
        assert "ix_worklist_items_name" in plan
        assert "ix_worklist_items_special_name" in plan


def test_in_a_turkish_database_the_capital_of_i_is_i(postgresql_server: str, postgresql_url: str) -> None:
    name = f"{make_url(postgresql_url).database}_tr"
    with psycopg.connect(host=postgresql_server, user="pylantir", dbname="postgres", autocommit=True) as connection:
        made = (
            f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'tr' LOCALE 'C' ENCODING 'UTF8'"
        )
        connection.execute(made.encode())
        engine = open_for_writing(make_url(postgresql_url).set(database=name).render_as_string(hide_password=False))
        prepare_database(engine)
        with engine.begin() as writing:
            assert writing.scalar(text("SELECT lower('I')")) == "\u0131"
            writing.execute(insert(worklist_items), {"patient_name": "DIANA^IDA"})
        for pattern in ("diana*", "Diana^Ida", "*IDA"):
            query = WorklistQuery(like={"patient_name": pattern})
            with engine.connect() as reading:
                assert [row[0] for rows in find_values(reading, query, ["patient_name"]) for row in rows] == [
                    "DIANA^IDA"
                ]
        engine.dispose()
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
