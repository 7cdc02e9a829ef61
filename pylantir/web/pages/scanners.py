"""The scanners: who asked what, who was refused, and why a patient does or does not appear on one.

The rules are those that the server follows, and that `pylantir explain` tells. Pure but for what it asks of its ports.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from pylantir.dicom.find.explanation import Reason, explain_item, explain_place
from pylantir.dicom.find.serving import limited, profile_limits, serving_limits
from pylantir.query import WorklistQuery
from pylantir.settings import DicomSettings
from pylantir.web.pages.day import STATUS_WORDS, is_patient, show_date, show_name
from pylantir.web.pages.sources import ago
from pylantir.web.ports import Item, Ports, Site

MOST_VERDICTS = 20
_SUCCESS, _CANCELLED = 0x0000, 0xFE00


def judge(asked: Mapping[str, str], site: Site, ports: Ports, today: datetime.date) -> dict[str, Any]:
    """Judge the items of a patient, or one item, for one scanner.

    Args:
        asked: `scanner` (AE title), and `item` (a number) or `patient` (an ID, or the beginning of a name).
        site: What is served, to whom.
        ports: Where the items are.
        today: The site's day.

    Returns:
        `items`: a verdict each; `rejected`: where there are none, the refused records of this patient.

    Raises:
        StoreError: The worklist cannot be read just now.
    """
    found = list(islice(_items(asked, ports), MOST_VERDICTS))
    verdicts = [_verdict(item, asked["scanner"], site, ports, today) for item in found]
    rejected = [] if found or not asked["patient"] else [
        {"source": row["data_source"], "field": row["field"], "reason": row["reason"]}
        for row in ports.find_rejected() if row.get("patient_id") == asked["patient"]
    ]  # fmt: skip
    return {"items": verdicts, "rejected": rejected[:MOST_VERDICTS]}


def lay_out_scanners(queries: Mapping[str, Mapping[str, Any]], dicom: DicomSettings) -> list[dict[str, Any]]:
    """Give a row per scanner: those that have asked since the server started, and the configured ones that have not."""
    titles = {*dicom.profiles, *dicom.allowed_aet} - {"*"}
    asked = [
        {
            "aet": aet,
            "address": query.get("address") or "",
            "when": ago(query.get("at")),
            "answered": query.get("matches"),
            "outcome": _outcome(query.get("status")),
        }
        for aet, query in sorted(queries.items())
    ]
    silent = [
        {"aet": aet, "address": "", "when": "not yet", "answered": "", "outcome": ""}
        for aet in sorted(titles - set(queries))
    ]
    return asked + silent


def lay_out_refused(refused: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give a row per scanner and reason, the most recent refusal first."""
    return [
        {
            "aet": row.get("calling") or "not told",
            "address": row.get("address"),
            "when": ago(row.get("at")),
            "times": row.get("times"),
            "text": row.get("text"),
            "what_to_do": row.get("what_to_do"),
        }
        for row in refused
    ]


def _outcome(status: object) -> str:
    if not isinstance(status, int):
        return "the scanner went away before the end"
    words = {_SUCCESS: "complete", _CANCELLED: "the scanner cancelled it"}
    return words.get(status, f"refused: 0x{status:04X}")


def _items(asked: Mapping[str, str], ports: Ports) -> Iterator[Item]:
    if asked["item"]:
        number = int(asked["item"]) if asked["item"].isdecimal() and len(asked["item"]) < 18 else -1
        item = ports.find_item(number)
        if item is not None:
            yield item
        return
    by_id = list(ports.find_items(WorklistQuery(equal={"patient_id": (asked["patient"],)})))
    yield from by_id or (item for item in ports.find_items(WorklistQuery()) if is_patient(item, asked["patient"]))


def _verdict(item: Item, scanner: str, site: Site, ports: Ports, today: datetime.date) -> dict[str, Any]:
    reasons = explain_item(item, {}, scanner, site.dicom, today)
    if all(reason.is_met for reason in reasons) and site.dicom.profile_of(scanner).max_answers is not None:
        limits = serving_limits(WorklistQuery(), site.dicom.serving, today)
        limits += profile_limits(site.dicom.profile_of(scanner), scanner)
        served = (row["id"] for row in ports.find_items(limited(WorklistQuery(), limits)))
        reasons += explain_place(int(str(item["id"])), served, scanner, site.dicom)
    unmet = [reason for reason in reasons if not reason.is_met]
    begin = f"Item {item['id']} ({show_date(item.get('scheduled_start_date'))}, {item.get('modality')})"
    verb = "does not appear on" if unmet else "appears on"
    return {
        "id": item["id"],
        "name": show_name(item.get("patient_name")),
        "appears": not unmet,
        "sentence": f"{begin} {verb} {scanner}",
        "reasons": [_why(reason) for reason in unmet],
    }


def _why(reason: Reason) -> str:
    wanted = " or ".join(STATUS_WORDS.get(word, word) for word in reason.wanted.split(" or "))
    return str(replace(reason, wanted=wanted, found=STATUS_WORDS.get(reason.found, reason.found)))
