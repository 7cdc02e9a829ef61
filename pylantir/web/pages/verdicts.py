"""Why a patient does or does not appear on a scanner: the rules are those that the server follows."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from pylantir.dicom.find.explanation import explain_item
from pylantir.query import WorklistQuery
from pylantir.web.pages.day import is_patient, show_date
from pylantir.web.ports import Item, Ports, Site

MOST_VERDICTS = 20


def verdicts_on(asked: Mapping[str, str], site: Site, ports: Ports, today: datetime.date) -> list[dict[str, Any]]:
    """Judge the items of a patient, or one item, for one scanner.

    Args:
        asked: `scanner` (AE title), and `item` (a number) or `patient` (an ID, or the beginning of a name).
        site: What is served, to whom.
        ports: Where the items are.
        today: The site's day.

    Raises:
        StoreError: The worklist cannot be read just now.
    """
    return [_verdict(item, asked["scanner"], site, today) for item in islice(_items(asked, ports), MOST_VERDICTS)]


def _items(asked: Mapping[str, str], ports: Ports) -> Iterator[Item]:
    if asked["item"]:
        number = int(asked["item"]) if asked["item"].isdecimal() and len(asked["item"]) < 18 else -1
        item = ports.find_item(number)
        if item is not None:
            yield item
        return
    by_id = list(ports.find_items(WorklistQuery(equal={"patient_id": (asked["patient"],)})))
    yield from by_id or (item for item in ports.find_items(WorklistQuery()) if is_patient(item, asked["patient"]))


def _verdict(item: Item, scanner: str, site: Site, today: datetime.date) -> dict[str, Any]:
    unmet = [reason for reason in explain_item(item, {}, scanner, site.dicom, today) if not reason.is_met]
    begin = f"Item {item['id']} ({show_date(item.get('scheduled_start_date'))}, {item.get('modality')})"
    why = "; ".join(f"{reason.rule} wants {reason.wanted}, the item has {reason.found or 'none'}" for reason in unmet)
    sentence = f"{begin} does not appear on {scanner}: {why}" if unmet else f"{begin} appears on {scanner}"
    return {"id": item["id"], "appears": not unmet, "sentence": sentence}
