"""The tables of the conformance statement say what the program does."""

from __future__ import annotations

from pathlib import Path

from pylantir.dicom.conformance import update_tables

STATEMENT = Path(__file__).parents[2] / "docs" / "reference" / "conformance.md"


def test_every_table_is_up_to_date() -> None:
    text = STATEMENT.read_text(encoding="utf-8")
    assert update_tables(text) == text, f"run: python -m pylantir.dicom.conformance {STATEMENT}"
