"""What the web process reads from the database."""

from __future__ import annotations

from pathlib import Path

from integration.web.application import Application
from worklist_store import Feed, record

from pylantir.settings import AccessSettings, DicomSettings
from workers.child.accesses import AccessBuffer
from workers.web.readings import Readings


def test_open_differences_and_held_removals_are_counted_as_the_command_lists_them(tmp_path: Path) -> None:
    booked = [record(f"R{number}", f"P{number}", patient_birth_date="19800101") for number in range(8)]
    application = Application(tmp_path, booked, dicom=DicomSettings())
    Feed(application.writer, "csv").sync(record("C0", "P0", patient_birth_date="19991231"))
    readings = Readings(application.reader, tmp_path, AccessBuffer(AccessSettings()))
    assert readings.conflict_counts() == (1, {})
    assert "sources differ" in application.client.get("/", params={"date": "2030-07-01"}).text
    Feed(application.writer, "ris").sync(booked[0])
    count, held = readings.conflict_counts()
    assert held == {"ris": 7}
    assert count == len(readings.conflicts()) == 8
    page = application.client.get("/sources").text
    assert "removal held back" in page
    assert "kept apart" in page
    application.close()


def test_the_day_by_source_has_what_a_source_gives_together_with_another(tmp_path: Path) -> None:
    booked = [record(f"R{number}", f"P{number}", patient_birth_date="19800101") for number in range(2)]
    application = Application(tmp_path, booked, dicom=DicomSettings())
    Feed(application.writer, "csv").sync(record("C0", "P0", patient_birth_date="19800101"))
    found = {
        source: [item for item in ("/items/1", "/items/2") if item in text]
        for source in ("ris", "csv", "other")
        if (text := application.client.get("/", params={"date": "2030-07-01", "source": source}).text)
    }
    assert found == {"ris": ["/items/1", "/items/2"], "csv": ["/items/1"], "other": []}
    application.close()
