"""Three sources that overlap and a fourth that fails: whatever comes first, the worklist is the same."""

from __future__ import annotations

from itertools import permutations

import pytest
from installation import Installation, csv_source, plugin_source, wait_until

FILES = {
    "ris": "id,date,time,name,accession,protocol\nP1,2030-01-01,08:00,Name^P1,A1,\nP2,2030-01-01,09:00,Name^P2,,BRAIN\n",
    "bookings": "id,date,time,name,accession,protocol\nP1,2030-01-01,08:10,,A1,KNEE\nP3,2030-01-02,10:00,Name^P3,,\n",
    "research": "id,date,time,name,accession,protocol\nP2,2030-01-01,09:05,Name^Other,,SPINE\nP9,2030-01-03,11:00,Name^P9,A1,\n",
}
MAPPING = {
    "id": "patient_id",
    "date": "scheduled_start_date",
    "time": "scheduled_start_time",
    "name": "patient_name",
    "accession": "accession_number",
    "protocol": "protocol_name",
}
WORKLIST = (
    "SELECT patient_id, scheduled_start_date, scheduled_start_time, patient_name, accession_number, protocol_name,"
    " data_source FROM worklist_items WHERE performed_procedure_step_status = 'SCHEDULED' ORDER BY patient_id"
)
EXPECTED = [
    ("P1", "20300101", "080000", "Name^P1", "A1", "KNEE", "ris"),
    ("P2", "20300101", "090000", "Name^P2", None, "BRAIN", "ris"),
    ("P3", "20300102", "100000", "Name^P3", None, None, "bookings"),
]


@pytest.mark.parametrize("order", list(permutations(FILES))[::2], ids="-".join)
def test_worklist_does_not_depend_on_who_comes_first(installation: Installation, order: tuple[str, ...]) -> None:
    watched = {"sync_interval": 60, "field_mapping": MAPPING}
    sources = [
        csv_source(name, f"{name}.csv", config={"file_path": f"{name}.csv", "watch_for_changes": True}, **watched)
        for name in FILES
    ]
    installation.write_plugin("broken", fetch="raise RuntimeError('as always')")
    installation.configure(*sources, plugin_source("broken"))
    installation.start(until="degraded")
    for name in order:
        installation.write(f"{name}.csv", FILES[name])
        wait_until(lambda name=name: _has_synced(installation, name), f"a cycle of {name}")
    assert installation.rows(WORKLIST) == EXPECTED
    # The accession number of another patient: set aside, whichever of the two came first.
    assert installation.rows("SELECT data_source, field FROM rejected_entries") == [("research", "accession_number")]
    wait_until(lambda: installation.process("broken")["last_error"], "the fourth says what is wrong")
    # What a source says once more changes nothing.
    for name in order:
        installation.command("sync", name)
        wait_until(lambda name=name: _has_synced(installation, name, times=2), f"another cycle of {name}")
    assert installation.rows(WORKLIST) == EXPECTED


def _has_synced(installation: Installation, name: str, times: int = 1) -> bool:
    return len(installation.runs(name)) >= times
