"""The worklist and MPPS by DICOMweb, beside C-FIND and with the same rules."""

from __future__ import annotations

from typing import Any

STEPS = "/dicomweb/modality-scheduled-procedure-steps"
PERFORMED = "/dicomweb/modality-performed-procedure-steps"
JSON = {"Content-Type": "application/dicom+json"}


def value(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def beginning(study_uid: str, patient: str) -> dict[str, Any]:
    step = {"0020000D": value("UI", study_uid), "00080050": value("SH"), "00400009": value("SH")}
    return {
        "00400270": value("SQ", step), "00100020": value("LO", patient), "00100010": value("PN"),
        "00400253": value("SH", "PPS1"), "00400241": value("AE", "MR1"), "00400244": value("DA", "20300101"),
        "00400245": value("TM", "0800"), "00400252": value("CS", "IN PROGRESS"), "00080060": value("CS", "MR"),
    }  # fmt: skip


ENDING = {
    "00400252": value("CS", "COMPLETED"), "00400250": value("DA", "20300101"), "00400251": value("TM", "0830"),
    "00400340": value("SQ", {"00181030": value("LO", "Head"), "0020000E": value("UI", "1.2.3.4")}),
}  # fmt: skip


def patients(answer: Any) -> list[str]:
    return [one["00100020"]["Value"][0] for one in answer.json()] if answer.status_code == 200 else []


def test_a_search_finds_what_a_scanner_finds(site: Any) -> None:
    site.start()
    get = site.client.get
    assert patients(get(STEPS)) == ["P1", "P2", "P3"]
    assert patients(get(STEPS, params={"PatientID": "P2"})) == ["P2"]
    assert patients(get(STEPS, params={"PatientName": "name^p3"})) == ["P3"]
    assert get(STEPS, params={"PatientID": "nobody"}).status_code == 204
    assert patients(get(STEPS, params={"offset": 1, "limit": 1})) == ["P2"]
    assert get(STEPS, params={"limit": "x"}).status_code == 400
    assert get(STEPS, params={"ScheduledProcedureStepSequence.ScheduledProcedureStepStartDate": "x"}).status_code == 400
    assert get(STEPS, headers={"Accept": "text/html"}).status_code == 406
    xml = get(STEPS, headers={"Accept": "application/dicom+xml"})
    assert xml.headers["content-type"].startswith("multipart/related")
    assert xml.text.count("<NativeDicomModel") == 3
    assert "299" in get(STEPS, params={"fuzzymatching": "true"}).headers["warning"]


def test_reports_change_the_items_status_and_are_refused_by_the_rules_of_mpps(site: Any) -> None:
    site.start()
    (found,) = site.client.get(STEPS, params={"PatientID": "P1"}).json()
    report = beginning(found["0020000D"]["Value"][0], "P1")
    post = site.client.post
    created = post(f"{PERFORMED}/1.2.3", json=report, headers=JSON)
    assert (created.status_code, created.headers["location"]) == (201, f"{PERFORMED}/1.2.3")
    assert post(f"{PERFORMED}/1.2.3", json=report, headers=JSON).status_code == 409
    assert post(f"{PERFORMED}/no-uid", json=report, headers=JSON).status_code == 400
    assert post(f"{PERFORMED}/1.2.9", content=b"{", headers=JSON).status_code == 400
    assert post(f"{PERFORMED}/1.2.8?update", json=ENDING, headers=JSON).status_code == 404
    other = post(f"{PERFORMED}/1.2.3?update", json={"00100020": value("LO", "P2")}, headers=JSON)
    assert other.status_code in {400, 409}
    assert post(f"{PERFORMED}/1.2.3?update", json=ENDING, headers=JSON).status_code == 200
    assert post(f"{PERFORMED}/1.2.3?update", json=ENDING, headers=JSON).status_code == 409
    (stored,) = site.client.get(f"{PERFORMED}/1.2.3").json()
    assert stored["00400252"]["Value"] == ["COMPLETED"]
    assert site.client.get(f"{PERFORMED}/1.2.4").status_code == 404
    ((status,),) = site.installation.rows(
        "select performed_procedure_step_status from worklist_items where patient_id = 'P1'"
    )
    assert status == "COMPLETED"
    ((actor,),) = site.installation.rows("select distinct actor from audit_log where actor like 'scanner:%'")
    assert actor == "scanner:web"


def test_a_scanners_profile_applies_to_its_user(site: Any) -> None:
    site.installation.environment["MR1_PASSWORD"] = "a long password"
    modalities = [{"ae_title": "MR1", "user": "mr1", "max_answers": 2}]
    site.start(users={"mr1": {"password_env": "MR1_PASSWORD"}}, modalities=modalities)
    answer = site.client.get(STEPS, auth=("mr1", "a long password"))
    assert patients(answer) == ["P1", "P2"]
    assert answer.json()[0]["00400100"]["Value"][0]["00400001"]["Value"] == ["MR1"]
