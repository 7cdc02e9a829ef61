"""The reference of the database names exactly the tables and columns that there are."""

from __future__ import annotations

import re

import pytest
from pages import REPOSITORY
from sqlalchemy import Integer, Table

from pylantir.entry import STATUSES
from pylantir.store.decide import records
from pylantir.store.schema.tables import metadata

REFERENCE = (REPOSITORY / "docs/reference/database.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", REFERENCE, re.MULTILINE | re.DOTALL))


def test_every_table_has_a_section() -> None:
    assert set(SECTIONS) == set(metadata.tables)


@pytest.mark.parametrize("table", metadata.tables.values(), ids=str)
def test_section_lists_the_columns_and_which_are_numbers(table: Table) -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", SECTIONS[table.name], re.MULTILINE)
    described = {name: meaning for names, meaning in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(described) == set(table.columns.keys())
    numbers = {column.name for column in table.columns if isinstance(column.type, Integer)}
    assert {name for name in numbers if "nteger" not in described[name]} == set()


def test_every_status_and_state_is_named() -> None:
    states = (records.LIVE, records.PENDING, records.REFUSED, records.WITHDRAWN)
    assert [word for word in (*STATUSES, *states) if f"`{word}`" not in REFERENCE] == []
