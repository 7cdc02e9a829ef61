"""Weighs the evidence that two descriptions are the same scheduled procedure step, and what contradicts it. Pure.

A description holds the values of a source's record, or of an item that a scanner has reported on: worklist field ->
value. A missing field, a year instead of a birth date, or a name that repeats the patient ID is no evidence.
Glossary: evidence (docs/explanation/glossary.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from pylantir.entry import COMPLETED
from pylantir.store.decide.claims import KEPT_DAYS, STATUS, STUDY_UID, Rules
from pylantir.store.decide.names import is_name, names_are_compatible, names_exclude_each_other

Description = Mapping[str, str | int | None]

ISSUER = "issuer_of_patient_id"
BIRTH_DATE = "patient_birth_date"
SEX = "patient_sex"
NAME = "patient_name"
ACCESSION = "accession_number"
STATION = "scheduled_station_aetitle"
STEP_ID = "scheduled_procedure_step_id"
TIME = "scheduled_start_time"
MODALITY = "modality"
PROCEDURES = ("procedure_description", "protocol_name")
IDENTITY = (NAME, BIRTH_DATE, SEX)

BY_ACCESSION = (2, 3)
"""The rules by which an accession number says that the two descriptions are one step."""
WEAK = 4
"""The weakest rule: only `match_on` says that the two descriptions are one step."""


@dataclass(frozen=True, slots=True, order=True)
class Sign:
    """The evidence that two descriptions are one step; signs sort from the strongest to the weakest.

    Attributes:
        rung: The rule: 0 and 1 a study UID (0 with the step ID), 2 and 3 an accession number, 4 `match_on`.
        other_procedure: The procedures differ.
        vague: One side lacks the time or the modality: the sign counts only if there is no other candidate.
        minutes: Difference of the start times.
        procedure_unsaid: One side lacks the procedure, or the procedures differ.
        other_station: The stations differ.
        station_unsaid: One side lacks the station, or the stations differ.
    """

    rung: int
    other_procedure: bool = False
    vague: bool = False
    minutes: float = 0.0
    procedure_unsaid: bool = True
    other_station: bool = False
    station_unsaid: bool = True


def find_sign(a: Description, b: Description, rules: Rules, max_minutes: float | None) -> Sign | None:
    """Find the strongest evidence that two descriptions are the same step; `find_objections` finds contradictions.

    Args:
        a: One description.
        b: The other one.
        rules: The matching rule.
        max_minutes: Longest difference of the start times under `match_on`; None for any.
    """
    same_step = _agree(a, b, STEP_ID)
    if _agree(a, b, STUDY_UID):
        return Sign(0 if same_step else 1, minutes=_minutes_apart(a, b) or 0.0)
    if _agree(a, b, ACCESSION):
        return Sign(2 if same_step else 3, minutes=_minutes_apart(a, b) or 0.0)
    for name in rules.match_on:
        if name == MODALITY and not (a.get(name) and b.get(name)):
            continue
        if not _agree(a, b, name):
            return None
    minutes = _minutes_apart(a, b) or 0.0
    if max_minutes is not None and minutes > max_minutes:
        return None
    procedures, vague = _compare_procedures(a, b), not {TIME, MODALITY}.isdisjoint(unsaid_fields(a, b))
    return Sign(
        WEAK, procedures is False, vague, minutes, procedures is not True,
        _differ(a, b, STATION), not _agree(a, b, STATION),
    )  # fmt: skip


def find_objections(a: Description, b: Description, *, weak: bool) -> tuple[str, ...]:
    """Name the fields that rule out that two descriptions are one step.

    Args:
        a: One description.
        b: The other one.
        weak: No number agrees, so more fields can contradict.
    """
    found = [name for name in (ISSUER, STEP_ID) if _differ(a, b, name)]
    found += objections_to_one_person(a, b, weak=weak)
    if not _agree(a, b, STUDY_UID):
        found += [name for name in (STUDY_UID, ACCESSION) if _differ(a, b, name)]
    if weak and _differ(a, b, STATION) and _compare_procedures(a, b) is False:
        found += [STATION, *(name for name in PROCEDURES if _differ(a, b, name))]
    return tuple(found)


def objections_to_one_person(a: Description, b: Description, *, weak: bool) -> list[str]:
    """Return which of birth date, name and sex rule out one person.

    Args:
        a: One description.
        b: The other one.
        weak: No number agrees, so name or sex alone rules it out.
    """
    found = [BIRTH_DATE] if birth_dates_differ(a, b) else []
    people = person_objections(a, b)
    # A number may be mistyped and a name may change, but name and sex do not change together.
    return found + people if weak or len(people) > 1 else found


def person_objections(a: Description, b: Description) -> list[str]:
    """Return which of name and sex show that these are two people."""
    found = []
    if {a.get(SEX), b.get(SEX)} == {"M", "F"}:
        found.append(SEX)
    names = given_name(a), given_name(b)
    if names[0] and names[1] and names_exclude_each_other(names[0], names[1]):
        found.append(NAME)
    return found


def is_somebody_else(item: Description, reported: Description) -> bool:
    """Whether a scanner reports on another person than an item's, though the patient IDs agree.

    A name alone rules nobody out where the birth dates are equal: a scanner may garble a name that it cannot write.
    """
    objections = objections_to_one_person(item, reported, weak=True)
    return bool(objections) and (objections != [NAME] or not _agree(item, reported, BIRTH_DATE))


def identity_objections(a: Description, b: Description) -> list[str]:
    """Return which of name, birth date and sex differ too much for one record to complete the other's identity."""
    found = [BIRTH_DATE] if birth_dates_differ(a, b) else []
    if _differ(a, b, SEX):
        found.append(SEX)
    names = given_name(a), given_name(b)
    if names[0] and names[1] and not names_are_compatible(names[0], names[1]):
        found.append(NAME)
    return found


def unsaid_fields(a: Description, b: Description) -> list[str]:
    """Return which of start time, modality and issuer only one of two descriptions gives."""
    time_unsaid = (start_minutes(a) is None) != (start_minutes(b) is None)
    return [TIME] * time_unsaid + [name for name in (MODALITY, ISSUER) if bool(a.get(name)) != bool(b.get(name))]


def are_two_patients(a: Description, b: Description) -> bool:
    """Whether two descriptions are of two patients: the patient IDs differ, or both give an issuer and these differ."""
    return a.get("patient_id") != b.get("patient_id") or _differ(a, b, ISSUER)


def is_another_patient(before: Description, now: Description) -> bool:
    """Whether a record that has changed is about another patient now: another patient ID or issuer, no correction.

    If only one of the two names an issuer, birth date, name and sex decide.
    """
    if are_two_patients(before, now):
        return not is_correction(before, now)
    one_issuer = bool(before.get(ISSUER)) != bool(now.get(ISSUER))
    return one_issuer and bool(objections_to_one_person(before, now, weak=True))


def is_correction(before: Description, now: Description) -> bool:
    """Whether a record with a changed patient ID or issuer is about the same person: name and birth date agree."""
    names = given_name(before), given_name(now)
    return (
        bool(names[0] and names[1])
        and names_are_compatible(str(names[0]), str(names[1]))
        and names_are_compatible(str(names[1]), str(names[0]))
        and bool(before.get(BIRTH_DATE))
        and before.get(BIRTH_DATE) == now.get(BIRTH_DATE)
        and not _differ(before, now, SEX)
    )


def is_long_over(exam: Description, day: str) -> bool:
    """Whether a booking for a day that has an exam's accession number is another one, because the number is free again.

    Args:
        exam: An item.
        day: YYYYMMDD.
    """
    if exam.get(STATUS) != COMPLETED:
        return False
    # A scanner's clock may be wrong: the exam is not earlier than the day for which it was booked.
    done_on = max(str(exam.get("exam_ended_on") or ""), str(exam["scheduled_start_date"]))
    return date.fromisoformat(day) > date.fromisoformat(done_on) + timedelta(days=KEPT_DAYS)


def given_name(values: Description) -> str | None:
    """Return the name unless it only repeats the patient ID."""
    name = values.get(NAME)
    return str(name) if is_name(str(name or ""), str(values.get("patient_id") or "")) else None


def birth_dates_differ(a: Description, b: Description) -> bool:
    """Whether two birth dates contradict each other; January 1st may stand for a year only."""
    first, second = str(a.get(BIRTH_DATE) or ""), str(b.get(BIRTH_DATE) or "")
    return bool(first and second) and fuller_birth_date(first, second) is None


def fuller_birth_date(first: str, second: str) -> str | None:
    """Return the more exact of two birth dates that agree; None if they differ."""
    if first == second or (first[:4] == second[:4] and is_year(second)):
        return first
    return second if first[:4] == second[:4] and is_year(first) else None


def is_year(birth_date: str) -> bool:
    """Whether a birth date may be only a year, which is stored as January 1st."""
    return birth_date.endswith("0101")


def start_minutes(values: Description) -> float | None:
    """Return the start time in minutes; midnight means that no source gave a time."""
    time = str(values.get("scheduled_start_time") or "")
    if not time.strip("0"):
        return None
    return int(time[:2]) * 60 + int(time[2:4]) + int(time[4:6]) / 60


def _minutes_apart(a: Description, b: Description) -> float | None:
    first, second = start_minutes(a), start_minutes(b)
    return None if first is None or second is None else abs(first - second)


def have_other_procedures(a: Description, b: Description) -> bool:
    """Whether both give a procedure and these differ."""
    return _compare_procedures(a, b) is False


def _compare_procedures(a: Description, b: Description) -> bool | None:
    """Whether the procedures agree; None if they cannot be compared."""
    ours, theirs = ({_words(values.get(name)) for name in PROCEDURES} - {()} for values in (a, b))
    if ours & theirs:
        return True
    comparable = any(_words(a.get(name)) and _words(b.get(name)) for name in PROCEDURES)
    return False if comparable else None


def _words(value: str | int | None) -> tuple[str, ...]:
    return tuple(sorted("".join(letter if letter.isalnum() else " " for letter in str(value or "").casefold()).split()))


def _agree(a: Description, b: Description, name: str) -> bool:
    return bool(a.get(name)) and a.get(name) == b.get(name)


def _differ(a: Description, b: Description, name: str) -> bool:
    return bool(a.get(name) and b.get(name)) and a.get(name) != b.get(name)
