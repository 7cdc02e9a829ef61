"""Stories from hospitals, told through the real processes: JSON files as sources, a scanner that asks and reports.

A story says who books what, when the sources are read, what the scanner does; and looks at what the scanner sees.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from installation import COMMAND, Installation, wait_until
from scanner import beginning, change, connected, create, ending

FIELDS = (
    "source_record_id", "patient_id", "patient_name", "patient_birth_date", "patient_sex", "scheduled_start_date",
    "scheduled_start_time", "modality", "accession_number", "study_instance_uid", "scheduled_station_aetitle",
    "protocol_name", "issuer_of_patient_id",
)  # fmt: skip
DAY = "20300701"


def booking(record: str | None, patient: str, time: str | None = None, **fields: str) -> dict[str, str]:
    """What a booking system exports; everything is MR on `DAY` unless said otherwise."""
    said = {"source_record_id": record, "patient_id": patient, "scheduled_start_time": time}
    whole = {"scheduled_start_date": DAY, "modality": "MR", **said, **fields}
    return {name: value for name, value in whole.items() if value}


class Story:
    """An installation with JSON sources, in the order of priority.

    Args:
        installation: An empty one; the story starts it.
        findscu: DCMTK's program.
        sources: Their names.
        changes: Further keys of the configuration.
    """

    def __init__(self, installation: Installation, findscu: str, *sources: str, **changes: Any) -> None:
        self.installation = installation
        self._findscu = findscu
        self._reports = 0
        for name in sources:
            self.write(name, [])
        self.configure(*sources, **changes)
        installation.start()

    def configure(self, *sources: str, keys: Mapping[str, Mapping[str, Any]] | None = None, **changes: Any) -> None:
        """Write the configuration; `keys` are further keys of a source."""
        written = [
            {
                "name": name,
                "type": "json",
                "sync_interval": 3600,
                "config": {"file_path": f"{name}.json"},
                "field_mapping": {field: field for field in FIELDS},
                **(keys or {}).get(name, {}),
            }
            for name in sources
        ]
        self.installation.configure(*written, **changes)

    def write(self, source: str, bookings: Sequence[Mapping[str, str]]) -> None:
        """Replace a source's file."""
        path = self.installation.folder / f"{source}.json"
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(list(bookings)), encoding="utf-8")
        draft.replace(path)

    def sync(self, source: str, *bookings: Mapping[str, str]) -> None:
        """Replace a source's file and read it."""
        before = len(self._runs(source))
        self.write(source, bookings)
        self.installation.command("sync", source)
        wait_until(lambda: len(self._runs(source)) > before, f"{source} is read")

    def seen(self, *keywords: str) -> list[tuple[str, ...]]:
        """What a scanner sees of the worklist: of each answer the values of some keywords, the patient ID first."""
        wanted = ("PatientID", *keywords)
        keys = ["PatientID", "StudyInstanceUID"]
        for keyword in keywords:
            step = keyword.startswith(("Scheduled", "Modality"))
            keys.append(f"ScheduledProcedureStepSequence[0].{keyword}" if step else keyword)
        return sorted(
            tuple(one.get(name, "") for name in wanted) for one in self.installation.find(self._findscu, *keys)
        )

    def scan(self, patient: str, status: str = "COMPLETED") -> None:
        """Take a patient's exam from the worklist and report it, as far as a status."""
        ((_, study_uid),) = (one for one in self.seen("StudyInstanceUID") if one[0] == patient)
        self._reports += 1
        uid = f"2.25.{self._reports}"
        with connected(self.installation.port) as association:
            begun = beginning(study_uid, PatientID=patient, PerformedProcedureStepStartDate=DAY)
            assert create(association, uid, begun).Status == 0x0000
            if status != "IN PROGRESS":
                assert change(association, uid, ending(status)).Status == 0x0000

    def say(self, *command: str) -> Any:
        """Run a `pylantir` command with --json and give what it prints."""
        name, *rest = command
        installation = self.installation
        done = subprocess.run(
            [COMMAND.with_name("pylantir"), name, "--config", installation.config_path, *rest, "--json"],
            capture_output=True, text=True, env=installation.environment, cwd=installation.folder, timeout=60, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    def _runs(self, source: str) -> list[tuple[Any, ...]]:
        return self.installation.rows("select id from sync_runs where data_source = ?", source)
