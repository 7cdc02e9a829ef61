"""What the pages say, without a browser: words, marks, and what to do next."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from pylantir.web.pages.day import Filter, is_patient, show_date, show_name, show_time, version_of
from pylantir.web.pages.item import show_field, show_value
from pylantir.web.pages.sources import lay_out_differences, lay_out_rejected, lay_out_sources
from pylantir.web.pages.steps import next_steps

TODAY = datetime.date(2030, 1, 1)
ITEM = {"patient_id": "P-100", "patient_name": "Lovelace^Ada"}


@pytest.mark.parametrize(
    "wanted", ["P-100", "P-1*", "P-???", "Lovelace", "love", "lovelace^ada", "Lovelace, Ada", "Lovelace A", "*ada", "*"]
)
def test_a_patient_is_found_by_id_or_name(wanted: str) -> None:
    assert is_patient(ITEM, wanted)


@pytest.mark.parametrize("wanted", ["P-10", "p-100", "Ada", "Lovelace^B", "P-1?", "100"])
def test_other_patients_are_not(wanted: str) -> None:
    assert not is_patient(ITEM, wanted)


def test_a_form_that_makes_no_sense_shows_today_and_says_so() -> None:
    chosen = Filter.from_form({"date": "01.12.2030", "status": "nonsense", "scanner": " MR1 "}, TODAY)
    assert (chosen.date, chosen.status, chosen.scanner) == (TODAY, "", "MR1")
    assert [remark.partition(",")[0] for remark in chosen.remarks] == [
        '"01.12.2030" is no day', '"NONSENSE" is no status: this list has all statuses but cancelled.',
    ]  # fmt: skip
    for form in ({}, {"date": "", "status": ""}, {"date": "2030-02-01", "status": "completed"}):
        assert Filter.from_form(form, TODAY).remarks == ()
    assert Filter.from_form({}, TODAY).is_narrow is False


def test_values_as_people_write_them() -> None:
    assert show_name("Yamada^Tarou=山田^太郎") == "Yamada, Tarou = 山田, 太郎"
    assert show_name("Doe^Jane^M^Dr^Jr") == "Doe, Dr Jane M Jr"
    assert (show_date("20300102"), show_date("2030"), show_date(None)) == ("2030-01-02", "2030", "")
    assert (show_time("093000"), show_time("000000"), show_time(None)) == ("09:30", "-", "-")
    assert show_field("study_instance_uid") == "Study instance UID"
    assert show_field("requested_procedure_id") == "Requested procedure ID"
    assert show_value("patient_birth_date", "19851210") == "1985-12-10"


def test_a_version_changes_with_the_values_and_does_not_say_them() -> None:
    assert version_of(["Doe^Jane", 1]) != version_of(["Doe^John", 1])
    assert "Doe" not in version_of(["Doe^Jane", 1])


def source(**changes: Any) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).isoformat()
    return {"name": "ris", "role": "source", "state": "RUNNING", "last_sync": now, "last_success": now, "problem": None,
            "last_error": None, "rejected": 0, "entries": 3, "next_sync": now, **changes}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "held", "words", "step"),
    [
        ({}, 0, "up to date", None),
        ({"last_sync": None}, 0, "not fetched yet", None),
        ({"progress": {"fetched": 5}}, 0, "is fetching", None),
        ({"waits_for_window": True}, 0, "waits for its hours", None),
        ({"problem": "no such file"}, 0, "fails", "pylantir-supervisor sync ris"),
        ({"problem": "held back"}, 7, "fails", "pylantir accept ris"),
        ({"state": "BACKOFF", "retry_in_s": 4.0, "problem": "BACKOFF"}, 0, "starts again in 4 s", "log ris"),
        ({"state": "FATAL", "problem": "FATAL"}, 0, "stopped", "pylantir-supervisor reload"),
        ({"state": "STANDBY (host-b)"}, 0, "stands by; host-b fetches", None),
        ({"state": "DISABLED", "only_items": 4}, 0, "disabled", "pylantir forget ris"),
        ({"rejected": 2}, 0, "up to date", "pylantir rejects --source ris"),
    ],
)
def test_every_problem_of_a_source_has_its_next_step(
    changes: dict[str, Any], held: int, words: str, step: str | None
) -> None:
    (shown,) = lay_out_sources({"processes": [source(**changes)], "health": "degraded"}, {"ris": held})["sources"]
    assert shown["state"].startswith(words)
    assert (step in " ".join(shown["advice"])) if step else not shown["advice"]
    assert next_steps(source(**changes), held) == shown["advice"]


def test_problems_come_first_and_a_silent_supervisor_is_one() -> None:
    both = lay_out_sources({"processes": [source(), source(name="broken", problem="x")], "health": "degraded"}, {})
    assert [one["name"] for one in both["sources"]] == ["broken", "ris"]
    assert both["troubled"] == ["broken"]
    assert lay_out_sources(None, {})["troubled"] == ["the supervisor"]
    many = lay_out_sources({"processes": [source(name=f"s{n}", problem="x") for n in range(200)]}, {})
    assert many["troubled"] == ["s0", "s1", "s2", "s3", "s4", "195 more"]


def test_refused_records_and_differences_are_bounded() -> None:
    rejected = {"data_source": "ris", "record_key": "row 1", "field": "patient_id", "reason": "missing",
                "first_seen_at": "2026-01-01T00:00:00+00:00"}  # fmt: skip
    assert len(lay_out_rejected(rejected for _ in range(1000))) == 100
    difference = {"kind": "held", "patient_id": "P", "items": [1], "sources": ["ris"], "fields": [], "what_to_do": "x"}
    assert lay_out_differences([difference] * 1000)[99]["kind"] == "removal held back"
