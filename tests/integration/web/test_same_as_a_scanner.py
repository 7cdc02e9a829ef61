"""The same questions by HTTP and by C-FIND: the same items, with the same values."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dicom_server import serving
from foreign.questions import ALWAYS_ASKED, STEP_KEYWORDS, Question, make_entries, make_question
from integration.web.application import Application
from raw_scanner import RawScanner
from worklist_store import record

from pylantir.query import WorklistQuery
from pylantir.settings import DicomSettings, ScannerProfile
from pylantir.store.read.worklist import find_matching

pytestmark = pytest.mark.usefixtures("quiet_dicom_libraries")

QUESTIONS = 300
STEPS = "/dicomweb/modality-scheduled-procedure-steps"
STEP = "ScheduledProcedureStepSequence"
PROFILES = {"MR1": ScannerProfile(only_own_station=True), "CT1": ScannerProfile(modalities=("CT",), max_answers=3)}
USERS = {"anna": "", "mr1": "MR1", "ct1": "CT1"}
"""User -> the scanner as which he asks."""


def parameters(question: Question) -> list[tuple[str, str]]:
    """Write a question as the parameters of a URL."""
    written = []
    for keyword, wanted in question.keys.items():
        name = f"{STEP}.{keyword}" if keyword in STEP_KEYWORDS else keyword
        value = wanted.replace("\\", ",") if keyword == "StudyInstanceUID" else wanted
        written.append((name, value) if value else ("includefield", name))
    # A sequence without an item asks for all that is in it.
    return [*written, ("includefield", STEP)] if question.step == "empty" else written


def values(model: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Flatten a data set of the JSON model, without its character set: JSON has but one."""
    found: dict[str, Any] = {}
    for tag, element in model.items():
        if element["vr"] != "SQ":
            found[path + tag] = element.get("Value")
        for item in element.get("Value", ()) if element["vr"] == "SQ" else ():
            found |= values(item, f"{path}{tag}.")
    return {tag: value for tag, value in found.items() if not tag.endswith("00080005")}


def test_http_and_c_find_give_the_same_items(bound: socket.socket, tmp_path: Path) -> None:
    seed = int(os.environ.get("PYLANTIR_SEED", "3"))
    entries, chance = make_entries(random.Random(1)), random.Random(seed)
    questions = [*ALWAYS_ASKED, *(make_question(chance) for _ in range(QUESTIONS))]
    records = [record(f"R{n}", **{"patient" if k == "patient_id" else k: v for k, v in entry.items()})
               for n, entry in enumerate(entries)]  # fmt: skip
    stations = {user: title for user, title in USERS.items() if title}
    application = Application(
        tmp_path, records, dicom=DicomSettings(profiles=PROFILES), users=dict.fromkeys(USERS, "secret"),
        stations=stations,
    )  # fmt: skip

    def items(query: WorklistQuery) -> Any:
        with application.reader.connect() as connection:
            yield from find_matching(connection, query)

    found_some = 0
    with serving(bound, items, profiles=PROFILES) as served:
        scanners = {user: RawScanner(served.port, calling=title or "ANYBODY") for user, title in USERS.items()}
        for number, question in enumerate(questions):
            user = list(USERS)[number % len(USERS)]
            matches, status = scanners[user].find(question.encoded())
            answer = application.client.get(STEPS, params=parameters(question), auth=(user, "secret"))
            told = f"seed {seed}: {user} asks {question}: {status:04X}, {answer.status_code} {answer.text[:200]}"
            if status != 0:
                assert (status, answer.status_code) == (0xA900, 400), told
                continue
            assert answer.status_code == (200 if matches else 204), told
            by_http = [values(model) for model in answer.json()] if matches else []
            by_dimse = [values(match.to_json_dict()) for match in matches]
            assert [one["0020000D"] for one in by_http] == [one["0020000D"] for one in by_dimse], told
            for ours, theirs in zip(by_http, by_dimse, strict=True):
                # HTTP sends what must be sent unasked, besides; who is no scanner has no AE title to read as his own.
                ignored = {"00400100.00400001"} if user == "anna" else set()
                assert {tag: ours.get(tag, "absent") for tag in theirs if tag not in ignored} == {
                    tag: value for tag, value in theirs.items() if tag not in ignored
                }, told
            found_some += bool(matches)
        for scanner in scanners.values():
            scanner.release()
    assert found_some > len(questions) * 0.3
    assert application.shown
    application.close()
