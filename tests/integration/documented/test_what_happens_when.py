"""The stories of docs/explanation/what-happens-when.md hold, on both databases."""

from __future__ import annotations

import re

import pytest
from pages import REPOSITORY
from sqlalchemy import Engine
from worklist_store import RULES, Feed, items, record, report_from_scanner

from pylantir.entry import CANCELED, DISCONTINUED, IN_PROGRESS, SCHEDULED
from pylantir.store.change.commands import carry_out
from pylantir.store.decide.claims import STATUS
from pylantir.store.read.conflicts import find_conflicts

PAGE = REPOSITORY / "docs/explanation/what-happens-when.md"
STORIES = re.findall(r"```story\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
FIELDS = {
    "patient": "patient_id", "date": "scheduled_start_date", "time": "scheduled_start_time", "name": "patient_name",
    "sex": "patient_sex", "born": "patient_birth_date", "modality": "modality", "accession": "accession_number",
    "uid": "study_instance_uid", "issuer": "issuer_of_patient_id",
}  # fmt: skip


def read_fields(words: list[str]) -> dict[str, str]:
    return {FIELDS[name]: value for name, value in (word.split("=") for word in words)}


@pytest.mark.parametrize("story", STORIES)
def test_story_ends_as_told(story: str, store: Engine) -> None:
    feeds: dict[str, Feed] = {}
    expected, told = [], []
    for line in story.splitlines():
        word, *rest = line.split()
        if word == "list":
            expected.append({"patient_id": rest[0], **read_fields(rest[1:])})
        elif word == "told":
            told += rest
        elif word == "scan":
            (item,) = items(store, patient_id=rest[0])
            report_from_scanner(store, item["id"], rest[1])
        elif word == "cancel":
            (item,) = items(store, patient_id=rest[0])
            command = {"command": "set-status", "item": item["id"], "status": CANCELED, "reason": "did not come"}
            carry_out(store, RULES, command)
        else:
            bookings = [part.split() for part in " ".join(rest[1:]).split("+")]
            shown = [
                record(None if name == "-" else name, **{"scheduled_start_time": "", "patient": ""} | rename(fields))
                for name, *fields in bookings
            ]
            feeds.setdefault(word, Feed(store, word)).sync(*shown)
    served = [one for one in items(store) if one[STATUS] in (SCHEDULED, IN_PROGRESS, DISCONTINUED)]
    assert len(served) == len(expected)
    for wanted in expected:
        assert [one for one in served if wanted.items() <= one.items()], wanted
    with store.connect() as connection:
        assert [one["kind"] for one in find_conflicts(connection)] == told


def rename(fields: list[str]) -> dict[str, str]:
    said = read_fields(fields)
    return {"patient": said.pop("patient_id"), **said}


def test_stories_were_found() -> None:
    assert len(STORIES) >= 8
