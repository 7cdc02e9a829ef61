"""Columns in a frame: what is written is what is read, and nothing else is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.errors import ProtocolError
from pylantir.ipc.records import RecordColumns, join_columns, pack_columns, unpack_columns

TEXTS = st.text(st.sampled_from('ab\x7f\x1f"\\ü\u2028\u0000'), min_size=1, max_size=4)
NAMES = st.lists(st.sampled_from(["patient_id", "modality", "patient_name"]), unique=True)


@st.composite
def records(draw: Any, least: int = 0) -> RecordColumns:
    count = draw(st.integers(least, 5))
    columns = {name: draw(st.lists(st.none() | TEXTS, min_size=count, max_size=count)) for name in draw(NAMES)}
    return RecordColumns(draw(st.lists(TEXTS, min_size=count, max_size=count)), columns)


def said(some: RecordColumns) -> list[tuple[str, dict[str, str]]]:
    return [(key, some.pick([place]).fields()[key]) for place, key in enumerate(some.keys)]


@given(records())
def test_what_is_written_is_read(written: RecordColumns) -> None:
    packed = json.loads(json.dumps(pack_columns(written)))
    assert said(unpack_columns(packed["keys"], packed["values"])) == said(written)


@given(st.lists(records(), max_size=3))
def test_parts_of_different_layouts_become_one(parts: list[RecordColumns]) -> None:
    assert said(join_columns(parts)) == [one for part in parts for one in said(part)]


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (None, {}), (7, {}), ({}, {}), ([7], {}), ([""], {}), ("", {}), ("a\x7f", {}), ([None], {}),
        ("a", None), ("a", ["x"]), ("a", {"modality": 7}), ("a", {"modality": [7]}), ("a", {"modality": [["MR"]]}),
        ("a", {"modality": "MR\x7fCT"}), ("a\x7fb", {"modality": "MR"}), ("a\x7fb", {"modality": ["MR"]}),
        ("a", {"modality": []}),
    ],
)  # fmt: skip
def test_nothing_else_is_read(keys: object, values: object) -> None:
    with pytest.raises(ProtocolError):
        unpack_columns(keys, values)
