"""Which kind of difference is it when another server answers one question otherwise? Pure: answers come in, names go out.

The rules are written from what the kinds say, without Pylantir's own matching.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from foreign.questions import UNKNOWN, Question
from foreign.servers import KEYWORDS
from pylantir.dicom.peers import DCMTK, DIFFERENCES, ORTHANC

NAMES = {"PatientName", "ScheduledPerformingPhysicianName", "ReferringPhysicianName"}
TEXTS = {"PatientID", "AccessionNumber", "RequestedProcedureID", "AdmissionID", "ScheduledStationName", "PatientSex"}
TEXTS |= {"Modality", "ScheduledStationAETitle", "ScheduledProcedureStepID"}
DATE, TIME = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"
STATION = "ScheduledStationAETitle"
NOT_MATCHED_BY_DCMTK = {"StudyInstanceUID", "ScheduledProcedureStepID", "ScheduledStationName", UNKNOWN}
CHECKED_BY_DCMTK = {"PatientSex", "Modality", DATE, TIME, "PatientBirthDate"}
FIELDS = {keyword: field for field, keyword in KEYWORDS.items()}
STEP = "ScheduledProcedureStepSequence"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to one question.

    Attributes:
        items: Study UID -> flat keyword -> value of its response; a sequence as the number of its items.
        statuses: Of the responses, the final one last.
    """

    items: Mapping[str, Mapping[str, str]]
    statuses: tuple[int, ...]


def explain(
    question: Question, server: str, ours: Answer, theirs: Answer, entries: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, str | None]]:
    """Yield each difference between two answers: what differs, and the name of its kind; None if there is none."""
    keys = {keyword: value for keyword, value in question.keys.items() if value.strip("*")}
    refused = next(iter(_refusals(keys, server)), None)
    if ours.statuses[-1] != theirs.statuses[-1]:
        yield f"status {ours.statuses[-1]:04X}, {theirs.statuses[-1]:04X}", refused
    if theirs.statuses[-1] or ours.statuses[-1]:
        return
    for uid in ours.items.keys() ^ theirs.items.keys():
        kinds = list(_of_item(keys, server, entries[uid], found_here=uid in ours.items))
        yield f"item {uid}, {'here' if uid in ours.items else 'there'} only", kinds[0] if kinds else None
    for uid in ours.items.keys() & theirs.items.keys():
        for name in ours.items[uid].keys() | theirs.items[uid].keys():
            here, there = ours.items[uid].get(name), theirs.items[uid].get(name)
            if here != there:
                yield f"{name} {here!r}, {there!r}", _of_value(question, server, name, here, there)
    if ours.items and theirs.items and set(ours.statuses[:-1]) != set(theirs.statuses[:-1]):
        # Both say FF01 where they ignore a key.
        ignored = NOT_MATCHED_BY_DCMTK & question.keys.keys() if server == DCMTK else set()
        is_ours = UNKNOWN in keys and set(ours.statuses[:-1]) == {0xFF01}
        kind = "optional keys that are matched here" if ignored else None
        yield "FF00 and FF01", "optional keys that are not matched here" if is_ours else kind


def _refusals(keys: Mapping[str, str], server: str) -> Iterator[str]:
    """Yield why one of the two may refuse the question."""
    for keyword, value in keys.items():
        if server == DCMTK and keyword in CHECKED_BY_DCMTK and "\\" in value:
            yield "several values of one key"
        if server == DCMTK and keyword in ("PatientSex", "Modality") and value != value.upper():
            yield "values that break their VR"
        if server == ORTHANC and keyword in ("StudyInstanceUID", "PatientBirthDate") and "*" in value:
            yield "wildcards in a UID or a date"


def _of_item(keys: Mapping[str, str], server: str, entry: Mapping[str, str], *, found_here: bool) -> Iterator[str]:
    """Yield why an entry may be found by one of the two only."""
    for keyword, value in keys.items():
        has = entry.get(FIELDS.get(keyword, ""), "")
        is_wild = bool({"*", "?"} & set(value))
        if server == DCMTK and keyword in NOT_MATCHED_BY_DCMTK and not found_here:
            yield "optional keys that are matched here"
        if server == ORTHANC and keyword == UNKNOWN and found_here:
            yield "optional keys that are not matched here"
        if keyword == STATION and not has and "MR1" in value.replace("?", "1").split("\\") and found_here:
            yield "no station"
        if keyword in NAMES and found_here and value.endswith("^") and has.startswith(value.rstrip("^")):
            yield "empty components at the end of a name"
        if server == DCMTK and keyword in NAMES and found_here and _differs_by_case_only(value, has):
            yield "letter case of a name"
        if server == DCMTK and keyword in TEXTS and is_wild and found_here:
            yield "wildcards in other attributes than names"
        if server == DCMTK and "\\" in value and has in value.split("\\") and found_here:
            yield "several values of one key"
        if server == ORTHANC and value.startswith(" ") and has == value.strip() and found_here:
            yield "spaces before a value"
    yield from _of_moment(keys, server, entry)


def _differs_by_case_only(pattern: str, name: str) -> bool:
    return fnmatchcase(name.upper(), pattern.upper()) and not fnmatchcase(name, pattern)


def _of_moment(keys: Mapping[str, str], server: str, entry: Mapping[str, str]) -> Iterator[str]:
    dates, times, has = keys.get(DATE, ""), keys.get(TIME, ""), entry["scheduled_start_time"]
    if all("-" in moments and moments != "-" for moments in (dates, times)):
        have_one_form = _form(dates) == _form(times)
        if have_one_form and server == ORTHANC and _is_in_period(dates, times, entry) != _is_daily(dates, times, entry):
            yield "a range of dates with a range of times"
        if not have_one_form:
            yield "ranges of dates and times of different forms"
    low, dash, high = times.partition("-")
    if server == DCMTK and dash and len(high) in (2, 4) and has.startswith(high):
        yield "times of less precision"
    if server == ORTHANC and times and any(len(end) not in (0, 6) for end in (low, high)):
        yield "times of less precision"


def _form(moments: str) -> tuple[bool, bool]:
    low, _, high = moments.partition("-")
    return bool(low), bool(high)


def _is_in_period(dates: str, times: str, entry: Mapping[str, str]) -> bool:
    (first, _, last), (low, _, high) = dates.partition("-"), times.partition("-")
    moment = entry["scheduled_start_date"] + entry["scheduled_start_time"]
    return (not first or first + low <= moment) and (not last or moment <= f"{last}{high:9<6}")


def _is_daily(dates: str, times: str, entry: Mapping[str, str]) -> bool:
    (first, _, last), (low, _, high) = dates.partition("-"), times.partition("-")
    date, time = entry["scheduled_start_date"], entry["scheduled_start_time"]
    return (first <= date <= (last or "9")) and (low <= time <= (f"{high:9<6}" if high else "9"))


def _of_value(question: Question, server: str, name: str, here: str | None, there: str | None) -> str | None:
    if name == "SpecificCharacterSet" and here is None and server == ORTHANC:
        return "the character set of an answer in ASCII"
    if name == f"{STEP}.{STATION}" and (here, there) == ("MR1", ""):
        return "no station"
    if name == UNKNOWN and (here, there) == ("", None):
        return "return keys without a value"
    if question.step == "empty" and name.startswith(f"{STEP}.") and not there:
        return "an empty sequence"
    return None


KINDS = frozenset((kind.name, server) for kind in DIFFERENCES for server in kind.there)
