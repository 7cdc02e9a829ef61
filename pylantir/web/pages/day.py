"""The worklist of a day, by scanner: what the first page shows.

Pure but for what it asks of its ports: the query of a form in, the values for the template out.
"""

from __future__ import annotations

import datetime
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from pylantir.entry import CANCELED, STATUSES
from pylantir.query import WorklistQuery, pattern_test
from pylantir.web.ports import Item, Ports

ANY_SCANNER = "any scanner"
MOST_ITEMS = 2000
STATUS_WORDS: Mapping[str, str] = {
    "SCHEDULED": "scheduled",
    "IN_PROGRESS": "in progress",
    "COMPLETED": "completed",
    "DISCONTINUED": "discontinued",
    "CANCELED": "cancelled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What the form asks for; empty: everything.

    Attributes:
        date: The day.
        scanner: AE title; items that are planned for no scanner in particular are shown as well.
        patient: A patient ID, or a name with wildcards.
        status: One of `STATUSES`; empty: all but cancelled ones.
        source: One of the sources that give an item now.
        remarks: What of the form was not understood, and what is shown instead.
    """

    date: datetime.date
    scanner: str = ""
    modality: str = ""
    patient: str = ""
    status: str = ""
    source: str = ""
    remarks: tuple[str, ...] = ()

    @classmethod
    def from_form(cls, form: Mapping[str, str], today: datetime.date) -> Filter:
        """Read the form; a nonsensical date becomes today, a nonsensical status no condition, each with a remark."""
        given = {name: form.get(name, "").strip() for name in ("scanner", "modality", "patient", "source")}
        day, status = form.get("date", "").strip(), form.get("status", "").strip().upper()
        remarks = []
        date = today
        try:
            date = datetime.date.fromisoformat(day) if day else today
        except ValueError:
            remarks.append(f'"{day}" is no day, which is written as {today}: this is the list of today.')
        if status and status not in STATUSES:
            remarks.append(f'"{status}" is no status: this list has all statuses but cancelled.')
            status = ""
        return cls(date=date, status=status, remarks=tuple(remarks), **given)

    @property
    def is_narrow(self) -> bool:
        """Whether anything but the day is asked for."""
        return any((self.scanner, self.modality, self.patient, self.status, self.source))

    def query(self) -> WorklistQuery:
        """What the database can select by."""
        day = self.date.strftime("%Y%m%d")
        statuses = (self.status,) if self.status else tuple(one for one in STATUSES if one != CANCELED)
        equal = {"performed_procedure_step_status": statuses}
        if self.modality:
            equal["modality"] = (self.modality.upper(),)
        station = {"scheduled_station_aetitle": (self.scanner,)} if self.scanner else {}
        return WorklistQuery(equal=equal, equal_or_unknown=station, ranges={"scheduled_start_date": (day, day)})

    def select(self, items: Iterable[Item], ports: Ports) -> list[Item]:
        """Choose the items of the day that meet the rest."""
        found = [item for item in items if not self.patient or is_patient(item, self.patient)]
        if not self.source:
            return found
        givers = ports.find_givers([int(str(item["id"])) for item in found])
        return [item for item in found if self.source in {item.get("data_source"), *givers.get(item["id"], ())}]


def is_patient(item: Item, wanted: str) -> bool:
    """Whether an item is this patient's, by ID or by name; a name without wildcards is the beginning of one."""
    number = str(item.get("patient_id"))
    has_wildcard = bool({"*", "?"} & set(wanted))
    if number == wanted or (has_wildcard and pattern_test("patient_id", wanted)(number)):
        return True
    pattern = wanted if has_wildcard else f"{wanted}*"
    spoken = pattern.replace(", ", "^").replace(",", "^").replace(" ", "^")
    return pattern_test("patient_name", spoken)(str(item.get("patient_name") or ""))


def lay_out_day(chosen: Filter, ports: Ports, today: datetime.date) -> dict[str, Any]:
    """Give the template's values: sections by scanner, each with its rows by time.

    Raises:
        StoreError: The worklist cannot be read just now.
    """
    found = chosen.select(ports.find_items(chosen.query()), ports)
    disputed = {item for row in ports.find_conflicts() for item in row["items"]} if found else set()
    sections: dict[str, list[dict[str, Any]]] = {}
    for item in found[:MOST_ITEMS]:
        row = show_item(item, is_disputed=item["id"] in disputed)
        sections.setdefault(str(item.get("scheduled_station_aetitle") or ANY_SCANNER), []).append(row)
    rows = [row for section in sections.values() for row in section]
    day = datetime.timedelta(days=1)
    counted = Counter(row["status"] for row in rows)
    return {
        "chosen": chosen,
        "sections": sorted(sections.items(), key=lambda section: (section[0] == ANY_SCANNER, section[0])),
        "scanners": set(sections) - {ANY_SCANNER},
        "items": [row["id"] for row in rows],
        "count": len(found),
        "counted": [(counted[word], word) for word in STATUS_WORDS.values() if counted[word]],
        "left_out": max(0, len(found) - MOST_ITEMS),
        "is_today": chosen.date == today,
        "before": (chosen.date - day).isoformat() if chosen.date > datetime.date.min else "",
        "after": (chosen.date + day).isoformat() if chosen.date < datetime.date.max else "",
        "next_day": None if found else _next_day(chosen, ports),
        "statuses": STATUS_WORDS,
    }


def _next_day(chosen: Filter, ports: Ports) -> datetime.date | None:
    """Return the first later day on which anything stands, whatever the filter says."""
    later = WorklistQuery(
        equal={"performed_procedure_step_status": tuple(one for one in STATUSES if one != CANCELED)},
        ranges={"scheduled_start_date": (chosen.date.strftime("%Y%m%d"), None)},
    )
    own = chosen.date.strftime("%Y%m%d")
    with closing(ports.find_values(later, ["scheduled_start_date"])) as batches:
        days = (str(row[0]) for rows in batches for row in rows)
        day = next((day for day in days if day != own), None)
    return datetime.date.fromisoformat(show_date(day)) if day else None


def show_item(item: Item, *, is_disputed: bool = False) -> dict[str, Any]:
    """Write an item's values as people read them."""
    status = str(item.get("performed_procedure_step_status") or "")
    shown = {
        "id": item["id"],
        "time": show_time(item.get("scheduled_start_time")),
        "date": show_date(item.get("scheduled_start_date")),
        "patient_id": item.get("patient_id") or "",
        "name": show_name(item.get("patient_name")),
        "born": show_date(item.get("patient_birth_date")),
        "sex": item.get("patient_sex") or "",
        "modality": item.get("modality") or "",
        "what": item.get("procedure_description") or item.get("protocol_name") or item.get("study_description") or "",
        "status": STATUS_WORDS.get(status, status.lower()),
        "status_class": status.lower().replace("_", "-"),
        "station": item.get("scheduled_station_aetitle") or "",
        "is_disputed": is_disputed,
    }
    return {**shown, "version": version_of(shown.values())}


def version_of(values: Iterable[object]) -> str:
    """Return a short text that changes when a value does, and does not say what the values are."""
    return f"{zlib.crc32('|'.join(map(str, values)).encode('utf-8', 'replace')):08x}"


def show_date(value: object) -> str:
    """Write YYYYMMDD as YYYY-MM-DD."""
    text = str(value or "")
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text


def show_time(value: object) -> str:
    """Write HHMMSS as HH:MM; midnight stands for a time that nobody gave."""
    text = str(value or "")
    if text in {"", "000000"}:
        return "-"
    return f"{text[:2]}:{text[2:4]}" if len(text) == 6 and text.isdigit() else text


def show_name(value: object) -> str:
    """Write a person name as people do: family name, then the others; every script that it has."""
    groups = str(value or "").split("=")
    return " = ".join(", ".join(filter(None, _spoken(group))) for group in groups if group)


def _spoken(group: str) -> Iterator[str]:
    family, *others = group.split("^")
    given, middle, prefix, suffix = [*others, "", "", "", ""][:4]
    yield family
    yield " ".join(filter(None, (prefix, given, middle, suffix)))
