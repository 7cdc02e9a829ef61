"""CSV files as they really are: encodings, delimiters, ragged rows, programs that still write."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pylantir.data_sources import source_file
from pylantir.data_sources.base import RECORD_LABEL, BadRecord, WatchesForChanges
from pylantir.data_sources.csv_file import CsvPlugin
from pylantir.errors import SourceUnavailable

MAPPING = {"id": "patient_id", "date": "scheduled_start_date"}
ROW = {"patient_id": "P1", "scheduled_start_date": "2026-12-01", RECORD_LABEL: "row 2"}


def write(path: Path, content: str | bytes, *, age_s: float = 60) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def plugin_for(path: Path, **config: object) -> CsvPlugin:
    plugin = CsvPlugin()
    assert plugin.validate_config({"file_path": str(path), **config}) == (True, "")
    return plugin


def fetch(path: Path, mapping: dict[str, str] | None = None, **config: object) -> list[Any]:
    return list(plugin_for(path, **config).fetch_entries(MAPPING if mapping is None else mapping, 60))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "export.csv"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_read_off_the_header(path: Path, delimiter: str) -> None:
    write(path, f"id{delimiter}date{delimiter}note\nP1{delimiter}2026-12-01{delimiter}x\n")
    assert fetch(path) == [ROW]


def test_the_delimiter_is_the_one_that_finds_the_mapped_columns(path: Path) -> None:
    write(path, 'id;date;"a, b, c, d"\nP1;2026-12-01;x\n')
    assert fetch(path) == [ROW]


def test_a_single_column_needs_no_delimiter(path: Path) -> None:
    write(path, "id\nP1\n")
    assert fetch(path, {"id": "patient_id"}) == [{"patient_id": "P1", RECORD_LABEL: "row 2"}]


def test_a_delimiter_may_be_given_in_the_configuration_or_by_the_spreadsheet(path: Path) -> None:
    write(path, "id#date\nP1#2026-12-01\n")
    assert fetch(path, delimiter="#") == [ROW]
    write(path, "sep=#\nid#date\nP1#2026-12-01\n")
    assert fetch(path) == [{**ROW, RECORD_LABEL: "row 3"}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_is_read_with_or_without_a_byte_order_mark(path: Path, encoding: str) -> None:
    write(path, "id,date\nP山,2026-12-01\n".encode(encoding))
    assert fetch(path) == [{**ROW, "patient_id": "P山"}]
    assert fetch(path, encoding=encoding) == [{**ROW, "patient_id": "P山"}]


def test_a_byte_order_mark_does_no_harm_where_the_encoding_is_given(path: Path) -> None:
    write(path, "id,date\nP1,2026-12-01\n".encode("utf-8-sig"))
    assert fetch(path, encoding="utf-8") == [ROW]


def test_other_text_is_read_as_cp1252_with_one_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = "id,date\n" + "P1,2026-12-01\n" * 200_000 + "Müller,2026-12-01\n"
    plugin = plugin_for(write(path, rows.encode("cp1252")))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            *_, last = plugin.fetch_entries(MAPPING, 60)
    assert last == {**ROW, "patient_id": "Müller", RECORD_LABEL: "row 200002"}
    (record,) = caplog.records
    assert "line 200002 is not UTF-8" in record.getMessage()
    assert "ller" not in record.getMessage()


NAMED = {**MAPPING, "name": "patient_name"}


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("cp1250", "Żółć^Ąśź"), ("cp1250", "Kowalski^Łukasz"), ("iso8859-2", "Wałęsa^Lech"), ("mac_roman", "Müller^Jörg"),
     ("mac_roman", "Muñoz^José"), ("cp850", "Bär^Ännchen"), ("cp1251", "Иванов^Иван"), ("cp1253", "Παπαδόπουλος^Γ"),
     ("koi8-r", "Иванов^Иван"), ("gb18030", "王^小明"), ("utf-8", "Groß^Anna")],
)  # fmt: skip
def test_a_name_that_is_none_in_the_guessed_encoding_is_refused(path: Path, encoding: str, name: str) -> None:
    # A file in UTF-8 is none any more where programs have written it in two encodings.
    rest = b"P2,2026-12-01,Zoe\n" + (b"P3,2026-12-01,Zo\xeb\n" if encoding == "utf-8" else b"")
    refused, taken, *_ = fetch(write(path, f"id,date,name\nP1,2026-12-01,{name}\n".encode(encoding) + rest), NAMED)
    assert isinstance(refused, BadRecord)
    assert (refused.record, refused.field) == ("row 2", "patient_name")
    assert 'set "encoding"' in refused.reason
    assert name not in refused.reason
    assert taken["patient_name"] == "Zoe"
    if encoding != "utf-8":
        first, _ = fetch(path, NAMED, encoding=encoding)
        assert first["patient_name"] == name


@pytest.mark.parametrize(
    "name",
    ["Müller\u2013Lüdenscheid^Änne", "O\u2019Neil^Zoë", "D\xb4Angelo^Niccolò", "Þjóðólfsson^Sæþór", "Škoda^Žofie", "ŠKODA^JOŽEF",
     "Çelik^Gül", "Œuvrard^Maÿlis", "Nuñez^Mª José", "Col·lell^Núria", "Weiß^Hans „Hansi“", "Bình^Hùng", "Åström^Åke"],
)  # fmt: skip
def test_names_in_cp1252_are_taken(path: Path, name: str) -> None:
    (taken,) = fetch(write(path, f"id,date,name\nP1,2026-12-01,{name}\n".encode("cp1252")), NAMED)
    assert taken["patient_name"] == name


def test_bytes_that_the_given_encoding_lacks_fail_the_fetch(path: Path) -> None:
    write(path, b"id,date\nM\xfcller,2026-12-01\n")
    with pytest.raises(SourceUnavailable, match="not utf-8") as caught:
        fetch(path, encoding="utf-8")
    assert caught.value.__cause__ is None


def test_ragged_rows_are_reported_with_row_and_column_and_the_others_go_on(path: Path) -> None:
    write(path, "id,date,note\nP1,2026-12-01,x\nP2\nP3,2026-12-01,x,y\nP4,2026-12-01,x,,\n")
    first, short, long, padded = fetch(path)
    assert (first["patient_id"], padded["patient_id"]) == ("P1", "P4")
    assert isinstance(short, BadRecord)
    assert (short.record, '"date"' in short.reason) == ("row 3", True)
    assert isinstance(long, BadRecord)
    assert (long.record, '"note"' in long.reason) == ("row 4", True)


def test_empty_lines_are_passed_over_and_rows_are_counted_as_a_spreadsheet_does(path: Path) -> None:
    write(path, 'id,date,note\n\n,,\nP1,2026-12-01,"two\nlines"\nP2,2026-12-01,x\n')
    assert [entry[RECORD_LABEL] for entry in fetch(path)] == ["row 4", "row 5"]


def test_a_header_alone_is_an_empty_picture(path: Path) -> None:
    assert fetch(write(path, "id,date\n")) == []


def test_without_a_mapping_columns_are_named_like_worklist_fields(path: Path) -> None:
    write(path, "patient_id,scheduled_start_date,room\nP1,2026-12-01,7\n")
    assert fetch(path, {}) == [ROW]


def test_two_columns_for_one_field_give_the_first_value_there_is(path: Path) -> None:
    write(path, "new,old,date\n,P2,2026-12-01\nP3,P4,2026-12-01\n")
    entries = fetch(path, {"new": "patient_id", "old": "patient_id"})
    assert [entry["patient_id"] for entry in entries] == ["P2", "P3"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "0 bytes"),
        ("\n\n", "empty line"),
        ("P1,2026-12-01\n", "does the file have a header"),
        ("ID,date\nP1,2026-12-01\n", 'row 1 (the header): no column "id": did you mean "ID"?'),
        ("ID,Date\nP1,2026-12-01\n", '"id" stands there as "ID", "date" stands there as "Date"'),
        ("Bookings of today\n\nid,date\nP1,2026-12-01\n", 'stand in row 3; set "skip_rows": 2'),
        ("id,date,id\nP1,2026-12-01,P1\n", 'the name "id" stands over columns 1 and 3'),
        ('id,date\nP1,2026-12-01\n"P2,2026-12-01\nP3,2026-12-01\n', "check its quotes"),
        ('id,date\n"P1"x,2026-12-01\n', "line 2"),
    ],
)
def test_a_file_that_cannot_be_read_whole_fails_the_fetch(path: Path, content: str, reason: str) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        fetch(write(path, content))
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


def test_a_file_without_a_header_shows_no_patient_in_messages(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceUnavailable) as caught:
        fetch(write(path, "Doe^Jane,Doe^Jane,2026-12-01\n"))
    assert "Doe" not in str(caught.value) + caplog.text


def test_a_duplicate_column_that_nobody_maps_is_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert fetch(write(path, "id,date,x,x\nP1,2026-12-01,1,2\n")) == [ROW]
    assert 'the name "x" stands over columns 3 and 4' in caplog.text


def test_an_absent_file_is_reported_and_read_as_soon_as_it_is_there(path: Path) -> None:
    plugin = plugin_for(path, watch_for_changes=True)
    with pytest.raises(SourceUnavailable, match="no such file"):
        list(plugin.fetch_entries(MAPPING, 60))
    assert not plugin.has_changed()
    write(path, "id,date\nP1,2026-12-01\n")
    assert plugin.has_changed()
    assert list(plugin.fetch_entries(MAPPING, 60)) == [ROW]
    assert not plugin.has_changed()


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SourceUnavailable, match="file_path has to name the file itself"):
            fetch(path)


def test_a_configured_encoding_that_the_file_lacks_the_mark_of_is_named(path: Path) -> None:
    write(path, "id,date\nP1,2026-12-01\n")
    with pytest.raises(SourceUnavailable, match=r'is not utf-16; set "encoding"'):
        fetch(path, encoding="utf-16")


def test_a_locked_file_is_left_alone(path: Path) -> None:
    write(path, "id,date\nP1,2026-12-01\n")
    with path.open("rb+") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(SourceUnavailable, match="locked"):
            fetch(path)
    assert fetch(path) == [ROW]


def test_a_young_file_is_read_once_it_is_at_rest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("id,date\n")
    waits: list[float] = []

    def write_while_waiting(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) < 3:
            with path.open("a") as file:
                file.write("P1,2026-12-01\n")

    monkeypatch.setattr(time, "sleep", write_while_waiting)
    # However long this machine is busy with something else.
    monkeypatch.setattr("pylantir.data_sources.source_file.SETTLED_AFTER_S", 3600.0)
    monkeypatch.setattr("pylantir.data_sources.source_file.LONGEST_WAIT_S", 3600.0)
    assert len(fetch(path)) == 2
    assert len(waits) == 3


def test_a_young_file_that_ends_within_a_line_is_not_taken_for_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("date,id\n2026-12-01,P1")
    looks: list[float] = []

    def write_on_at_last(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 4:
            with path.open("a") as file:
                file.write("7\n")

    monkeypatch.setattr(time, "sleep", write_on_at_last)
    # However long this machine is busy with something else.
    monkeypatch.setattr("pylantir.data_sources.source_file.SETTLED_AFTER_S", 3600.0)
    monkeypatch.setattr("pylantir.data_sources.source_file.LONGEST_WAIT_S", 3600.0)
    (entry,) = fetch(path)
    assert entry["patient_id"] == "P17"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_file_from_a_clock_that_is_ahead_is_read_once_nobody_writes(
    path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, end: str
) -> None:
    path.write_bytes(f"id,date\nP1,2026-12-01{end}".encode(encoding))
    ahead = time.time() + 3600
    os.utime(path, (ahead, ahead))
    monkeypatch.setattr("pylantir.data_sources.source_file.LOOK_AGAIN_AFTER_S", 0.001)
    monkeypatch.setattr("pylantir.data_sources.source_file.SETTLED_AFTER_S", 0.02)
    monkeypatch.setattr("pylantir.data_sources.source_file.LONGEST_WAIT_S", 3600.0)
    assert fetch(path) == [ROW]


def test_a_file_that_never_comes_to_rest_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("id,date\n")

    def write_while_waiting(_: float) -> None:
        with path.open("a") as file:
            file.write("P1,2026-12-01\n")

    monkeypatch.setattr(time, "sleep", write_while_waiting)
    # However long this machine is busy with something else.
    monkeypatch.setattr("pylantir.data_sources.source_file.SETTLED_AFTER_S", 3600.0)
    monkeypatch.setattr("pylantir.data_sources.source_file.LONGEST_WAIT_S", 0.0)
    with pytest.raises(SourceUnavailable, match="still being written"):
        fetch(path)


def test_a_file_that_was_finished_a_while_ago_is_read_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited"))
    write(path, "id,date\nP1,2026-12-01\n", age_s=2.5)
    assert fetch(path) == [ROW]


def test_a_file_that_changes_while_it_is_read_gives_no_snapshot(path: Path) -> None:
    plugin = plugin_for(write(path, "id,date\n" + "P1,2026-12-01\n" * 10), watch_for_changes=True)
    entries = iter(plugin.fetch_entries(MAPPING, 60))
    next(entries)
    with path.open("a") as file:
        file.write("P2,2026-12-01\n")
    with pytest.raises(SourceUnavailable, match="changed while it was being read"):
        list(entries)
    assert plugin.has_changed()


def test_a_file_replaced_by_rename_while_it_is_read_is_read_whole_and_then_again(path: Path) -> None:
    plugin = plugin_for(write(path, "id,date\n" + "P1,2026-12-01\n" * 10), watch_for_changes=True)
    entries = iter(plugin.fetch_entries(MAPPING, 60))
    next(entries)
    write(path.with_suffix(".new"), "id,date\nP2,2026-12-01\n").replace(path)
    assert len(list(entries)) == 9
    assert plugin.has_changed()
    assert [entry["patient_id"] for entry in plugin.fetch_entries(MAPPING, 60)] == ["P2"]
    assert not plugin.has_changed()


def test_a_change_is_seen_even_if_size_and_time_stay(path: Path) -> None:
    plugin = plugin_for(write(path, "id,date\nP1,2026-12-01\n"), watch_for_changes=True)
    list(plugin.fetch_entries(MAPPING, 60))
    before = path.stat()
    other = write(path.with_suffix(".new"), "id,date\nP2,2026-12-01\n")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert plugin.has_changed()


def test_a_file_that_is_not_watched_never_asks_for_a_sync(path: Path) -> None:
    plugin = plugin_for(write(path, "id,date\nP1,2026-12-01\n"))
    assert isinstance(plugin, WatchesForChanges)
    assert not plugin.has_changed()


def test_a_fetch_that_is_abandoned_closes_the_file(path: Path) -> None:
    write(path, "id,date\n" + "P1,2026-12-01\n" * 10)
    entries = plugin_for(path).fetch_entries(MAPPING, 60)
    next(entries)
    entries.close()  # type: ignore[attr-defined]
    open_files = {os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}  # noqa: PTH208
    assert str(path) not in open_files


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "file_path"),
        ({"file_path": 7}, "expected text"),
        ({"file_path": "x", "delimeter": ";"}, 'did you mean "delimiter"'),
        ({"file_path": "x", "delimiter": ";;"}, "one character"),
        ({"file_path": "x", "encoding": "utf-9"}, '"utf-9" is unknown'),
        ({"file_path": "x", "watch_for_changes": "yes"}, "true or false"),
    ],
)
def test_the_form_of_the_configuration_is_checked(config: dict[str, Any], reason: str) -> None:
    valid, message = CsvPlugin().validate_config(config)
    assert not valid
    assert reason in message


def test_a_configuration_may_hold_comments_and_name_the_tab() -> None:
    config = {"file_path": "absent.csv", "delimiter": "tab", "_why": "the booking system says so"}
    assert CsvPlugin().validate_config(config) == (True, "")


def test_files_that_were_put_one_behind_the_other_are_one(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part = "\ufeffid,date\nP{},2026-12-01\n"
    write(path, part.format(1) + part.format(2) + part.format(3).partition("\n")[2])
    assert [entry["patient_id"] for entry in fetch(path)] == ["P1", "P2", "P3"]
    assert "row 3 is the header once more; left out" in caplog.text
    quoted = '\ufeff"id","date"\n"P2","2026-12-01"\n'
    write(path, part.format(1) + "\ufeffP4,2026-12-01\n" + quoted + '\ufeff"P3","2026-12-01"\n')
    assert [entry["patient_id"] for entry in fetch(path)] == ["P1", "P4", "P2", "P3"]


@pytest.mark.parametrize("second", ["date,id,name", "id,date,sex", "name,id", "id,date,name,id"])
def test_a_second_header_with_other_columns_fails_the_file(path: Path, second: str) -> None:
    write(path, f"id,date,name\nP1,2026-12-01,Doe\n{second}\nP2,2026-12-01,Roe\n")
    with pytest.raises(SourceUnavailable, match="row 3 is a second header, with other columns or in another order"):
        fetch(path)


def test_a_record_is_not_taken_for_a_header(path: Path) -> None:
    write(path, "id,date,note\nid,2026-12-01,date of birth unknown\n")
    assert [entry["patient_id"] for entry in fetch(path)] == ["id"]


@pytest.mark.parametrize("header", ['"id", "name", "date"', "id, name, date"])
def test_a_blank_before_a_quote_is_no_part_of_a_value(path: Path, header: str) -> None:
    write(path, f'{header}\n"P1", "Doe, ""J"" Jane", "2026-12-01"\n')
    (entry,) = fetch(path, {**MAPPING, "name": "patient_name"})
    assert entry["patient_name"] == 'Doe, "J" Jane'


def test_a_blank_may_be_the_delimiter(path: Path) -> None:
    write(path, '"id" "date"  "name"\n"P1" 2026-12-01  "Doe, Jane"\n')
    (entry,) = fetch(path, {**MAPPING, "name": "patient_name"}, delimiter=" ")
    assert entry["patient_name"] == "Doe, Jane"


def test_a_file_that_ends_within_a_line_unlike_before_is_waited_for_longer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = plugin_for(path)
    monkeypatch.setattr(source_file, "UNFINISHED_AFTER_S", 3600)

    def ids() -> list[Any]:
        return [entry["patient_id"] for entry in plugin.fetch_entries(MAPPING, 60)]  # type: ignore[index]

    write(path, "date,id\n2026-12-01,P1\n")
    assert ids() == ["P1"]
    write(path, "date,id\n2026-12-01,P1\n2026-12-01,P2")
    with pytest.raises(SourceUnavailable, match="ends within a line, unlike before"):
        ids()
    write(path, "date,id\n2026-12-01,P1\n2026-12-01,P23\n")
    assert ids() == ["P1", "P23"]
    # A program that writes its files so is believed in the end, and from then on.
    write(path, "date,id\n2026-12-01,P2", age_s=3601)
    assert ids() == ["P2"]
    write(path, "date,id\n2026-12-01,P3")
    assert ids() == ["P3"]
