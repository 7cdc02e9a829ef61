"""Tables and cards: whatever the terminal's width, an identifier, a name or a date stays in one piece."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from pylantir.cli.layout import lay_out, wrap

COLUMNS = {"id": "ITEM", "date": "DATE", "patient_id": "PATIENT", "patient_name": "NAME", "sources": "GIVEN BY, SINCE"}
ROW = {
    "id": 12,
    "date": "2026-11-26",
    "patient_id": "SUB-0001/17 A",
    "patient_name": "van der Berg^Anna Maria",
    "sources": "clinic 2026-11-26 08:00:00; research 2026-11-25 17:30:00",
}
VALUES = st.text("ABCäö山 ^-0123456789", min_size=1, max_size=40).map(str.strip).filter(bool)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"id": st.integers(1, 10**9), "patient_id": VALUES, "patient_name": VALUES, "reason": VALUES}
    ),
    min_size=1,
    max_size=4,
)
SHOWN = {"id": "ITEM", "patient_id": "PATIENT", "patient_name": "NAME", "reason": "REASON"}


def test_a_table_that_fits_is_a_table() -> None:
    heading, line = lay_out(COLUMNS, [ROW], 200)
    assert heading.split() == ["ITEM", "DATE", "PATIENT", "NAME", "GIVEN", "BY,", "SINCE"]
    assert line.index("2026-11-26") == heading.index("DATE")
    assert line.endswith("clinic 2026-11-26 08:00:00; research 2026-11-25 17:30:00")


def test_without_a_terminal_each_row_is_one_line() -> None:
    _, line = lay_out(COLUMNS, [{**ROW, "sources": "x " * 2000}])
    assert line.startswith("12")


def test_free_text_is_wrapped_before_the_table_is_given_up() -> None:
    lines = lay_out(COLUMNS, [ROW], 92)
    assert lines[0].startswith("ITEM  DATE")
    assert lines[1].endswith("clinic 2026-11-26 08:00:00;")
    assert lines[2].strip() == "research 2026-11-25 17:30:00"


def test_a_narrow_terminal_gets_a_card_per_row() -> None:
    assert lay_out(COLUMNS, [ROW, ROW], 60) == [
        "",
        "ITEM 12  DATE 2026-11-26  PATIENT SUB-0001/17 A",
        "  NAME van der Berg^Anna Maria",
        "  GIVEN BY, SINCE clinic 2026-11-26 08:00:00;",
        "    research 2026-11-25 17:30:00",
        "",
        "ITEM 12  DATE 2026-11-26  PATIENT SUB-0001/17 A",
        "  NAME van der Berg^Anna Maria",
        "  GIVEN BY, SINCE clinic 2026-11-26 08:00:00;",
        "    research 2026-11-25 17:30:00",
    ]


def test_numbers_are_aligned_on_the_right_and_empty_columns_left_out() -> None:
    rows: list[dict[str, object]] = [{"name": "a", "n": 7}, {"name": "b", "n": 1234}]
    lines = lay_out({"name": "NAME", "n": "N", "none": "NONE"}, rows, 80, right=("n",))
    assert lines == ["NAME     N", "a        7", "b     1234"]


def test_a_moment_and_a_value_that_changed_stay_in_one_piece() -> None:
    assert wrap("since 2026-11-26 08:00:00 at the latest", 19) == ["since", "2026-11-26 08:00:00", "at the latest"]
    change = "patient_name: Berg Anna → van der Berg Anna"
    assert wrap(change, 30) == ["patient_name: Berg Anna →", "van der Berg Anna"]


@given(rows=ROWS, width=st.integers(20, 160))
def test_values_are_whole_and_lines_fit(rows: list[dict[str, object]], width: int) -> None:
    lines = lay_out(SHOWN, rows, width)
    for row in rows:
        for key in ("id", "patient_id", "patient_name"):
            assert any(str(row[key]) in line for line in lines)
    longest = max(cell_len(f"  {SHOWN[key]} {row[key]}") for row in rows for key in SHOWN)
    assert all(cell_len(line) <= max(width, longest) for line in lines)
