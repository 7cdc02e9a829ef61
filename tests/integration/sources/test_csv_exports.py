"""CSV files as spreadsheets and booking systems leave them: title lines, footers, short rows, and no CSV at all."""

from __future__ import annotations

import gzip
import io
import os
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pylantir.data_sources.base import RECORD_LABEL, BadRecord
from pylantir.data_sources.csv_file import CsvPlugin
from pylantir.errors import SourceUnavailable

MAPPING = {"id": "patient_id", "date": "scheduled_start_date"}
THREE = "id,date,note\nP1,2026-12-01,x\nP2,2026-12-01,y\n"


def read(path: Path, content: str | bytes, mapping: dict[str, Any] | None = None, **config: object) -> list[Any]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    then = time.time() - 60
    os.utime(path, (then, then))
    plugin = CsvPlugin()
    assert plugin.validate_config({"file_path": str(path), **config}) == (True, "")
    return list(plugin.fetch_entries(MAPPING if mapping is None else mapping, 60))


def patients(entries: list[Any]) -> list[object]:
    return [entry.reason if isinstance(entry, BadRecord) else entry["patient_id"] for entry in entries]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "export.csv"


@pytest.mark.parametrize(
    "end", ["", " ", "\x1a", "\n\n", "\x00" * 300, " , , \n", " \n\t\n\x1a", ",,\n", "\xa0", "\ufeff"]
)
def test_what_is_blank_at_the_end_is_nothing(path: Path, end: str) -> None:
    assert patients(read(path, THREE + end)) == ["P1", "P2"]


@pytest.mark.parametrize("end", ["", "\n", "\n\n \n", "\n\x1a", "\x00\x00"])
def test_a_footer_is_left_out_whatever_blank_lines_follow_it(path: Path, end: str) -> None:
    assert patients(read(path, THREE + "2 records exported" + end, skip_footer=1)) == ["P1", "P2"]
    assert patients(read(path, THREE + "\n2 records, printed today" + end, skip_footer=2)) == ["P1", "P2"]


def test_who_counts_the_blank_lines_too_loses_no_patient(path: Path) -> None:
    assert patients(read(path, THREE + "2 records exported\n\n", skip_footer=2)) == ["P1", "P2"]


def test_a_footer_that_nobody_announced_is_one_bad_record_that_names_the_cure(path: Path) -> None:
    *records, footer = read(path, THREE + "2 records exported\n")
    assert patients(records) == ["P1", "P2"]
    assert (footer.record, footer.field) == ("row 4", "scheduled_start_date")
    assert 'set "skip_footer"' in footer.reason
    assert "exported" not in footer.reason.replace('"5 records exported"', "")


def test_more_footer_than_file_leaves_nothing(path: Path) -> None:
    assert read(path, THREE, skip_footer=9) == []


@pytest.mark.parametrize("row", ["P3,2026-12-01", "P3,2026-12-01,"])
def test_a_row_without_its_empty_last_cells_is_a_row(path: Path, row: str) -> None:
    *_, last = read(path, THREE + row + "\n", {**MAPPING, "note": "allergies"})
    assert last == {"patient_id": "P3", "scheduled_start_date": "2026-12-01", "allergies": "", RECORD_LABEL: "row 4"}


def test_short_rows_can_be_refused(path: Path) -> None:
    *_, last = read(path, THREE + "P3,2026-12-01\n", short_rows="reject")
    assert last.reason == 'has 2 columns where the header has 3; the first one missing is "note"'


def test_a_short_row_without_its_patient_is_not_accepted(path: Path) -> None:
    mapping = {"note": "patient_id", "date": "scheduled_start"}
    *_, last = read(path, THREE + "P3,2026-12-01\n", mapping)
    assert (last.record, last.field) == ("row 4", "patient_id")


@pytest.mark.parametrize("title", ["Bookings\n", "Bookings\n\n", '"Bookings, all of them"\n"x"\n'])
def test_title_lines_are_left_out_and_rows_keep_their_numbers(path: Path, title: str) -> None:
    lines = title.count("\n")
    entries = read(path, title + THREE, skip_rows=lines)
    assert [entry[RECORD_LABEL] for entry in entries] == [f"row {lines + 2}", f"row {lines + 3}"]


def test_blank_lines_above_the_header_need_no_configuration(path: Path) -> None:
    assert patients(read(path, "\n \n" + THREE)) == ["P1", "P2"]


def test_title_lines_that_nobody_announced_are_named_with_the_cure(path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r'stand in row 3; set "skip_rows": 2 in config'):
        read(path, "Bookings of\tDr Who\n\n" + THREE.replace(",", ";"))


@pytest.mark.parametrize("hint", ["sep=;\n", '"sep=;"\r\n', '"sep=;",,\n', "SEP=;\n"])
def test_a_spreadsheets_delimiter_line_is_understood_quoted_or_not(path: Path, hint: str) -> None:
    entries = read(path, hint + THREE.replace(",", ";"))
    assert [entry[RECORD_LABEL] for entry in entries] == ["row 3", "row 4"]


@pytest.mark.parametrize("footer", [1, 3])
def test_empty_rows_of_a_whole_spreadsheet_behind_a_footer_take_no_memory(path: Path, footer: int) -> None:
    ends = "\n".join(["", *(f"{number} records" for number in range(footer)), *[",,"] * 20_000, ""])
    tracemalloc.start()
    try:
        assert patients(read(path, THREE.rstrip() + ends, skip_footer=footer)) == ["P1", "P2"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20


@pytest.mark.parametrize("config", [{}, {"encoding": "latin-1"}])
def test_a_line_that_never_ends_fails_the_fetch_before_it_fills_the_memory(path: Path, config: dict[str, str]) -> None:
    packed = gzip.compress((THREE + "P3,").encode() + b"x," * (8 << 20), compresslevel=1)
    tracemalloc.start()
    try:
        with pytest.raises(SourceUnavailable, match="a line has more than 8 million bytes"):
            read(path, packed, **config)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 128 << 20


def test_gzip_is_read(path: Path) -> None:
    assert patients(read(path, gzip.compress(THREE.encode()))) == ["P1", "P2"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-9],
        lambda packed: packed[:20] + b"\0\0\0" + packed[23:],
        lambda packed: packed[:30] + b"\xff" * 200,
    ],
)
def test_damaged_gzip_gives_no_snapshot(path: Path, damage: Any) -> None:
    with pytest.raises(SourceUnavailable, match=r"cut short|cannot be read|is damaged"):
        read(path, damage(gzip.compress(THREE.encode() * 50)))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_read_and_named(path: Path, encoding: str, caplog: pytest.LogCaptureFixture) -> None:
    assert patients(read(path, THREE.encode(encoding))) == ["P1", "P2"]
    assert f'"encoding": "{encoding}"' in caplog.text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_says_which_encoding_it_is(path: Path, encoding: str) -> None:
    assert patients(read(path, THREE.encode(encoding))) == ["P1", "P2"]


def workbook(name: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), "x")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (workbook("[Content_Types].xml"), "is a spreadsheet"),
        (workbook("export.csv"), "is a zip archive"),
        (gzip.compress(workbook("export.csv")), "is a zip archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500, "Excel workbook of the old kind"),
        (b"%PDF-1.7\n", "is a PDF document"),
        (b"\n <!DOCTYPE html><html><body>Log in</body>", "is an HTML page"),
        (b"\xef\xbb\xbf<html>", "is an HTML page"),
        (b'<?xml version="1.0"?><rows/>', "is XML"),
    ],
    ids=["workbook", "zip", "zip within gzip", "old workbook", "pdf", "page", "page with a mark", "xml"],
)
def test_what_is_no_csv_is_called_by_its_name(path: Path, content: bytes, told: str) -> None:
    with pytest.raises(SourceUnavailable, match=told):
        read(path, content)


@pytest.mark.parametrize(
    ("content", "config", "told"),
    [
        (b"P\xfc\n", {"encoding": "utf-8"}, "line 4: byte 0xfc is not utf-8"),
        (b"P\x81\n", {}, "line 4: byte 0x81 is neither UTF-8 nor cp1252"),
        (b"P\x81\n", {"encoding": "ascii"}, "line 4: byte 0x81 is not ascii"),
    ],
)
def test_a_byte_that_the_encoding_lacks_is_named_with_its_line(
    path: Path, content: bytes, config: dict[str, str], told: str
) -> None:
    with pytest.raises(SourceUnavailable, match=told) as caught:
        read(path, THREE.encode() + content, **config)
    assert 'set "encoding"' in str(caught.value)


def test_a_name_that_differs_in_capitals_only_is_named(path: Path) -> None:
    with pytest.raises(SourceUnavailable, match='"id" stands there as "ID"'):
        read(path, THREE.replace("id,date", "ID,Date"))


def test_a_file_that_is_one_endless_line_is_refused_before_it_fills_the_memory(path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="more than a million characters"):
        read(path, "x" * (2 << 20))


def test_a_file_that_cannot_be_read_is_tried_again_only_when_it_has_changed(path: Path) -> None:
    plugin = CsvPlugin()
    plugin.validate_config({"file_path": str(path), "watch_for_changes": True})
    path.mkdir()
    assert plugin.has_changed()
    with pytest.raises(SourceUnavailable, match="is a folder"):
        list(plugin.fetch_entries(MAPPING, 60))
    assert not plugin.has_changed()
    path.rmdir()
    path.write_text(THREE)
    assert plugin.has_changed()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"skip_rows": -1}, "skip_rows: expected a whole number"),
        ({"skip_footer": "2"}, "skip_footer: expected a whole number"),
        ({"short_rows": "ignore"}, 'short_rows: expected "accept" or "reject"'),
    ],
)
def test_the_form_of_these_keys_is_checked(config: dict[str, Any], told: str) -> None:
    valid, message = CsvPlugin().validate_config({"file_path": "x.csv", **config})
    assert not valid
    assert told in message
