"""Whatever is asked over HTTP, the answer is one of the protocol's, never an internal error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integration.web.application import Application
from worklist_store import record

from pylantir.settings import DicomSettings

STEPS = "/dicomweb/modality-scheduled-procedure-steps"
PERFORMED = "/dicomweb/modality-performed-procedure-steps"
FEW = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    records = [record(f"R{number}", f"P{number}", study_instance_uid=f"1.2.{number}") for number in range(5)]
    made = Application(tmp_path_factory.mktemp("web"), records, dicom=DicomSettings())
    yield made
    made.close()


def value(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


BEGINNING = {
    "00400270": value("SQ", {"0020000D": value("UI", "1.2.1"), "00080050": value("SH"), "00400009": value("SH")}),
    "00100020": value("LO", "P1"), "00100010": value("PN"), "00400253": value("SH", "PPS1"),
    "00400241": value("AE", "MR1"), "00400244": value("DA", "20300101"), "00400245": value("TM", "0800"),
    "00400252": value("CS", "IN PROGRESS"), "00080060": value("CS", "MR"),
}  # fmt: skip
ENDING = {
    "00400252": value("CS", "COMPLETED"), "00400250": value("DA", "20300101"), "00400251": value("TM", "0830"),
    "00400340": value("SQ", {"00181030": value("LO", "Head"), "0020000E": value("UI", "1.2.3.4")}),
}  # fmt: skip

NAMES = st.sampled_from([
    "PatientName", "PatientID", "00100010", "ScheduledProcedureStepSequence", "ScheduledProcedureStepSequence.Modality",
    "ScheduledProcedureStepSequence.ScheduledProcedureStepStartDate", "00400100.00400003", "limit", "offset",
    "fuzzymatching", "includefield", "StudyInstanceUID", "PatientWeight", "PixelData", "7FE00010", "00020010",
    "RequestedProcedureCodeSequence.CodeValue", "SpecificCharacterSet", "PatientBirthDate",
]) | st.text(max_size=12)  # fmt: skip
VALUES = st.sampled_from(
    ["*", "?", "20300101-", "MR\\CT", "-1", "0", "all", "true", "\0", "é", "[", "1e400"]
) | st.text(max_size=12)
ACCEPTS = st.sampled_from([
    "*/*", "application/dicom+json", "application/dicom+xml", 'multipart/related; type="application/dicom+xml"', "x",
])  # fmt: skip
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TAGS = st.sampled_from([*BEGINNING, *ENDING, "00080005", "7FE00010", "00091001", "00100010", "xyz", "0010"])
ELEMENTS = st.fixed_dictionaries(
    {}, optional={"vr": st.sampled_from(["LO", "SQ", "PN", "UI", "DS", "OB", "US", "", "ZZ"]) | JSON_VALUES,
                  "Value": JSON_VALUES, "InlineBinary": JSON_VALUES, "BulkDataURI": JSON_VALUES}
)  # fmt: skip
BODIES = st.dictionaries(TAGS, ELEMENTS | JSON_VALUES, max_size=4)


@FEW
@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), ACCEPTS)
def test_any_search(application: Application, parameters: list[tuple[str, str]], accept: str) -> None:
    answer = application.client.get(STEPS, params=parameters, headers={"Accept": accept})
    assert answer.status_code in {200, 204, 400, 406}, answer.text


@FEW
@given(BODIES, st.booleans(), st.sampled_from(["1.2.3", "1.2.4", "x", "0" * 70]))
def test_any_report(application: Application, changes: dict[str, Any], update: bool, uid: str) -> None:
    whole = {**(ENDING if update else BEGINNING), **changes}
    answer = application.client.post(
        f"{PERFORMED}/{uid}{'?update' if update else ''}",
        content=json.dumps(whole),
        headers={"Content-Type": "application/dicom+json"},
    )
    assert answer.status_code in {200, 201, 400, 404, 409}, answer.text
    assert application.client.get(f"{PERFORMED}/{uid}").status_code in {200, 404}


KINDS = ("application/dicom+json", "application/dicom+xml", "multipart/related; boundary=a", "", "text/html")


@FEW
@given(st.binary(max_size=200), st.sampled_from(KINDS))
def test_any_body(application: Application, body: bytes, kind: str) -> None:
    answer = application.client.post(f"{PERFORMED}/1.2.5", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400, answer.text


@FEW
@given(
    st.sampled_from(["/", "/scanners", "/sources", "/items/1", "/items/0", "/login", "/metrics", "/readyz"]),
    st.lists(
        st.tuples(
            st.sampled_from(["date", "scanner", "modality", "patient", "status", "source", "item", "next"]), VALUES
        )
        | st.just(("date", "0001-01-01"))
        | st.just(("date", "9999-12-31"))
        | st.just(("item", "1")),
        max_size=5,
    ),
)
def test_any_page(application: Application, path: str, parameters: list[tuple[str, str]]) -> None:
    answer = application.client.get(path, params=parameters)
    assert answer.status_code in {200, 404} or (path, answer.status_code) == ("/readyz", 503), answer.text


def test_the_statuses_of_performed_procedure_steps(application: Application) -> None:
    def post(uid: str, body: Any, *, update: bool = False) -> int:
        url = f"{PERFORMED}/{uid}{'?update' if update else ''}"
        headers = {"Content-Type": "application/dicom+json"}
        return int(application.client.post(url, content=json.dumps(body), headers=headers).status_code)

    linked = {**BEGINNING, "00400270": value("SQ", {"0020000D": value("UI", "1.2.2"), "00080050": value("SH")})}
    own = {**linked, "00100020": value("LO", "P2")}
    assert post("2.25.1", own) == 201
    assert post("2.25.1", own) == 409
    assert post("2.25.2", {**own, "00400252": value("CS", "NONSENSE")}) == 400
    assert post("no-uid", own) == 400
    assert post("2.25.9", ENDING, update=True) == 404
    assert post("2.25.1", {"00100020": value("LO", "P3")}, update=True) in {400, 409}
    assert post("2.25.1", {"00400252": value("CS", "NONSENSE")}, update=True) in {400, 409}
    assert post("2.25.1", [ENDING], update=True) == 200
    assert post("2.25.1", ENDING, update=True) == 409
    assert application.client.get(f"{PERFORMED}/2.25.1").json()[0]["00400252"]["Value"] == ["COMPLETED"]
    assert application.client.get(f"{PERFORMED}/2.25.9").status_code == 404


def test_what_was_shown_is_known_in_one_place(application: Application) -> None:
    application.shown.clear()
    application.client.get("/", params={"date": "2030-07-01", "patient": "P4"})
    application.client.get("/items/2")
    application.client.get("/items/999")
    application.client.get(STEPS, params={"PatientID": "P3", "limit": "1"})
    application.client.get("/healthz")
    (found,) = application.client.get(STEPS, params={"PatientID": "P4"}).json()
    assert found["00100020"]["Value"] == ["P4"]
    day, item, nothing, search, _ = application.shown
    assert (day.service, day.asked, len(day.items), day.user) == ("page", "/?date&patient", 1, "web")
    assert (item.asked, item.items, item.status) == ("/items/2", (2,), 200)
    assert (nothing.items, nothing.status) == ((), 404)
    assert (search.service, search.asked, len(search.items)) == ("DICOMweb", f"{STEPS}?PatientID&limit", 1)
