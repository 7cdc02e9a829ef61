from __future__ import annotations

from typing import Any

import pytest

from pylantir.columns import RecordMapping
from pylantir.data_sources.base import BadRecord
from pylantir.data_sources.redcap.naming import Protocols, composite_fields
from pylantir.data_sources.redcap.plan import RecordRules, plan_records
from pylantir.data_sources.redcap.records import find_scans, possible_ids, scan_id, source_values, to_fields
from pylantir.errors import SourceUnavailable

DIRECT = {"mrn": "patient_id", "day": "scheduled_start_date", "acc": "accession_number", "note": "allergies"}


def metadata(**forms: str) -> list[dict[str, str]]:
    """`form="field field"`; the record ID comes first."""
    pairs = [("first", "record_id"), *((form, name) for form, names in forms.items() for name in names.split())]
    return [{"field_name": name, "form_name": form} for form, name in pairs]


OLD = metadata(demographics="study_id family_id youth_dob_y demo_sex", mri="mri_instance mri_date mri_time t1_date")
VISITS = metadata(person="mrn note", mri="day acc")


def read(
    rows: list[dict[str, Any]],
    fields: list[dict[str, str]],
    mapping: dict[str, str],
    rules: RecordRules | None = None,
    notes: list[str] | None = None,
) -> list[Any]:
    plan = plan_records(fields, mapping, rules or RecordRules())
    note = (notes if notes is not None else []).append
    return [to_fields(plan, scan, note) for scan in find_scans(plan, [{"record_id": "9", **row} for row in rows])]


def old_rows(*scans: dict[str, Any], **base: Any) -> list[dict[str, Any]]:
    person = {"study_id": "CPIP-12-0345", "family_id": "FAM-7", "youth_dob_y": "2011", "demo_sex": "F"}
    shape = {"redcap_repeat_instrument": "", "redcap_repeat_instance": ""}
    filled = {"mri_instance": "1", "mri_date": "2026-12-01", "mri_time": "09:30"}
    repeats = [
        shape | {"redcap_repeat_instrument": "mri", "redcap_repeat_instance": number} | filled | scan
        for number, scan in enumerate(scans, 1)
    ]
    return [shape | person | base, *repeats]


LEGACY = RecordRules(legacy=True, protocols=Protocols(site="792", protocol={"792": "BRAIN", "mapping": "GEHC"}))


@pytest.mark.parametrize("mapping", [{}, {"study_id": "study_id", "t1_date": "t1_date", "study_idd": "patient_id"}])
def test_old_configuration_needs_no_mapping(mapping: dict[str, str]) -> None:
    assert read(old_rows({}), OLD, mapping, LEGACY) == [
        {
            "_record": "record 9:mri#1",
            "source_record_id": "9:mri#1",
            "patient_id": "sub_0345_ses_1_fam_7_site_792",
            "patient_name": "cpip-id-0345^fa-7",
            "patient_birth_date": "2011",
            "patient_sex": "F",
            "scheduled_start_date": "2026-12-01",
            "scheduled_start_time": "09:30",
            "study_description": "CPIP",
            "protocol_name": "BRAIN",
            "hisris_coding_designator": "GEHC",
        }
    ]


def test_field_of_old_counts_where_the_mapped_one_is_empty() -> None:
    fields = [*OLD, {"field_name": "booked_for", "form_name": "mri"}]
    mapping = {"booked_for": "scheduled_start_date"}
    rows = old_rows({"booked_for": "2026-12-24"}, {"booked_for": ""})
    found = read(rows, fields, mapping, LEGACY)
    assert [one["scheduled_start_date"] for one in found] == ["2026-12-24", "2026-12-01"]


@pytest.mark.parametrize("lacking", ["mri_instance", "mri_date", "mri_time"])
@pytest.mark.parametrize("empty", ["", "NaN", None])
def test_row_without_session_date_or_time_is_no_scan_yet(lacking: str, empty: str | None) -> None:
    assert read(old_rows({lacking: empty}), OLD, {}, LEGACY) == []


def test_scan_is_only_in_a_row_of_the_instrument() -> None:
    rows = old_rows({}, mri_instance="5", mri_date="2026-11-01", mri_time="08:00")
    rows.append(rows[1] | {"redcap_repeat_instrument": "eeg"})
    assert [entry["source_record_id"] for entry in read(rows, OLD, {}, LEGACY)] == ["9:mri#1"]


def test_value_of_the_scans_row_wins_unless_it_is_empty() -> None:
    rows = old_rows({"demo_sex": "M"}, {"demo_sex": ""}, {"demo_sex": "NaN"})
    assert [entry["patient_sex"] for entry in read(rows, OLD, {}, LEGACY)] == ["M", "F", "F"]


@pytest.mark.parametrize(
    "fields",
    [
        metadata(mri=" ".join(row["field_name"] for row in OLD[1:])),
        metadata(x=" ".join(row["field_name"] for row in OLD[1:])),
    ],
)
def test_patients_values_are_found_whatever_form_they_are_said_to_be_on(fields: list[dict[str, str]]) -> None:
    (entry,) = read(old_rows({}), fields, {}, LEGACY)
    assert entry["patient_id"] == "sub_0345_ses_1_fam_7_site_792"
    assert entry["patient_sex"] == "F"


def test_numbers_that_became_floats_are_whole_again() -> None:
    (entry,) = read(old_rows({"mri_instance": "2.0"}, youth_dob_y="2011.0"), OLD, {}, LEGACY)
    assert entry["patient_id"] == "sub_0345_ses_2_fam_7_site_792"
    assert entry["patient_birth_date"] == "2011"


def test_sex_that_says_nothing_is_left_out_and_told_without_the_value() -> None:
    notes: list[str] = []
    (entry,) = read(old_rows({}, demo_sex="7"), OLD, {}, LEGACY, notes)
    assert "patient_sex" not in entry
    assert notes == ['the sex "a value that is no choice" is none that DICOM knows (M, F, O); left out']


def test_unknown_parts_are_left_out_of_composed_names() -> None:
    fields = composite_fields(study="A-1", session="1", family="", protocols=Protocols())
    assert fields == {
        "patient_id": "sub_1_ses_1",
        "patient_name": "cpip-id-1",
        "study_description": "CPIP",
        "protocol_name": "DEFAULT_PROTOCOL",
        "hisris_coding_designator": "scannermapper",
    }


def test_protocol_may_be_one_for_all_sites() -> None:
    fields = composite_fields(study="1", session="1", family="1", protocols=Protocols(site="3", protocol="ALL"))
    assert fields["protocol_name"] == "ALL"


def test_roles_may_be_on_fields_of_any_name() -> None:
    fields = metadata(a="sid scan_no", mri="day hour")
    mapping = {
        "sid": "study_id",
        "scan_no": "session_id",
        "day": "scheduled_start_date",
        "hour": "scheduled_start_time",
    }
    rows = [{"sid": "S-4", "scan_no": "2", "day": "2026-12-01", "hour": "10:00"}]
    (entry,) = read(rows, fields, mapping)
    assert entry["patient_id"] == "sub_4_ses_2"


def test_mapped_patient_id_that_the_project_lacks_is_not_replaced_by_a_composed_one() -> None:
    with pytest.raises(SourceUnavailable, match='no field "mrm", which field_mapping maps to patient_id'):
        read([], OLD, {"mrm": "patient_id", "mri_date": "scheduled_start_date"})


def test_mapping_without_patient_id_in_a_foreign_project_is_explained() -> None:
    with pytest.raises(SourceUnavailable, match='no field "study_id"; map a field to study_id, or to "patient_id"'):
        read([], VISITS, {})


def test_longitudinal_events_are_scans_of_their_own() -> None:
    rows = [
        {"redcap_event_name": "intake_arm_1", "mrn": "P1", "note": "latex", "day": "", "acc": ""},
        {"redcap_event_name": "year1_arm_1", "mrn": "", "note": "", "day": "2026-12-01", "acc": "A1"},
        {"redcap_event_name": "year2_arm_1", "mrn": "", "note": "", "day": "2027-12-01", "acc": ""},
    ]
    first, second = read(rows, VISITS, DIRECT)
    assert first["source_record_id"] == "9@year1_arm_1"
    assert (first["patient_id"], first["accession_number"], first["allergies"]) == ("P1", "A1", "latex")
    assert second["patient_id"] == "P1"
    assert "accession_number" not in second
    assert len(read(rows, VISITS, DIRECT, RecordRules(events=("year2_arm_1",)))) == 1


def test_another_visits_pregnancy_and_contradicting_weights_are_not_this_scans() -> None:
    fields = metadata(person="mrn", screening="weight height pregnant", mri="day")
    mapping = {
        "mrn": "patient_id", "day": "scheduled_start_date", "weight": "patient_weight_kg",
        "height": "dicom:PatientSize", "pregnant": "pregnancy_status",
    }  # fmt: skip

    def visit(name: str, **values: str) -> dict[str, Any]:
        nothing = dict.fromkeys(("mrn", "day", "weight", "height", "pregnant"), "")
        return {"redcap_event_name": f"{name}_arm_1", **nothing, **values}

    notes: list[str] = []
    rows = [
        visit("intake", mrn="P1", weight="20", height="1.10", pregnant="no"),
        visit("year1", day="2026-12-01", weight="25", pregnant="yes"),
        visit("year2", day="2027-12-01"),
    ]
    first, second = read(rows, fields, mapping, notes=notes)
    assert (first["patient_weight_kg"], first["pregnancy_status"]) == ("25", "yes")
    assert (second["patient_id"], second["dicom:PatientSize"]) == ("P1", "1.10")
    assert second.keys().isdisjoint({"patient_weight_kg", "pregnancy_status"})
    assert notes == [
        "patient_weight_kg of a scan is known of other visits only; left out",
        "pregnancy_status of a scan is known of other visits only; left out",
    ]


def test_what_belongs_to_an_exam_is_not_taken_from_the_event_of_another_exam() -> None:
    fields = metadata(person="mrn", order="acc contrast protocol allergies", mri="day")
    mapping = {
        "mrn": "patient_id", "day": "scheduled_start_date", "acc": "accession_number", "contrast": "contrast_agent",
        "protocol": "protocol_name", "allergies": "allergies",
    }  # fmt: skip

    def visit(name: str, **values: str) -> dict[str, Any]:
        nothing = dict.fromkeys(("mrn", "day", "acc", "contrast", "protocol", "allergies"), "")
        return {"redcap_event_name": f"{name}_arm_1", **nothing, **values}

    notes: list[str] = []
    rows = [
        visit("intake", mrn="P1", protocol="BRAIN"),
        visit("year1", day="2026-12-01", acc="A1", contrast="Gd", protocol="KNEE", allergies="latex"),
        visit("year2", day="2027-12-01"),
    ]
    first, second = read(rows, fields, mapping, notes=notes)
    assert (first["accession_number"], first["contrast_agent"], first["protocol_name"]) == ("A1", "Gd", "KNEE")
    assert (second["patient_id"], second["protocol_name"], second["allergies"]) == ("P1", "BRAIN", "latex")
    assert second.keys().isdisjoint({"accession_number", "contrast_agent"})
    assert notes == [
        "accession_number of a scan is known of other visits only; left out",
        "contrast_agent of a scan is known of other visits only; left out",
    ]


def test_scans_own_form_is_the_one_with_the_date_in_a_project_without_the_instrument() -> None:
    fields = metadata(person="mrn note", booking="day acc")
    rows = [
        {"redcap_event_name": "a_arm_1", "mrn": "P1", "day": "2026-12-01", "acc": "A1"},
        {"redcap_event_name": "b_arm_1", "mrn": "", "day": "2027-12-01", "acc": ""},
    ]
    assert [entry.get("accession_number") for entry in read(rows, fields, DIRECT)] == ["A1", None]


def test_instances_of_a_repeating_event_do_not_mix() -> None:
    def visit(number: int, **values: str) -> dict[str, Any]:
        place = {"redcap_event_name": "visit_arm_1", "redcap_repeat_instrument": "", "redcap_repeat_instance": number}
        return place | {"mrn": "", "day": "", "acc": "", "note": ""} | values

    intake = visit(1, mrn="P1") | {"redcap_event_name": "intake_arm_1", "redcap_repeat_instance": ""}
    rows = [intake, visit(1, day="2026-12-01", note="latex", acc="A1"), visit(2, day="2026-12-08")]
    first, second = read(rows, VISITS, DIRECT)
    assert (first["source_record_id"], first["allergies"]) == ("9@visit_arm_1#1", "latex")
    assert (second["source_record_id"], second["patient_id"]) == ("9@visit_arm_1#2", "P1")
    assert "allergies" not in second


def test_date_on_another_form_holds_for_every_scan() -> None:
    fields = metadata(person="mrn day", mri="acc")
    rows = [
        {"redcap_repeat_instrument": "", "mrn": "P1", "day": "2026-12-01", "acc": ""},
        {"redcap_repeat_instrument": "mri", "redcap_repeat_instance": 1, "mrn": "", "day": "", "acc": "A1"},
    ]
    (entry,) = read(rows, fields, DIRECT)
    assert (entry["scheduled_start_date"], entry["accession_number"]) == ("2026-12-01", "A1")


def test_mapped_record_id_comes_first() -> None:
    mapping = {**DIRECT, "acc": "source_record_id"}
    (entry,) = read([{"mrn": "P1", "day": "2026-12-01", "acc": "A1"}], VISITS, mapping)
    assert entry["source_record_id"] == "A1"


def test_status_of_a_form_and_the_event_can_be_mapped() -> None:
    mapping = {**DIRECT, "mri_complete": "patient_state", "redcap_event_name": "admission_id"}
    plan = plan_records(VISITS, mapping, RecordRules())
    assert plan.fields == ("record_id", "acc", "day", "mri_complete", "mrn", "note")
    assert plan.unknown == ()


def test_checkbox_columns_are_asked_for_by_their_field() -> None:
    fields = [*VISITS, {"field_name": "box", "form_name": "mri", "field_type": "checkbox"}]
    plan = plan_records(fields, {**DIRECT, "box___1": "patient_state"}, RecordRules())
    assert "box" in plan.fields
    assert "box___1" in plan.columns


@pytest.mark.parametrize(
    ("column", "status"), [("state___1", "Pregnant"), ("state____2", "Not pregnant"), ("state", "Pregnant")]
)
def test_a_ticked_box_for_the_pregnancy_is_read_by_its_label(column: str, status: str) -> None:
    """DICOM's 1 is "not pregnant", while the 1 of a box says that it is ticked."""
    box = {"field_name": "state", "form_name": "person", "field_type": "checkbox"}
    fields = [*VISITS, box | {"select_choices_or_calculations": "1, Pregnant | -2, Not pregnant"}]
    ticked = column if column != "state" else "state___1"
    rows = [{"mrn": "P1", "day": "2026-12-01", "state___1": "0", "state____2": "0", ticked: "1"}]
    (entry,) = read(rows, fields, {**DIRECT, column: "pregnancy_status"})
    assert entry["pregnancy_status"] == status
    (entry,) = read(rows, fields, {**DIRECT, ticked: "patient_state"})
    assert entry["patient_state"] == "1"


def test_record_without_a_study_id_proper_is_a_bad_one() -> None:
    assert read(old_rows({}, study_id="CPIP-"), OLD, {}, LEGACY) == [
        BadRecord(record="record 9:mri#1", field="study_id", reason="nothing follows the last hyphen")
    ]


def test_possible_ids_include_those_of_deleted_rows() -> None:
    plan = plan_records(OLD, {}, LEGACY)
    rows = [{"record_id": "9", **row} for row in old_rows({}, {})]
    names = set(possible_ids(plan, rows))
    assert {scan_id(plan, scan) for scan in find_scans(plan, rows)} <= names
    assert {"9:mri#1", "9:mri#2", "9:mri#3"} <= names
    assert "9:mri#1" in set(possible_ids(plan, rows[:1]))


def coded(name: str, form: str, choices: str = "", kind: str = "dropdown", validation: str = "") -> dict[str, str]:
    return {
        "field_name": name,
        "form_name": form,
        "field_type": kind,
        "select_choices_or_calculations": choices,
        "text_validation_type_or_show_slider_number": validation,
    }


@pytest.mark.parametrize(
    ("choices", "code", "expected"),
    [
        ("F, Férfi | N, Nő", "F", None),
        ("m, Mulher | h, Homem", "m", None),
        ("M, M (male) | F, F (female)", "M", "M"),
        ("M, Male to female | F, F", "M", None),
        ("1, Male | 2, Female", "2", "Female"),
        ("9, Unknown | F, F", "9", "Unknown"),
        ("F, | M, ", "F", "F"),
    ],
)
def test_a_code_that_looks_like_a_sex_does_not_count_beside_another_label(
    choices: str, code: str, expected: str | None
) -> None:
    fields = [row for row in OLD if row["field_name"] != "demo_sex"] + [coded("demo_sex", "demographics", choices)]
    notes: list[str] = []
    (entry,) = read(old_rows({}, demo_sex=code), fields, {"demo_sex": "patient_sex"}, notes=notes)
    assert entry.get("patient_sex") == expected
    assert bool(notes) is (expected is None)


def test_a_sex_is_translated_by_the_labels_of_its_own_field() -> None:
    fields = [*OLD[:-4], coded("demo_sex", "demographics", "1, Female | 2, Male"), *OLD[-4:]]
    fields = [row for row in fields if row != {"field_name": "demo_sex", "form_name": "demographics"}]
    fields.append(coded("gender", "demographics", "1, Male | 2, Female"))
    rows = old_rows({}, demo_sex="1", gender="")
    (entry,) = read(rows, fields, {"gender": "patient_sex"}, LEGACY)
    assert entry["patient_sex"] == "Female"
    (entry,) = read(old_rows({}, demo_sex="1", gender="1"), fields, {"gender": "patient_sex"}, LEGACY)
    assert entry["patient_sex"] == "Male"


EXAM = coded("exam", "mri", "1, <b>Head</b> &amp; neck | 2, MR")
ROW = {"mrn": "P1", "day": "2026-12-01", "exam": "1", "acc": "", "note": ""}


@pytest.mark.parametrize(
    ("said", "labels", "expected"),
    [
        ("procedure_description", False, "1"),
        ("procedure_description", True, "Head & neck"),
        ("procedure_description", frozenset({"exam"}), "Head & neck"),
        ("procedure_description", frozenset({"procedure_description"}), "Head & neck"),
        ("procedure_description", frozenset({"acc"}), "1"),
    ],
)
def test_coded_answers_are_taken_by_their_labels_where_that_is_said(
    said: str, labels: bool | frozenset[str], expected: str
) -> None:
    rules = RecordRules(labels=labels)
    (entry,) = read([ROW], [*VISITS, EXAM], {**DIRECT, "exam": said}, rules)
    assert entry[said] == expected


@pytest.mark.parametrize(
    ("rule", "expected", "shown"),
    [
        ({"from": "exam", "labels": True}, "Head & neck", None),
        ({"from": "exam", "values": {"1": "Skull"}}, "Skull", "1"),
        ({"from": "exam", "labels": True, "extract": r"^\w+"}, "Head", "Head & neck"),
        ({"from": ["mrn", "exam"], "join": "/"}, "P1/1", "P1 + 1"),
    ],
)
def test_the_object_form_of_the_mapping_is_understood(rule: dict[str, Any], expected: str, shown: str | None) -> None:
    mapping: dict[str, Any] = {**DIRECT, "procedure_description": rule}
    (entry,) = read([ROW], [*VISITS, EXAM], mapping)
    assert entry["procedure_description"] == expected
    plan = plan_records([*VISITS, EXAM], mapping, RecordRules())
    (scan,) = find_scans(plan, [{"record_id": "9", **ROW}])
    assert source_values(plan, scan).get("procedure_description") == shown


def test_yes_and_no_have_labels_and_numbers_that_are_calculated_have_none() -> None:
    fields = [*VISITS, coded("pregnant", "mri", "", "yesno"), coded("score", "mri", "round([a],2)", "calc")]
    mapping = {**DIRECT, "pregnant": "patient_state", "score": "special_needs"}
    (entry,) = read([{**ROW, "pregnant": "1", "score": "2"}], fields, mapping, RecordRules(labels=True))
    assert (entry["patient_state"], entry["special_needs"]) == ("Yes", "2")


def test_missing_data_codes_are_nothing() -> None:
    row = {**ROW, "note": "UNK", "acc": "-999"}
    plan = plan_records(
        VISITS, DIRECT, RecordRules(missing_codes=frozenset({"-999"})), missing_codes=frozenset({"UNK"})
    )
    (scan,) = find_scans(plan, [{"record_id": "9", **row}])
    entry = to_fields(plan, scan, lambda _: None)
    assert isinstance(entry, dict)
    assert not {"allergies", "accession_number"} & entry.keys()
    assert not list(find_scans(plan, [{"record_id": "9", **row, "mrn": "P1", "day": "UNK"}]))


@pytest.mark.parametrize("target", ["scheduled_start", "scheduled_start_date"])
def test_a_field_with_date_and_time_gives_both(target: str) -> None:
    fields = [*metadata(person="mrn"), coded("slot", "mri", kind="text", validation="datetime_ymd")]
    (entry,) = read([{"mrn": "P1", "slot": "2026-12-01 09:30"}], fields, {"mrn": "patient_id", "slot": target})
    assert entry["scheduled_start"] == "2026-12-01 09:30"


def test_a_whole_start_stands_for_date_and_time_in_composed_records() -> None:
    fields = [*OLD, coded("slot", "mri", kind="text", validation="datetime_ymd")]
    (entry,) = read(old_rows({"slot": "2026-12-24 09:30", "mri_time": ""}), fields, {"slot": "scheduled_start"})
    assert entry["scheduled_start"] == "2026-12-24 09:30"
    assert "scheduled_start_date" not in entry


def test_where_decides_which_scans_count() -> None:
    where = RecordMapping({}, where={"exam": ["1"]})
    plan = plan_records([*VISITS, EXAM], DIRECT, RecordRules(), where=where)
    assert "exam" in plan.fields
    assert "exam" in plan.id_fields
    rows = [{"record_id": "9", **ROW}], [{"record_id": "8", **ROW, "exam": "2"}]
    assert [len(list(find_scans(plan, one))) for one in rows] == [1, 0]


@pytest.mark.parametrize(
    ("rule", "code", "expected"),
    [
        ("pregnancy_status", "1", "Yes"),
        ("pregnancy_status", "0", "No"),
        ({"from": "pregnant", "empty": ["9"]}, "1", "Yes"),
        ({"from": "pregnant", "values": {"1": "3", "0": "1"}}, "0", "1"),
    ],
)
def test_a_yes_is_never_dicoms_code_for_not_pregnant(rule: Any, code: str, expected: str) -> None:
    fields = [*VISITS, coded("pregnant", "mri", "", "yesno")]
    said = {"pregnant": rule} if isinstance(rule, str) else {"pregnancy_status": rule}
    (entry,) = read([{**ROW, "pregnant": code}], fields, {**DIRECT, **said})
    assert entry["pregnancy_status"] == expected


@pytest.mark.parametrize(
    "said", [{"pregnant": "dicom:PregnancyStatus"}, {"dicom:PregnancyStatus": {"from": "pregnant"}}]
)
def test_a_yes_is_never_that_code_under_dicoms_own_name_either(said: dict[str, Any]) -> None:
    fields = [*VISITS, coded("pregnant", "mri", "", "yesno")]
    (entry,) = read([{**ROW, "pregnant": "1"}], fields, {**DIRECT, **said})
    assert entry["dicom:PregnancyStatus"] == "Yes"
