"""Many stories from hospitals, told in one running installation: JSON files as sources, a scanner that asks and reports.

A story is a list of steps: what the sources give from then on, what the scanner does, and what it must see then. All
stories go on step by step together. Each has patients, records and numbers of its own, so that none disturbs another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dcmtk import find_worklist
from installation import Installation, wait_until
from pydicom.uid import generate_uid
from scanner import beginning, change, connected, create, ending

from pylantir.ipc.control import ask_supervisor

DAY = "20300701"
SOURCES = ("ris", "redcap", "csv")
FIELDS = {
    "record": "source_record_id", "patient": "patient_id", "name": "patient_name", "born": "patient_birth_date",
    "sex": "patient_sex", "date": "scheduled_start_date", "time": "scheduled_start_time", "modality": "modality",
    "accession": "accession_number", "uid": "study_instance_uid", "station": "scheduled_station_aetitle",
    "protocol": "protocol_name", "issuer": "issuer_of_patient_id",
}  # fmt: skip
KEYWORDS = {
    "name": "PatientName", "born": "PatientBirthDate", "sex": "PatientSex", "date": "ScheduledProcedureStepStartDate",
    "time": "ScheduledProcedureStepStartTime", "modality": "Modality", "accession": "AccessionNumber",
    "uid": "StudyInstanceUID", "protocol": "ScheduledProcedureStepDescription", "issuer": "IssuerOfPatientID",
}  # fmt: skip
IN_STEP = ("Scheduled", "Modality")
_STEP = "ScheduledProcedureStepSequence[0]"
Booking = Mapping[str, str]


def booking(record: str | None, patient: str, **fields: str) -> dict[str, str]:
    """What a booking system exports; everything is MR on `DAY` unless said otherwise."""
    said = {"date": DAY, "modality": "MR", "patient": patient, "record": record or "", **fields}
    return {name: value for name, value in said.items() if value}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a story.

    Attributes:
        gives: Source -> its bookings from now on; other sources go on as before.
        scans: Patients whose exam the scanner takes from the list, and how it ends.
        ended: The day on which these exams ended, by the scanner.
        reports: Patients whose exam the scanner reports without naming a study.
        sees: What stands on the scanner's list then: of each entry the patient ID and the fields that matter.
        calling: The scanner that asks.
        told: The kinds of this story's `pylantir conflicts`; None: whatever they are.
        refused: The patients of this story's `pylantir rejects`.
    """

    gives: Mapping[str, Sequence[Booking]] = field(default_factory=dict)
    scans: Mapping[str, str] = field(default_factory=dict)
    ended: str = DAY
    reports: Sequence[str] = ()
    sees: Sequence[Booking] | None = None
    calling: str = "MR1"
    told: Sequence[str] | None = None
    refused: Sequence[str] = ()


class Hospital:
    """A running installation in which stories are told.

    Args:
        installation: An empty one; it is started here.
        findscu: DCMTK's program.
        changes: Further keys of the configuration.

    Attributes:
        places: Each story's number, with which its identifiers end.
    """

    def __init__(self, installation: Installation, findscu: str, **changes: Any) -> None:
        self.installation = installation
        self.places: dict[str, int] = {}
        self._findscu = findscu
        self._given: dict[str, dict[int, Sequence[Booking]]] = {name: {} for name in SOURCES}
        # A booking more or less is an ordinary day only where there are many.
        fillers = [booking(f"f{n}", f"Filler{n}") for n in range(60)]
        for name in SOURCES:
            self._given[name][0] = (
                fillers if name == "ris" else [{**one, "record": f"{name}{one['record']}"} for one in fillers]
            )
            self._write(name)
        mapping = {name: name for name in FIELDS.values()}
        installation.configure(
            *(
                {
                    "name": name, "type": "json", "sync_interval": 3600, "config": {"file_path": f"{name}.json"},
                    "field_mapping": mapping,
                }
                for name in SOURCES
            ),
            **changes,
        )  # fmt: skip
        installation.start()

    def tell(self, stories: Mapping[str, Sequence[Step]]) -> list[str]:
        """Tell all stories together; return what went otherwise than told."""
        wrong: list[str] = []
        places = {title: self.places.setdefault(title, len(self.places) + 1) for title in stories}
        for number in range(max(map(len, stories.values()))):
            now = {title: steps[number] for title, steps in stories.items() if number < len(steps)}
            changed = set()
            for title, step in now.items():
                for source, bookings in step.gives.items():
                    self._given[source][places[title]] = [_own(places[title], one) for one in bookings]
                    changed.add(source)
            for source in SOURCES:
                if source in changed:
                    self.sync(source)
            self._scan([(places[title], step) for title, step in now.items()])
            wrong += self._compare(number + 1, [(title, places[title], step) for title, step in now.items()])
        return wrong

    def sync(self, source: str) -> None:
        """Replace a source's file and have it read."""
        runs = "select count(*) from sync_runs where data_source = ?"
        ((before,),) = self.installation.rows(runs, source)
        self._write(source)
        ask_supervisor(self.installation.runtime_dir, {"command": "sync", "name": source}, 60)
        wait_until(lambda: self.installation.rows(runs, source)[0][0] > before, f"{source} is read")
        error = "select error from sync_runs where data_source = ? order by id desc limit 1"
        assert self.installation.rows(error, source) == [(None,)]
        assert self.installation.process(source).get("last_error") is None

    def seen(self, calling: str = "MR1") -> list[dict[str, str]]:
        """What a scanner sees of the worklist."""
        keys = ["PatientID", *(f"{_STEP}.{one}" if one.startswith(IN_STEP) else one for one in KEYWORDS.values())]
        found = find_worklist(
            self._findscu, self.installation.port, self.installation.folder, *keys, calling=calling
        )  # fmt: skip
        return [
            {"patient": one["PatientID"], **{name: one.get(keyword, "") for name, keyword in KEYWORDS.items()}}
            for one in found
        ]

    def _write(self, source: str) -> None:
        bookings = [
            {FIELDS[name]: value for name, value in one.items()} for own in self._given[source].values() for one in own
        ]
        self.installation.write(f"{source}.json", json.dumps(bookings))

    def _scan(self, steps: Sequence[tuple[int, Step]]) -> None:
        """Take exams from the list and report them, over one association."""
        if not any(step.scans or step.reports for _, step in steps):
            return
        uids = {one["patient"]: one["uid"] for one in self.seen()}
        with connected(self.installation.port) as association:
            for place, step in steps:
                for patient, status in [*step.scans.items(), *((one, "COMPLETED") for one in step.reports)]:
                    mine, performed = f"{patient}-{place}", generate_uid()
                    study = "" if patient in step.reports else uids[mine]
                    begun = beginning(study, PatientID=mine, PerformedProcedureStepStartDate=DAY)
                    assert create(association, performed, begun).Status == 0x0000
                    if status != "IN PROGRESS":
                        assert change(association, performed, ending(status, step.ended)).Status == 0x0000

    def _compare(self, number: int, steps: Sequence[tuple[str, int, Step]]) -> list[str]:
        lists = {calling: self.seen(calling) for calling in {step.calling for *_, step in steps}}
        rejects = self.installation.rows("select patient_id from rejected_entries")
        conflicts = self.installation.rows("select patient_id, kind from conflicts order by id")
        wrong = []
        for title, place, step in steps:
            about = re.compile(rf".*-{place}")
            listed = [one for one in lists[step.calling] if about.fullmatch(one["patient"])]
            if step.sees is not None:
                wanted = [_own(place, one) for one in step.sees]
                if len(wanted) != len(listed) or not all(
                    any(want.items() <= one.items() for one in listed) for want in wanted
                ):
                    wrong.append(f"{title}, step {number}: {listed}")
            refused = sorted(patient for (patient,) in rejects if about.fullmatch(str(patient)))
            if refused != sorted(f"{patient}-{place}" for patient in step.refused):
                wrong.append(f"{title}, step {number}: refused: {refused}")
            told = [kind for patient, kind in conflicts if about.fullmatch(patient)]
            if step.told is not None and told != list(step.told):
                wrong.append(f"{title}, step {number}: told: {told}")
        return wrong


def _own(place: int, one: Booking) -> dict[str, str]:
    """Make a story's identifiers its own."""
    changed = {name: f"{one[name]}-{place}" for name in ("record", "patient", "accession") if name in one}
    if "uid" in one:
        changed["uid"] = f"{one['uid']}.{place}"
    return {**one, **changed}
