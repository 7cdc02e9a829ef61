"""The example plugins, each against a real file, folder or server."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import openpyxl
import pytest
from http_server import HttpServer, answer_json

from pylantir.data_sources.base import BadRecord, DataSourcePlugin
from pylantir.data_sources.registry import discover, load_plugin
from pylantir.errors import RecordRejected, SourceUnavailable
from pylantir.mapping import EntryMapper
from pylantir.values.normalise import ValueRules
from pylantir.values.readings import MomentRules

EXAMPLES = Path(__file__).parents[3] / "etc/examples/plugins"


def plugin_for(type_name: str, config: dict[str, Any]) -> DataSourcePlugin:
    catalogue = discover([str(EXAMPLES)])
    assert not catalogue.problems
    plugin = load_plugin(catalogue.types[type_name])
    assert plugin.validate_config(config)[0], plugin.validate_config(config)
    return plugin


def entries(plugin: DataSourcePlugin, mapping: dict[str, Any], interval: float = 600, zone: str = "") -> list[Any]:
    """Give what becomes of the records: fields in DICOM form, or what was refused."""
    found: list[Any] = []
    rules = ValueRules(moments=MomentRules(zone=ZoneInfo(zone) if zone else None))
    for one in plugin.fetch_entries(mapping, interval):
        if isinstance(one, BadRecord):
            found.append(one)
            continue
        try:
            found.append(dict(EntryMapper(rules=rules).to_entry(one).fields))
        except RecordRejected as rejected:
            found.append(rejected)
    return found


def test_each_example_is_short_and_names_its_library() -> None:
    required = (EXAMPLES / "requirements.txt").read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 50, path.name
        for library in set(re.findall(r"^(?:import|from) (icalendar|openpyxl|hl7)\b", text, re.MULTILINE)):
            assert re.search(rf"^{library}\b.*{path.name}", required, re.MULTILINE)


CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Google Inc//Google Calendar 70.9054//EN
{events}END:VCALENDAR
"""
EVENT = """BEGIN:VEVENT
UID:1@google.com
DTSTART:20261202T063000Z
SUMMARY:Doe\\, Jane
X-PATIENT-ID:P1
DESCRIPTION:Knee left\\; with contrast agent\\, after lunch and a very lo
\tng line
LOCATION:MR1
BEGIN:VALARM
ACTION:DISPLAY
SUMMARY:Alarm
DESCRIPTION:This is an event reminder
TRIGGER:-P0DT0H30M0S
END:VALARM
END:VEVENT
"""
ICAL = {
    "UID": "source_record_id",
    "X-PATIENT-ID": "patient_id",
    "SUMMARY": "patient_name",
    "DTSTART": "scheduled_start",
    "DESCRIPTION": "procedure_description",
    "LOCATION": "scheduled_station_aetitle",
}


def read_calendar(path: Path, events: str, end: str = "\r\n") -> list[Any]:
    path.write_text(CALENDAR.format(events=events).replace("\n", end), encoding="utf-8", newline="")
    return entries(plugin_for("icalendar", {"file_path": str(path)}), ICAL, zone="America/Edmonton")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_calendar_reads_what_calendars_write(tmp_path: Path, end: str) -> None:
    (entry,) = read_calendar(tmp_path / "a.ics", EVENT, end)
    assert (entry["patient_name"], entry["source_record_id"]) == ("Doe^Jane", "1@google.com")
    assert entry["procedure_description"] == "Knee left; with contrast agent, after lunch and a very long line"
    assert (entry["scheduled_start_date"], entry["scheduled_start_time"]) == ("20261201", "233000")


@pytest.mark.parametrize(
    ("start", "date", "time"),
    [
        ('DTSTART;TZID="America/Edmonton":20261201T093000', "20261201", "093000"),
        ("DTSTART;TZID=Europe/Berlin:20261201T093000", "20261201", "013000"),
        ("DTSTART:20261201T093000", "20261201", "093000"),
        ("DTSTART;VALUE=DATE:20261201", "20261201", None),
    ],
)
def test_calendar_times_are_those_of_the_source(tmp_path: Path, start: str, date: str, time: str | None) -> None:
    (entry,) = read_calendar(tmp_path / "a.ics", EVENT.replace("DTSTART:20261202T063000Z", start))
    assert (entry["scheduled_start_date"], entry.get("scheduled_start_time")) == (date, time)


def test_calendar_leaves_cancelled_events_out_and_refuses_repeating_ones(tmp_path: Path) -> None:
    cancelled = EVENT.replace("SUMMARY:Doe", "STATUS:CANCELLED\nSUMMARY:Doe")
    assert read_calendar(tmp_path / "a.ics", cancelled) == []
    repeating = EVENT.replace("SUMMARY:Doe", "RRULE:FREQ=DAILY\nSUMMARY:Doe")
    (refused,) = read_calendar(tmp_path / "a.ics", repeating)
    assert refused.field == "RRULE"


def test_calendar_that_is_cut_short_or_absent_is_no_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "a.ics"
    plugin = plugin_for("icalendar", {"file_path": str(path)})
    whole = CALENDAR.format(events=EVENT * 3)
    for content in (None, "", whole[: len(whole) // 2], "<html>", whole[:-15]):
        if content is not None:
            path.write_text(content, encoding="utf-8")
        with pytest.raises(SourceUnavailable):
            entries(plugin, ICAL)


def test_workbook_gives_what_the_sheet_shows(tmp_path: Path) -> None:
    import datetime

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (
        ["Bookings"],
        ["MRN", "Name", "Born", "When", "Weight"],
        [12, "Doe^Jane", datetime.date(1980, 1, 31), datetime.datetime(2026, 12, 1, 9, 30), 70.5],  # noqa: DTZ001
        [None, None, None, None, None],
        ["#REF!", "Roe^Rick", None, datetime.date(2026, 12, 1), None],
    ):
        sheet.append(row)
    sheet["A3"].number_format = "0000"
    book.save(tmp_path / "bookings.xlsx")
    mapping = {
        "MRN": "patient_id",
        "Name": "patient_name",
        "Born": "patient_birth_date",
        "When": "scheduled_start",
        "Weight": "patient_weight_kg",
    }
    plugin = plugin_for("workbook", {"file_path": str(tmp_path / "bookings.xlsx"), "skip_rows": 1})
    first, refused = entries(plugin, mapping)
    assert (first["patient_id"], first["patient_birth_date"]) == ("0012", "19800131")
    assert (first["scheduled_start_date"], first["scheduled_start_time"]) == ("20261201", "093000")
    assert isinstance(refused, RecordRejected)
    with pytest.raises(SourceUnavailable, match="the header has no column Station"):
        entries(plugin, {**mapping, "Station": "station_name"})


def test_workbook_that_is_none_or_has_no_such_sheet_is_told(tmp_path: Path) -> None:
    path = tmp_path / "bookings.xlsx"
    with pytest.raises(SourceUnavailable, match="FileNotFoundError"):
        entries(plugin_for("workbook", {"file_path": str(path)}), {})
    path.write_text("id,day\n")
    with pytest.raises(SourceUnavailable, match="BadZipFile"):
        entries(plugin_for("workbook", {"file_path": str(path)}), {})
    openpyxl.Workbook().save(path)
    with pytest.raises(SourceUnavailable, match='no sheet "Today"; it has Sheet'):
        entries(plugin_for("workbook", {"file_path": str(path), "sheet": "Today"}), {})


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as running:
        yield running


def test_booking_system_takes_patients_out_of_titles(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOKING_USER", "me")
    monkeypatch.setenv("BOOKING_PASSWORD", "hunter22")
    server.routes["/api/bookings"] = answer_json({"bookings": [{"id": 7}, {"id": 8}]})
    booking = {"title": "BRAIN-P0012 follow-up", "start": "2026-12-01T09:30:00", "status": "Approved"}
    server.routes["/api/bookings/7"] = answer_json(booking)
    server.routes["/api/bookings/8"] = answer_json({**booking, "status": "Cancelled"})
    config = {
        "base_url": server.url + "/api/",
        "username_env": "BOOKING_USER",
        "password_env": "BOOKING_PASSWORD",
        "resources": ["3T"],
    }
    mapping = {
        "patient_id": {"from": "title", "extract": r"\bP\d+"},
        "study_description": {"source_field": "title", "_extract": {"pattern": r"^(\w+)-", "group": 1}},
        "start": "scheduled_start",
    }
    (entry,) = entries(plugin_for("booking_system", config), mapping)
    assert (entry["patient_id"], entry["study_description"], entry["source_record_id"]) == ("P0012", "BRAIN", "7")
    sent = server.requests[0][1]["Authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == b"me:hunter22"
    del server.routes["/api/bookings/8"]
    with pytest.raises(SourceUnavailable, match="HTTP 404"):
        entries(plugin_for("booking_system", config), mapping)


class FhirServer(HttpServer):
    """Answers searches with two resources a page."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: list[dict[str, Any]] = []
        self.active: list[dict[str, Any]] = []
        for kind in ("ServiceRequest", "Task", "Patient"):
            self.routes[f"/fhir/{kind}"] = self.answer

    def answer(self, handler: Any) -> None:
        parts = urlsplit(handler.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        resources = self.active if asked.get("status") == "active" else self.changed
        start = int(asked.get("offset", "0"))
        links = [{"relation": "self", "url": self.url + handler.path}]
        if start + 2 < len(resources):
            query = re.sub(r"&offset=\d+", "", parts.query)
            links.append({"relation": "next", "url": f"{self.url}{parts.path}?{query}&offset={start + 2}"})
        page = [{"resource": one} for one in resources[start : start + 2]]
        answer_json({"resourceType": "Bundle", "type": "searchset", "link": links, "entry": page})(handler)


def test_fhir_joins_request_task_and_patient_over_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FHIR_TOKEN", "s3cret")
    patient = {
        "resourceType": "Patient", "id": "p", "identifier": [{"value": "P1"}], "birthDate": "1980-01-31",
        "name": [{"family": "Doe", "given": ["Jane"]}], "gender": "female",
    }  # fmt: skip
    requests = [
        {"resourceType": "ServiceRequest", "id": name, "status": status, "subject": {"reference": "Patient/p"},
         "identifier": [{"value": f"ACC-{name}"}], "code": {"text": "Knee"}}
        for name, status in (("1", "active"), ("2", "revoked"), ("3", "active"))
    ]  # fmt: skip
    task = {
        "resourceType": "Task", "id": "t", "status": "requested", "focus": {"reference": "ServiceRequest/1"},
        "executionPeriod": {"start": "2026-12-01T09:30:00"},
    }  # fmt: skip
    mapping = {
        "patient.identifier.0.value": "patient_id",
        "patient_name": {"from": ["patient.name.0.family", "patient.name.0.given.0"]},
        "patient.gender": "patient_sex",
        "patient.birthDate": "patient_birth_date",
        "request.identifier.0.value": "accession_number",
        "request.code.text": "procedure_description",
        "task.executionPeriod.start": "scheduled_start",
    }
    with FhirServer() as server:
        server.changed, server.active = [*requests, task, patient], [requests[0], requests[2]]
        config = {"base_url": server.url + "/fhir", "token_env": "FHIR_TOKEN", "filter": {"category": "imaging"}}
        plugin = plugin_for("fhir", config)
        assert plugin.supports_incremental_sync()
        found = entries(plugin, mapping)
        (entry,) = [one for one in found if isinstance(one, dict)]
        assert len(found) == 2  # the third request has no time yet
        assert (entry["patient_id"], entry["patient_name"], entry["patient_sex"]) == ("P1", "Doe^Jane", "F")
        assert (entry["accession_number"], entry["scheduled_start_time"]) == ("ACC-1", "093000")
        assert entry["source_record_id"] == "1"
        assert sorted(plugin.current_record_ids()) == ["1", "3"]  # type: ignore[attr-defined]
        asked = [path for path, _ in server.requests]
        assert all("category=imaging" in path for path in asked if "status=active" in path)
        assert any("_lastUpdated=ge20" in path for path in asked)
        assert {headers["Authorization"] for _, headers in server.requests} == {"Bearer s3cret"}


HL7 = {
    "ORDER": "source_record_id",
    "PID-3.1": "patient_id",
    "PID-5": "patient_name",
    "PID-7": "patient_birth_date",
    "PID-8": "patient_sex",
    "START": "scheduled_start",
    "OBR-4.2": "procedure_description",
    "IPC-1.1": "accession_number",
    "IPC-5": "modality",
}
PERSON = "PID|1||P1^^^HOSP~X9^^^OTHER||Doe&van^Jane^Q^Jr^Dr||19800131|F"


def message(kind: str, sent: str, *segments: str, end: str = "\r") -> str:
    head = f"MSH|^~\\&|RIS|HOSP|PYLANTIR|MR|{sent}||{kind}|{sent}|P|2.5.1"
    return end.join([head, PERSON, *segments]) + end


def read_orders(folder: Path, **messages: str) -> list[Any]:
    for name, text in messages.items():
        (folder / f"{name}.hl7").write_text(text, encoding="utf-8", newline="")
    return entries(plugin_for("hl7_orders", {"folder": str(folder)}), HL7)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_hl7_reads_orders_of_both_kinds(tmp_path: Path, end: str) -> None:
    orm = message(
        "ORM^O01^ORM_O01", "20261101", "ORC|NW|O1||||^^^202612010930", "OBR|1|O1||K1^Knee \\T\\ hip^L", end=end
    )
    omi = message(
        "OMI^O23^OMI_O23", "20261101", "ORC|NW|O2", "TQ1|1||||||20261202100000", "OBR|1|O2||H1^Head^L",
        "IPC|ACC2|RP2|1.2.3|SPS2|MR|||MR1", end=end,
    )  # fmt: skip
    first, second = read_orders(tmp_path, a=orm.replace("||||^^^", "|||||^^^"), b=omi)
    assert first["patient_name"] == "Doe^Jane^Q^Dr^Jr"
    assert (first["patient_id"], first["procedure_description"]) == ("P1", "Knee & hip")
    assert (first["scheduled_start_date"], first["scheduled_start_time"]) == ("20261201", "093000")
    assert (second["accession_number"], second["modality"], second["scheduled_start_time"]) == ("ACC2", "MR", "100000")


def order(sent: str, control: str, *numbers: str) -> str:
    groups = [part for n in numbers for part in (f"ORC|{control}|{n}", f"TQ1|1||||||2026120{n[-1]}0930", f"OBR|1|{n}")]
    return message("OMI^O23", sent, *groups)


def test_hl7_newest_message_of_an_order_counts_and_cancelled_ones_are_gone(tmp_path: Path) -> None:
    found = read_orders(
        tmp_path, z=order("202611010800", "NW", "O1", "O2", "O3"), b=order("202611010900", "CA", "O2"),
        a=order("202611010700", "CA", "O1"), other=message("ADT^A08", "20261101"),
    )  # fmt: skip
    assert [one["source_record_id"] for one in found] == ["O1", "O3"]


def test_hl7_message_that_cannot_be_read_is_one_bad_record(tmp_path: Path) -> None:
    bad = {"empty": "", "text": "hello", "nobody": message("OMI^O23", "1", "ORC|NW", "OBR|1")}
    *refused, good = read_orders(tmp_path, **bad, z=order("1", "NW", "O1"))
    assert [one.record for one in refused] == ["empty.hl7", "nobody.hl7", "text.hl7"]
    assert good["source_record_id"] == "O1"
    with pytest.raises(SourceUnavailable, match="no such folder"):
        entries(plugin_for("hl7_orders", {"folder": str(tmp_path / "gone")}), HL7)


def test_examples_are_those_of_the_guide() -> None:
    guide = (EXAMPLES.parents[2] / "docs/howto/write-a-plugin.md").read_text(encoding="utf-8")
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(re.findall(r"^\| `(\w+\.py)`", guide, re.MULTILINE))
