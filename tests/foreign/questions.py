"""Entries of a worklist, and questions of every kind to it, made by chance."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from fuzz.seeds import element
from pydicom.datadict import tag_for_keyword

from foreign.servers import IN_STEP

FAMILIES = ("Doe", "Roe", "Dover", "O'Neill", "van Dyk")
GIVEN = ("Jane", "John", "Jo", "Anna", "")
PHYSICIANS = ("Who^Doctor", "House^Gregory", "Who^Else")
DAYS = tuple(f"202601{day:02}" for day in range(1, 8))
HOURS = ("080000", "083000", "120000", "120100", "180000", "235959")
STEP_KEYWORDS = frozenset(IN_STEP.values()) | {"CommentsOnTheScheduledProcedureStep"}
UNKNOWN = "PatientAge"
"""Optional, and none of the servers' entries has it."""


def make_entries(chance: random.Random) -> list[dict[str, str]]:
    """Make some fifty entries; some have no station, accession number or physician."""
    entries = []
    for number in range(1, 49):
        entry = {
            "patient_id": f"P{number % 30:03}",
            "patient_name": f"{FAMILIES[number % 30 % 5]}^{GIVEN[number % 30 % 7 % 5]}".rstrip("^"),
            "patient_birth_date": f"19{50 + number % 30}0101",
            "patient_sex": "FMO"[number % 30 % 3],
            "accession_number": f"A{number:04}" if number % 8 else "",
            "study_instance_uid": f"1.2.3.{number}",
            "requested_procedure_id": f"RP{number}",
            "scheduled_procedure_step_id": f"S{number}",
            "modality": chance.choice(("MR", "CT", "PT")),
            "scheduled_station_aetitle": chance.choice(("MR1", "MR2", "CT1")) if number % 7 else "",
            "scheduled_start_date": chance.choice(DAYS),
            "scheduled_start_time": chance.choice(HOURS),
            "performing_physician": chance.choice(PHYSICIANS) if number % 5 else "",
            "referring_physician_name": "Ref^Erring",
            "requesting_physician": "Re^Questing",
            "station_name": chance.choice(("ROOM 1", "ROOM 2")),
            "scheduled_step_location": "Cellar",
            "admission_id": f"V{number}",
            "procedure_description": "Head",
        }
        entries.append({name: value for name, value in entry.items() if value})
    return entries


@dataclass(frozen=True, slots=True)
class Question:
    """One query.

    Attributes:
        keys: Keyword -> value as it goes onto the wire; empty ones are return keys.
        step: `item`: the keys of the step are in one item; `empty`: a sequence without items; `none`: no sequence.
    """

    keys: dict[str, str] = field(default_factory=dict)
    step: str = "item"

    def encoded(self) -> bytes:
        """Give the identifier in implicit VR little endian, without anybody's checks."""
        top = {tag_for_keyword(name): value for name, value in self.keys.items() if name not in STEP_KEYWORDS}
        step = {tag_for_keyword(name): value for name, value in self.keys.items() if name in STEP_KEYWORDS}
        parts = {tag: _written(tag, value) for tag, value in top.items() if tag is not None}
        if self.step != "none":
            inner = b"".join(_written(tag, step[tag]) for tag in sorted(filter(None, step)))
            item = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
            parts[0x00400100] = element(0x0040, 0x0100, item if self.step == "item" else b"")
        return b"".join(parts[tag] for tag in sorted(parts))


def _written(tag: int, value: str) -> bytes:
    is_uid = tag == 0x0020000D
    padded = value.encode("ascii") + (b"\0" if is_uid else b" ") * (len(value) % 2)
    return element(tag >> 16, tag & 0xFFFF, padded)


def make_question(chance: random.Random) -> Question:
    """Ask with one to three keys, of every kind of matching."""
    makers = {
        "PatientID": lambda: chance.choice((f"P{chance.randrange(33):03}", "P00*", "P?1?", "*", "p001", "P001\\P002")),
        "PatientName": lambda: chance.choice(
            ("Doe*", "Do*", "*^Jo*", "Roe^J???", "Doe^Jane", "*e*", "doe*", "Doe", "Doe^", "Doe^Jane^^", "*")
        ),
        "PatientBirthDate": lambda: chance.choice(("19510101", "19500101-19600101", "1951*", "-19600101")),
        "PatientSex": lambda: chance.choice(("F", "M", "f", "F\\M", "?")),
        "AccessionNumber": lambda: chance.choice((f"A{chance.randrange(60):04}", "A00*", "a0001", "*")),
        "StudyInstanceUID": lambda: chance.choice(("1.2.3.7", "1.2.3.7\\1.2.3.9", "1.2.3.*", "1.2.9")),
        "RequestedProcedureID": lambda: chance.choice((f"RP{chance.randrange(50)}", "RP1*", "rp1")),
        "ReferringPhysicianName": lambda: chance.choice(("Ref*", "REF^ERRING", "Nobody")),
        "AdmissionID": lambda: chance.choice((f"V{chance.randrange(50)}", "V1*")),
        "Modality": lambda: chance.choice(("MR", "CT", "US", "M*", "mr", "MR\\CT", " MR")),
        "ScheduledStationAETitle": lambda: chance.choice(("MR1", "CT1", "XX", "MR?", "mr1", "MR1\\MR2", "*")),
        "ScheduledPerformingPhysicianName": lambda: chance.choice(
            ("Who*", "House^Gregory", "*^E*", "Nobody", "WHO^DOCTOR", "*")
        ),
        "ScheduledProcedureStepStartDate": lambda: one_or_range(chance, DAYS),
        "ScheduledProcedureStepStartTime": lambda: chance.choice(
            (one_or_range(chance, HOURS), "08", "0830", "12-1800", "0800-12", "120000.000", "1200-")
        ),
        "ScheduledStationName": lambda: chance.choice(("ROOM 1", "ROOM*", "room 2")),
        "ScheduledProcedureStepID": lambda: f"S{chance.randrange(50)}",
        UNKNOWN: lambda: "030Y",
    }
    asked = {name: makers[name]() for name in chance.sample(list(makers), chance.choice((1, 1, 2, 3)))}
    if chance.random() < 0.1:
        # Seldom by chance, and a question of its own.
        low, high = sorted(chance.sample(DAYS, 2))
        asked = {"ScheduledProcedureStepStartDate": chance.choice((f"{low}-{high}", f"{low}-", f"-{high}"))}
        asked["ScheduledProcedureStepStartTime"] = "-".join(sorted(chance.sample(HOURS, 2)))
    asked |= {name: "" for name in chance.sample(list(makers), 3) if name not in asked}
    in_step = STEP_KEYWORDS & asked.keys()
    if chance.random() < 0.08:
        return Question(
            {"StudyInstanceUID": "", **{name: asked[name] for name in asked if name not in in_step}},
            chance.choice(("empty", "none")),
        )
    return Question({"StudyInstanceUID": "", "Modality": "", **asked})


def one_or_range(chance: random.Random, values: tuple[str, ...]) -> str:
    """Choose a single value, or a range, which may be open."""
    low, high = sorted(chance.sample(values, 2))
    return chance.choice((low, f"{low}-{high}", f"{low}-", f"-{high}", "-", f"{low}\\{high}"))


ALWAYS_ASKED = tuple(
    Question({"StudyInstanceUID": "", "Modality": "", **keys})
    for keys in (
        {"Modality": " MR"},
        {"Modality": "mr"},
        {"StudyInstanceUID": "1.2.3.*"},
        {"PatientSex": "F\\M"},
        {"PatientName": "Doe^Jane^^"},
        {"ScheduledProcedureStepStartTime": "0800-12"},
        {"ScheduledProcedureStepStartDate": "20260102-20260105", "ScheduledProcedureStepStartTime": "083000-120000"},
        {"ScheduledProcedureStepStartDate": "20260102-", "ScheduledProcedureStepStartTime": "083000-120000"},
    )
)
"""One of each kind that chance may leave out."""
