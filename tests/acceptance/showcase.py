"""A day as a site has it: two scanners, two sources, and what goes wrong. For the browser tests and the pictures."""

from __future__ import annotations

from typing import Any

from installation import Installation, csv_source
from waiting import steady_today

MAPPING = {
    "order": "accession_number", "id": "patient_id", "name": "patient_name", "born": "patient_birth_date",
    "sex": "patient_sex", "date": "scheduled_start_date", "time": "scheduled_start_time",
    "exam": "procedure_description", "station": "scheduled_station_aetitle",
}  # fmt: skip
LONG_ID = "REGION-NORTH-2031-" + "0123456789" * 4 + "-EXT"
CLINIC = [
    "A1,P-100,Lovelace^Ada,1985-12-10,F,{day},08:00,Head without contrast,MR1",
    "A2,P-200,Curie^Marie,1967-11-07,F,{day},08:45,Knee left,MR1",
    "A3,P-300,Παπαδοπούλου^Ελένη,1972-07-02,F,{day},09:30,Abdomen,MR1",
    "A4,P-400,Yamada^Tarou=山田^太郎=やまだ^たろう,1964-11-30,M,{day},10:15,Spine lumbar,MR2",
    f"A5,{LONG_ID},Müller^Jürgen,1958-03-21,M,{{day}},11:00,Prostate,MR2",
    "A6,,Missing^Number,1980-01-01,F,{day},13:00,Shoulder,MR1",
]
RESEARCH = [
    ",P-200,Curie^Marie,1967-11-07,F,{day},08:45,Knee right,MR1",
    "R2,P-210,Franklin^Rosalind,1990-07-25,F,{day},14:00,Brain study,MR2",
    "R3,P-300,Doe^John,1999-01-31,M,{day},15:00,Abdomen,MR1",
]
SHOWN = ["P-100", "P-200", "P-210", "P-300", "P-400", LONG_ID]


def write(installation: Installation, name: str, rows: list[str]) -> None:
    """Write a source's file for today."""
    today = steady_today().isoformat()
    lines = [",".join(MAPPING), *(row.format(day=today) for row in rows)]
    installation.write(name, "\n".join(lines) + "\n")


def start(installation: Installation, **http: Any) -> None:
    """Start with both sources and two configured scanners."""
    write(installation, "clinic.csv", CLINIC)
    write(installation, "research.csv", RESEARCH)
    sources = [csv_source(name, f"{name}.csv", field_mapping=MAPPING) for name in ("clinic", "research")]
    modalities = [{"ae_title": "MR1"}, {"ae_title": "CT1", "modality": "CT"}]
    installation.configure(*sources, http=http, modalities=modalities)
    installation.start()
