from __future__ import annotations

import datetime
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from pylantir.data_sources.sql import KEYS, SqlPlugin, look_back, name_columns, plain_value
from pylantir.errors import SourceUnavailable

URL = "postgresql+psycopg://user:hunter22@host/db"


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"query": "SELECT 1"}, "give the address of the database in url"),
        ({"url": URL, "url_env": "X", "query": "SELECT 1"}, "give the address of the database in url"),
        ({"url_env": "SURELY_UNSET", "query": "SELECT 1"}, "the environment variable SURELY_UNSET is not set"),
        ({"url": "user:hunter22@host", "query": "SELECT 1"}, "url: expected an address such as"),
        ({"url": URL}, "give either query or query_file"),
        ({"url": URL, "query": "SELECT 1", "query_file": "q.sql"}, "give either query or query_file"),
        ({"url": URL, "query": "SELECT :since, :until"}, "query: unknown parameter :until"),
        ({"url": URL, "query": "SELECT 1", "statement_timout": 5}, 'did you mean "statement_timeout"?'),
        ({"url": URL, "query": "SELECT 1", "statement_timeout": "5"}, "statement_timeout: expected a number"),
        ({"url": URL, "query": "SELECT 1", "timezone": "Mars/Olympus"}, "timezone: expected a known time zone"),
    ],
)
def test_mistakes_are_named_without_secrets(config: dict[str, object], problem: str) -> None:
    valid, message = SqlPlugin().validate_config(config)
    assert not valid
    assert problem in message
    assert ";" not in message.replace("; it holds", "").replace("; only :since", "")
    assert "hunter22" not in message


@pytest.mark.parametrize(
    "query", ["SELECT now()::date", "SELECT '12:30'", r"SELECT ' \:x'", "SELECT * FROM t WHERE c >= :since"]
)
def test_colons_that_are_no_parameters_are_left_alone(query: str) -> None:
    assert SqlPlugin().validate_config({"url": URL, "query": query}) == (True, "")


def test_url_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOKING_DB", URL)
    assert SqlPlugin().validate_config({"url_env": "BOOKING_DB", "query": "SELECT 1"}) == (True, "")


def test_query_file_that_is_absent_is_no_mistake_of_form() -> None:
    plugin = SqlPlugin()
    assert plugin.validate_config({"url": URL, "query_file": "/nowhere/q.sql"}) == (True, "")
    assert plugin.supports_incremental_sync() is True


@pytest.mark.parametrize(
    ("columns", "mapped", "names"),
    [
        (["Patient", "day"], ["patient.id", "day"], ["patient", "day"]),
        (["ID", "DAY", "other"], ["id", "Day"], ["id", "Day", "other"]),
        (["patient.id"], ["patient.id"], ["patient.id"]),
        (["id", "note", "NOTE"], ["id"], ["id", "note", "NOTE"]),
    ],
)
def test_columns_are_called_as_the_mapping_writes_them(columns: list[str], mapped: list[str], names: list[str]) -> None:
    assert name_columns(columns, mapped) == names


@pytest.mark.parametrize(
    ("columns", "mapped", "told"),
    [
        (["id", "name", "day", "name"], ["id", "name"], '"name" stands at the positions 2 and 4'),
        (["id", "Name", "NAME"], ["name"], '"Name" stands at the positions 2 and 3'),
        (["id", "person", "Person"], ["person.id"], '"person" stands at the positions 2 and 3'),
        (["id"], ["id", "nmae"], 'no column "nmae"'),
        (["id"], ["id", "ID"], "are one column"),
    ],
)
def test_columns_that_are_missing_or_stand_twice_are_named(columns: list[str], mapped: list[str], told: str) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        name_columns(columns, mapped)
    assert told in str(caught.value)


def test_since_is_early_enough_for_the_sessions_zone_too() -> None:
    now = datetime.datetime(2026, 7, 1, 12, 0, tzinfo=datetime.UTC)
    in_edmonton = datetime.timedelta(hours=-6)
    assert look_back(now, 60, "", in_edmonton).isoformat() <= "2026-07-01T05:59:00"
    assert look_back(now, 60, "UTC", in_edmonton).isoformat() == "2026-07-01T11:59:00"


def test_a_machine_whose_clock_is_ahead_of_the_servers_misses_nothing() -> None:
    now = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)
    for server, since in ((-48, "2026-06-29T11:59:00"), (0, "2026-07-01T11:59:00"), (5, "2026-07-01T11:59:00")):
        server_now = now + datetime.timedelta(hours=server)
        assert look_back(now, 60, "UTC", None, server_now).isoformat() == since


def test_since_is_the_earliest_that_it_can_be_where_no_zone_is_told() -> None:
    now = datetime.datetime(2026, 7, 1, 12, 0, tzinfo=datetime.UTC)
    assert look_back(now, 60, "Pacific/Kiritimati").isoformat() == "2026-07-02T01:59:00"
    assert look_back(now, 60, "").isoformat() <= "2026-07-01T11:59:00"


def test_values_of_uncommon_types_become_text() -> None:
    assert plain_value(datetime.timedelta(hours=9, minutes=5)) == "09:05:00"
    assert plain_value(uuid.UUID(int=1)) == "00000000-0000-0000-0000-000000000001"


def test_check_of_the_configuration_loads_no_database_library() -> None:
    code = "import sys, pylantir.data_sources.sql; print([m for m in ('sqlalchemy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_key_is_documented() -> None:
    guide = (Path(__file__).parents[3] / "docs/howto/sql.md").read_text(encoding="utf-8")
    assert [key for key in KEYS if f"`{key}`" not in guide] == []
