"""What the commands make of options, and how they print."""

from __future__ import annotations

import datetime
from argparse import Namespace
from pathlib import Path

import pytest

from pylantir.cli.client import choose_peer, make_keys
from pylantir.cli.output import print_table, readable_item
from pylantir.cli.preview import lay_side_by_side
from pylantir.cli.program.options import make_parser
from pylantir.cli.query_db import make_query
from pylantir.cli.supervisor import supervisor_command
from pylantir.printing import printable
from pylantir.settings import DicomSettings, PluginType, ServingSettings, SourceSettings

TODAY = datetime.date(2026, 8, 3)


def options(*arguments: str) -> Namespace:
    return make_parser().parse_args(arguments)


def test_query_serves_what_a_scanner_gets_unless_told_otherwise() -> None:
    status = "performed_procedure_step_status"
    assert "COMPLETED" not in make_query(options("query-db"), ServingSettings(), TODAY).equal[status]
    assert status not in make_query(options("query-db", "--all"), ServingSettings(), TODAY).equal
    query = make_query(
        options("query-db", "--all", "--status", "completed", "--status", "CANCELED"), ServingSettings(), TODAY
    )
    assert query.equal[status] == ("COMPLETED", "CANCELED")


def test_query_keeps_to_the_days_that_are_served() -> None:
    serving = ServingSettings(expire_after_days=1, days_ahead=7)
    assert make_query(options("query-db"), serving, TODAY).ranges == {"scheduled_start_date": ("20260802", "20260810")}
    assert make_query(options("query-db", "--all"), serving, TODAY).ranges == {}


def test_query_takes_wildcards_as_patterns_and_the_rest_literally() -> None:
    query = make_query(
        options("query-db", "--patient", "SUB*", "--modality", "MR", "--date", "today.."), ServingSettings(), TODAY
    )
    assert query.like == {"patient_id": "SUB*"}
    assert query.equal["modality"] == ("MR",)
    assert query.ranges == {"scheduled_start_date": ("20260803", None)}


@pytest.mark.parametrize(
    ("days", "key"),
    [
        ("today", "20260803"),
        ("today..", "20260803-"),
        ("..today", "-20260803"),
        ("today..tomorrow", "20260803-20260804"),
    ],
)
def test_client_writes_days_as_dicom_does(days: str, key: str) -> None:
    assert make_keys(options("test-client", "--date", days, "--name", ""), TODAY) == {"scheduled_start_date": key}


def test_client_asks_the_configured_server_as_the_first_scanner_that_it_allows() -> None:
    settings = DicomSettings(host="0.0.0.0", port=104, ae_title="WORK", allowed_aet=("MRI_1", "MRI_2"))
    peer = choose_peer(settings, options("test-client"))
    assert (peer.host, peer.port, peer.called, peer.calling) == ("127.0.0.1", 104, "WORK", "MRI_1")
    peer = choose_peer(
        settings,
        options("test-client", "--host", "scan.example", "--port", "11", "--AEtitle", "X", "--calling", "Y"),
    )
    assert (peer.host, peer.port, peer.called, peer.calling) == ("scan.example", 11, "X", "Y")


def test_start_hands_every_option_on(tmp_path: Path) -> None:
    given = options("start", "--pylantir_config", "a b.json", "--AEtitle=-T", "--ip", "::", "--port", "104", "--detach")
    handed_on = ["start", "--config=a b.json", "--AEtitle=-T", "--ip=::", "--port=104", "--detach"]
    python = tmp_path / "python"
    assert supervisor_command(python, given) == [str(python), "-P", "-m", "workers.commands.cli", *handed_on]
    script = tmp_path / "pylantir-supervisor"
    script.touch(mode=0o755)
    assert supervisor_command(python, given) == [str(script), *handed_on]


def test_table_shows_everything_on_one_line_per_row_and_leaves_empty_columns_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "x" * 5000
    print_table({"a": "A", "b": "B", "c": "C"}, [{"a": "[red]1", "b": long, "c": None}, {"a": ["list"], "b": 0}])
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["A", "B"]
    assert first.split() == ["[red]1", long]
    assert second.split() == ["['list']", "0"]


def test_what_would_steer_a_terminal_is_escaped() -> None:
    assert printable("a\x1b[2Jb\nc\x9b") == "a\\x1b[2Jb\\nc\\x9b"
    assert printable("Łęcki^山田") == "Łęcki^山田"


def test_dates_and_times_become_readable_and_odd_ones_stay() -> None:
    item = {"scheduled_start_date": "20260803", "scheduled_start_time": "093000", "patient_birth_date": "1980"}
    assert readable_item(item) == {
        "scheduled_start_date": "2026-08-03",
        "scheduled_start_time": "09:30",
        "patient_birth_date": "1980",
    }
    assert readable_item({"scheduled_start_time": "093015", "patient_id": "12345678"}) == {
        "scheduled_start_time": "09:30:15",
        "patient_id": "12345678",
    }


def test_preview_says_where_each_value_comes_from() -> None:
    source = SourceSettings(
        name="s",
        plugin=PluginType(type_name="csv"),
        defaults={"modality": "MR"},
    )
    entry = {
        "record": "row 2",
        "key": "id:1",
        "source": {"patient_sex": "w", "modality": "?"},
        "given": {"patient_id": " P1 ", "modality": "", "patient_sex": "F"},
        "fields": {"modality": "MR", "patient_id": "P1", "patient_sex": "F"},
    }
    names = {"patient_id": "pid", "modality": "kind", "patient_sex": "gender"}
    rows = [tuple(row.values()) for row in lay_side_by_side(entry, source, names)]
    assert rows == [
        ("row 2: id:1", "pid", " P1 ", "patient_id", "P1"),
        ("", "(default)", "?", "modality", "MR"),
        ("", "gender", "w", "patient_sex", "F"),
    ]


def test_a_time_that_nobody_gave_is_not_shown_as_midnight() -> None:
    assert readable_item({"scheduled_start_time": "000000"}) == {"scheduled_start_time": "-"}
    assert readable_item({"scheduled_start_time": "000100"}) == {"scheduled_start_time": "00:01"}
