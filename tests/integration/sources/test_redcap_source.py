from __future__ import annotations

import datetime
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redcap_server import CPIP_METADATA, TOKEN, RedcapServer, base_row, field, mri_row, zone

from pylantir.data_sources.base import BadRecord, ComparesWhenAsked, ReportsRecordIds
from pylantir.data_sources.redcap.answers import RedcapRefused
from pylantir.data_sources.redcap.client import RedcapClient, retry_delay_s
from pylantir.data_sources.redcap.options import RedcapAccess
from pylantir.data_sources.redcap.source import RedcapPlugin
from pylantir.data_sources.wall_clock import wall_clock_before
from pylantir.errors import SourceUnavailable

EVER = 10 * 365.25 * 86400.0
MAPPING = {
    "study_id": "study_id",
    "mri_instance": "session_id",
    "youth_dob_y": "patient_birth_date",
    "demo_sex": "patient_sex",
}


@pytest.fixture
def server() -> Iterator[RedcapServer]:
    with RedcapServer() as running:
        running.put(*participant("1"))
        running.put(*participant("2", study_id="CPIP-0002", demo_sex="2"))
        yield running


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("REDCAP_API_TOKEN", TOKEN)
    if "server" in request.fixturenames:
        monkeypatch.setenv("REDCAP_API_URL", request.getfixturevalue("server").url)


class Clock:
    """Monotonic time that passes only while something pauses."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def participant(record: str, **values: str) -> list[dict[str, object]]:
    base = {"study_id": "CPIP-0001", "family_id": "F-77", "youth_dob_y": "2012", "demo_sex": "1"}
    return [
        base_row(record, **base | values),
        mri_row(record, 1, mri_instance="1", mri_date="2026-12-01", mri_time="09:30"),
    ]


def make_plugin(clock: Clock | None = None, **config: Any) -> RedcapPlugin:
    plugin = RedcapPlugin(clock) if clock else RedcapPlugin()
    defaults = {"site_id": "792", "protocol": {"792": "BRAIN_MRI_3T"}}
    assert plugin.validate_config(defaults | config) == (True, "")
    return plugin


def make_client(server: RedcapServer, clock: Clock, **access: Any) -> RedcapClient:
    known = {"url": server.url, "token": TOKEN, "token_env": "REDCAP_API_TOKEN"}
    return RedcapClient(RedcapAccess(**known | access), monotonic=clock, sleep=clock.sleep)


def fetch(plugin: RedcapPlugin, interval: float = EVER, mapping: dict[str, str] = MAPPING) -> list[dict[str, Any]]:
    return list(plugin.fetch_entries(mapping, interval))  # type: ignore[arg-type]


def test_entries_are_named_as_existing_installations_name_them(server: RedcapServer) -> None:
    assert fetch(make_plugin())[0] == {
        "_record": "record 1:mri#1",
        "source_record_id": "1:mri#1",
        "patient_id": "sub_0001_ses_1_fam_77_site_792",
        "patient_name": "cpip-id-0001^fa-77",
        "patient_birth_date": "2012",
        "patient_sex": "Male",
        "scheduled_start_date": "2026-12-01",
        "scheduled_start_time": "09:30",
        "study_description": "CPIP",
        "protocol_name": "BRAIN_MRI_3T",
        "hisris_coding_designator": "scannermapper",
    }


def test_idle_cycle_is_one_request(server: RedcapServer) -> None:
    plugin = make_plugin()
    fetch(plugin)
    server.changed = dict.fromkeys(server.changed, server.now() - 7200)
    server.requests.clear()
    assert fetch(plugin, 60) == []
    assert server.contents() == ["changed"]
    assert {value for key, value in server.requests[0].items() if key.startswith("fields")} == {"record_id"}


def test_first_sync_asks_for_no_date_range(server: RedcapServer) -> None:
    fetch(make_plugin())
    assert server.contents() == ["metadata", "ids", "records"]


def test_changed_record_is_fetched_whole(server: RedcapServer) -> None:
    plugin = make_plugin()
    fetch(plugin)
    server.changed["1"] = server.now() - 7200
    assert [entry["patient_id"] for entry in fetch(plugin, 60)] == ["sub_0002_ses_1_fam_77_site_792"]


@pytest.mark.parametrize("offset_s", [-3600.0, 5400.0])
def test_change_is_found_by_the_clock_of_a_server_that_is_wrong(server: RedcapServer, offset_s: float) -> None:
    server.clock_offset_s = offset_s
    server.put(*participant("1"), changed_s_ago=30)
    server.put(*participant("2"), changed_s_ago=600)
    assert [entry["source_record_id"] for entry in fetch(make_plugin(), 60)] == ["1:mri#1"]


def test_change_is_found_in_the_servers_time_zone(server: RedcapServer) -> None:
    server.time_zone = zone("Pacific/Kiritimati")
    server.put(*participant("1"), changed_s_ago=30)
    server.put(*participant("2"), changed_s_ago=600)
    plugin = make_plugin(server_timezone="Pacific/Kiritimati")
    assert [entry["source_record_id"] for entry in fetch(plugin, 60)] == ["1:mri#1"]


@pytest.mark.parametrize("minutes_ago", [5, 50, 65, 120])
@pytest.mark.parametrize("since_change", [0, 10, 59, 90])
def test_no_change_is_missed_when_summer_time_ends(minutes_ago: int, since_change: int) -> None:
    berlin = zone("Europe/Berlin")
    end_of_summer = datetime.datetime(2026, 10, 25, 1, 0, tzinfo=datetime.UTC)
    now = end_of_summer + datetime.timedelta(minutes=since_change)
    begin = wall_clock_before(now, minutes_ago * 60, "Europe/Berlin")
    for minute in range(minutes_ago + 1):
        moment = now - datetime.timedelta(minutes=minute)
        assert moment.astimezone(berlin).replace(tzinfo=None) >= begin


def test_many_records_come_in_batches(server: RedcapServer) -> None:
    for number in range(3, 11):
        server.put(*participant(str(number)))
    assert len(fetch(make_plugin(batch_size=4))) == 10
    assert server.contents() == ["metadata", "ids", "records", "records", "records"]


def test_fewer_records_are_asked_for_when_the_server_runs_out_of_memory(server: RedcapServer) -> None:
    for number in range(3, 11):
        server.put(*participant(str(number)))
    server.most_records = 3
    assert len({entry["source_record_id"] for entry in fetch(make_plugin())}) == 10


def test_only_the_projects_fields_are_asked_for_and_others_are_named_once(
    server: RedcapServer, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = make_plugin()
    mapping = MAPPING | {"mri_acession": "accession_number", "redcap_event_name": "station_name"}
    with caplog.at_level(logging.WARNING):
        fetch(plugin, mapping=mapping)
        fetch(plugin, mapping=mapping)
    told = [record.getMessage() for record in caplog.records]
    assert told == ['REDCap: the project has no field "mri_acession": did you mean "mri_accession"?; it is left out']


def test_field_without_which_there_is_no_entry_is_an_error(server: RedcapServer) -> None:
    with pytest.raises(
        SourceUnavailable, match='no field "mri_datum", which field_mapping maps to scheduled_start_date'
    ):
        fetch(make_plugin(), mapping=MAPPING | {"mri_datum": "scheduled_start_date"})


def test_field_that_the_user_may_not_see_is_an_error_if_needed(server: RedcapServer) -> None:
    server.hidden = {"mri_date"}
    with pytest.raises(SourceUnavailable, match="does not export mri_date"):
        fetch(make_plugin())


def test_field_that_the_user_may_not_see_is_a_warning_if_not(
    server: RedcapServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.hidden = {"youth_dob_y"}
    with caplog.at_level(logging.WARNING):
        assert "patient_birth_date" not in fetch(make_plugin())[0]
    assert "does not export youth_dob_y" in caplog.text


def test_field_that_vanished_from_the_project_costs_one_cycle(server: RedcapServer) -> None:
    plugin = make_plugin()
    fetch(plugin)
    server.metadata = [row for row in CPIP_METADATA if row["field_name"] != "youth_dob_y"]
    server.put(*participant("1"))
    with pytest.raises(RedcapRefused, match="'youth_dob_y'"):
        fetch(plugin)
    assert len(fetch(plugin)) == 2


def test_metadata_are_read_again_after_a_day(server: RedcapServer) -> None:
    clock = Clock()
    plugin = make_plugin(clock)
    fetch(plugin)
    clock.now += 90000
    fetch(plugin)
    assert server.contents().count("metadata") == 2


def test_sex_is_read_by_the_label_of_its_code(server: RedcapServer, caplog: pytest.LogCaptureFixture) -> None:
    server.put(*participant("3", demo_sex="3"))
    with caplog.at_level(logging.WARNING):
        assert [entry.get("patient_sex") for entry in fetch(make_plugin())] == ["Male", "Female", None]
    assert '"Prefer not to say" is none that DICOM knows' in caplog.text


def test_direct_mapping_needs_no_roles(server: RedcapServer) -> None:
    server.put(
        base_row("1", study_id="P-1", allergies___1="1", allergies____9="1"),
        mri_row("1", 1, mri_date="2026-12-01", mri_accession="A1"),
    )
    mapping = {
        "study_id": "patient_id",
        "mri_date": "scheduled_start_date",
        "mri_accession": "accession_number",
        "allergies": "allergies",
        "allergies___2": "contrast_agent",
    }
    server.delete("2")
    assert fetch(make_plugin(), mapping=mapping) == [
        {
            "_record": "record 1:mri#1",
            "source_record_id": "1:mri#1",
            "patient_id": "P-1",
            "scheduled_start_date": "2026-12-01",
            "accession_number": "A1",
            "allergies": "Latex, Other",
            "protocol_name": "BRAIN_MRI_3T",
        }
    ]


def test_record_without_a_usable_study_id_is_a_bad_one(server: RedcapServer) -> None:
    server.put(*participant("1", study_id="CPIP-"))
    bad, good = fetch(make_plugin())
    assert bad == BadRecord(record="record 1:mri#1", field="study_id", reason="nothing follows the last hyphen")
    assert good["patient_id"] == "sub_0002_ses_1_fam_77_site_792"


def test_comparison_of_records_comes_at_start_and_then_hourly(server: RedcapServer) -> None:
    clock = Clock()
    plugin = make_plugin(clock)
    assert isinstance(plugin, ReportsRecordIds)
    fetch(plugin, 60)
    assert list(plugin.current_record_ids() or ()) == ["1:mri#1", "2:mri#1"]
    assert plugin.current_record_ids() is None
    clock.now += 3600
    server.delete("1")
    assert list(plugin.current_record_ids() or ()) == ["2:mri#1"]


def test_comparison_comes_at_once_when_somebody_asks(server: RedcapServer) -> None:
    plugin = make_plugin(Clock())
    fetch(plugin, EVER)
    assert plugin.current_record_ids() is None
    assert isinstance(plugin, ComparesWhenAsked)
    plugin.compare_now()
    assert list(plugin.current_record_ids() or ()) == ["1:mri#1", "2:mri#1"]
    assert plugin.current_record_ids() is None


def test_complete_fetch_stands_for_the_comparison(server: RedcapServer) -> None:
    plugin = make_plugin()
    fetch(plugin)
    assert plugin.current_record_ids() is None


@pytest.mark.parametrize("rows", [[mri_row("1", 1, mri_instance="1", mri_time="09:30")], []])
def test_scan_that_lost_its_date_or_its_row_is_compared_at_once(
    server: RedcapServer, rows: list[dict[str, object]]
) -> None:
    plugin = make_plugin()
    fetch(plugin)
    server.put(participant("1")[0], *rows)
    fetch(plugin, 60)
    assert list(plugin.current_record_ids() or ()) == ["2:mri#1"]


def test_comparison_that_fails_midway_is_due_again(server: RedcapServer) -> None:
    plugin = make_plugin(batch_size=1, patience=1)
    fetch(plugin, 60)
    ids = iter(plugin.current_record_ids() or ())
    next(ids)
    server.faults = ["400"]
    with pytest.raises(SourceUnavailable):
        list(ids)
    fetch(plugin, 60)
    assert len(list(plugin.current_record_ids() or ())) == 2


@pytest.mark.parametrize(
    "fault", ["empty", "html", "cut", "cut chunked", "disconnect", "429", "500", "502", "503", "504"]
)
def test_passing_trouble_is_waited_out(server: RedcapServer, fault: str) -> None:
    clock = Clock()
    client = make_client(server, clock)
    server.faults = ["", fault, fault, fault]
    assert client.record_ids().count == 2
    assert len(client.rows(["1"], ["study_id"])) == 2
    least = 1.0 if fault.isdecimal() else 0.5
    assert clock.pauses == [max(least, pause) for pause in (0.5, 1.0, 2.0)]


def test_slow_answer_is_a_passing_trouble(server: RedcapServer) -> None:
    clock = Clock()
    client = make_client(server, clock, timeout_s=0.2)
    server.faults = ["silence"]
    assert client.metadata()
    # On a machine that stands still for a moment the answer to the second question is slow, too.
    assert clock.pauses[0] == 0.5


def test_patience_ends(server: RedcapServer) -> None:
    clock = Clock()
    client = make_client(server, clock, patience_s=100)
    server.faults = ["empty"] * 1000
    with pytest.raises(SourceUnavailable, match="an empty answer, as REDCap gives under load; asked 9 times"):
        client.metadata()
    assert sum(clock.pauses) < 100


def test_a_pause_longer_than_the_patience_is_kept_in_the_next_fetches(server: RedcapServer) -> None:
    clock = Clock()
    client = make_client(server, clock, patience_s=100)
    server.faults, server.retry_after = ["429"], "150"
    for match in ("HTTP 429.*; asked once", r"asked for a pause \(Retry-After\); 150 s"):
        client.renew_patience()
        with pytest.raises(SourceUnavailable, match=match):
            client.metadata()
    assert len(server.requests) == 1
    clock.now += 151
    client.renew_patience()
    assert client.metadata()


def test_server_that_is_down_is_named(server: RedcapServer) -> None:
    clock = Clock()
    client = make_client(server, clock, url="http://127.0.0.1:1/api/", patience_s=1)
    with pytest.raises(
        SourceUnavailable, match=r"REDCap \(http://127.0.0.1:1/api/\): no connection: Connection refused"
    ):
        client.metadata()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("400", "refuses the request; .*HTTP 400: try later"),
        ("404", "does not know this address; check api_url"),
        ("redirect", "redirects elsewhere .*; set api_url"),
        ("error in 200", r"refuses: The token \*\*\* is tired"),
    ],
)
def test_refusal_is_told_and_not_repeated(server: RedcapServer, fault: str, told: str) -> None:
    clock = Clock()
    server.faults = [fault]
    with pytest.raises(RedcapRefused, match=told):
        make_client(server, clock).metadata()
    assert clock.pauses == []


def test_refused_token_is_named_by_its_variable(server: RedcapServer) -> None:
    clock = Clock()
    client = make_client(server, clock, token="F" * 32)
    with pytest.raises(RedcapRefused, match=r"REDCAP_API_TOKEN.*\(HTTP 403: You do not have permissions") as caught:
        client.metadata()
    assert "F" * 32 not in repr(caught.value)
    assert clock.pauses == []


def test_token_appears_nowhere(server: RedcapServer, caplog: pytest.LogCaptureFixture) -> None:
    plugin = make_plugin(patience=2)
    server.faults = ["error in 200", "empty", "cut", "503", "disconnect"]
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceUnavailable) as refused:
        fetch(plugin)
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceUnavailable) as gave_up:
        fetch(plugin)
    assert TOKEN not in "".join(traceback.format_exception(refused.value) + traceback.format_exception(gave_up.value))
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(plugin.__dict__)


def test_connection_is_kept_between_requests(server: RedcapServer) -> None:
    plugin = make_plugin()
    fetch(plugin)
    connections = server.connections
    fetch(plugin, 60)
    assert server.connections == connections == 1


def test_listed_records_without_rows_fail_the_cycle(server: RedcapServer) -> None:
    plugin = make_plugin()
    server.faults = ["", "", "nothing"]
    with pytest.raises(SourceUnavailable, match="no rows of 2 records that it had just listed"):
        fetch(plugin)


def test_token_of_the_wrong_form_never_reaches_pycap(server: RedcapServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDCAP_API_TOKEN", "half-a-token")
    plugin = RedcapPlugin()
    valid, message = plugin.validate_config({})
    assert not valid
    with pytest.raises(SourceUnavailable, match="the configuration is not valid") as caught:
        fetch(plugin)
    assert "half-a-token" not in message + str(caught.value)


def test_classic_project_has_one_scan_per_record() -> None:
    metadata = [field("pid", "booking"), field("day", "booking"), field("hour", "booking")]
    with RedcapServer(metadata) as server:
        server.put({"pid": "7", "day": "2026-12-01", "hour": "10:00"})
        server.put({"pid": "8", "day": "", "hour": ""})
        plugin = make_plugin(api_url=server.url)
        mapping = {"pid": "patient_id", "day": "scheduled_start_date", "hour": "scheduled_start_time"}
        assert [entry["source_record_id"] for entry in fetch(plugin, mapping=mapping)] == ["7"]


def test_server_with_an_unknown_certificate_is_refused_until_its_ca_is_named(
    tmp_path: Path, certificate: tuple[Any, Path]
) -> None:
    context, ca_file = certificate
    with RedcapServer(certificate=context) as server:
        server.put(*participant("1"))
        with pytest.raises(RedcapRefused, match=r"certificate is not trusted: it is self-signed.*ca_bundle"):
            fetch(make_plugin(api_url=server.url))
        with pytest.raises(RedcapRefused, match="certificate is not trusted: it is for another host"):
            fetch(make_plugin(api_url=server.url.replace("127.0.0.1", "localhost"), ca_bundle=str(ca_file)))
        (empty := tmp_path / "empty.pem").touch()
        with pytest.raises(RedcapRefused, match="ca_bundle holds no certificate"):
            fetch(make_plugin(api_url=server.url, ca_bundle=str(empty)))
        assert fetch(make_plugin(api_url=server.url, ca_bundle=str(ca_file)))
        with pytest.raises(SourceUnavailable, match="nowhere"):
            fetch(make_plugin(api_url=server.url, ca_bundle=str(tmp_path / "nowhere.pem")))


def test_unchecked_certificate_is_warned_of(certificate: tuple[Any, Path], caplog: pytest.LogCaptureFixture) -> None:
    with RedcapServer(certificate=certificate[0]) as server, caplog.at_level(logging.WARNING):
        server.put(*participant("1"))
        assert fetch(make_plugin(api_url=server.url, verify=False))
    assert '"verify": false' in caplog.text


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    import ssl
    import subprocess

    folder = tmp_path_factory.mktemp("tls")
    key, pem = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    try:
        subprocess.run([*command, *subject, "-keyout", key, "-out", pem], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    return context, pem


def test_pauses_double_up_to_half_a_minute() -> None:
    assert [retry_delay_s(attempt) for attempt in (1, 2, 3, 7, 60)] == [0.5, 1.0, 2.0, 30.0, 30.0]


def test_missing_data_codes_of_the_project_are_nothing(server: RedcapServer) -> None:
    server.missing_data_codes = "UNK, Unknown | -999, Not asked"
    server.put(*participant("101", youth_dob_y="-999", family_id="UNK"))
    (entry,) = [one for one in fetch(make_plugin()) if one["_record"].startswith("record 101:")]
    assert "patient_birth_date" not in entry
    assert "fam" not in entry["patient_id"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_page_that_is_not_redcaps_is_no_refused_token(server: RedcapServer, status: int) -> None:
    server.faults = [f"page {status}"] * 9
    with pytest.raises(RedcapRefused, match="a page that is not REDCap's refuses the request") as caught:
        fetch(make_plugin())
    assert "token" not in str(caught.value)
