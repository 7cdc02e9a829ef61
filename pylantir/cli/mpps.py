"""`pylantir test-mpps` reports an exam as a scanner does; `pylantir query-db --mpps` shows what scanners reported."""

from __future__ import annotations

import argparse
import datetime
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pylantir.cli.accesses.shown import note_shown
from pylantir.cli.client import choose_peer
from pylantir.cli.database import reading
from pylantir.cli.output import local_time, print_json, print_result, print_rows
from pylantir.dicom.client import find_scheduled
from pylantir.dicom.mpps.client import report_scan
from pylantir.dicom.net.bridge import configure_client
from pylantir.errors import ExitStatus, PylantirError
from pylantir.mpps.model import (
    END_DATE,
    END_TIME,
    MODALITY,
    SERIES_SEQUENCE,
    START_DATE,
    START_TIME,
    items_of,
    text_of,
)
from pylantir.settings import DicomSettings, Settings
from pylantir.store.read.mpps import find_reported
from pylantir.store.schema.tables import mpps_instances

_REPORTED = {
    "began": "BEGAN",
    "ended": "ENDED",
    "patient_id": "PATIENT",
    "modality": "MODALITY",
    "status": "STATUS",
    "series": "SERIES",
    "items": "ITEMS",
    "scanner": "SCANNER",
    "updated_at": "LAST HEARD",
    "sop_instance_uid": "INSTANCE",
}
_KEYS = tuple(mpps_instances.columns.keys())
_EXCHANGED = {"operation": "REQUEST", "status": "STATUS", "answer": "ANSWER", "elapsed_ms": "MS"}
_OPEN = ("SCHEDULED", "DISCONTINUED", "")


def show_reported(settings: Settings, options: argparse.Namespace) -> int:
    """Print the performed procedure steps, the oldest first."""
    with reading(settings) as connection:
        rows = [dict(row) for row in find_reported(connection, patient_id=options.patient)]
    note_shown(options, len(rows), (item_id for row in rows for item_id in row["item_ids"]))
    nothing = "no scanner has reported anything"
    print_result(options, rows, keys=_KEYS, columns=_REPORTED, readable=_readable, nothing=nothing)
    return ExitStatus.OK


def report_to_server(settings: DicomSettings, options: argparse.Namespace) -> int:
    """Find one item of the worklist and report a scan of it; this really changes the item's status.

    Raises:
        PylantirError: Not exactly one open item matches, or the server refuses.
    """
    configure_client()
    # pynetdicom's log is silenced: DicomPeerError reports its failures in our own words.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    peer = choose_peer(settings, options)
    keys = {"patient_id": options.patient, "study_instance_uid": options.study}
    item = choose_item(find_scheduled(peer, {name: value for name, value in keys.items() if value}))
    done: list[dict[str, object]] = []
    try:
        done.extend(
            {**asdict(exchange), "answer": "success", "elapsed_ms": round(exchange.elapsed_ms, 1)}
            for exchange in report_scan(peer, item, options.status, now=datetime.datetime.now)
        )
    finally:
        # The steps that succeeded are printed as well: they help to diagnose the one that failed.
        if options.json:
            print_json({"item": item, "exchanges": done})
        else:
            print(f"patient {item['patient_id']}, study {item['study_instance_uid']}, at {peer}")
            print_rows(_EXCHANGED, done, nothing="nothing was accepted")
    return ExitStatus.OK


def choose_item(matches: list[dict[str, str]]) -> dict[str, str]:
    """Take the one item that can be scanned.

    Raises:
        PylantirError: No item can be scanned, or several can.
    """
    waiting = [item for item in matches if item.get("performed_procedure_step_status", "") in _OPEN]
    if not matches:
        raise PylantirError("nothing on the worklist matches; `pylantir test-client` shows what a scanner sees")
    if not waiting:
        raise PylantirError("what matches has been started already; choose another item")
    if len(waiting) > 1:
        studies = ", ".join(item["study_instance_uid"] for item in waiting[:5])
        raise PylantirError(f"{len(waiting)} items match; choose one with --study: {studies}")
    return waiting[0]


def _readable(row: Mapping[str, Any]) -> dict[str, object]:
    attributes = row["attributes"]
    return {
        **row,
        "began": f"{text_of(attributes, START_DATE)} {text_of(attributes, START_TIME)}".strip(),
        "ended": f"{text_of(attributes, END_DATE)} {text_of(attributes, END_TIME)}".strip(),
        "modality": text_of(attributes, MODALITY),
        "series": len(items_of(attributes, SERIES_SEQUENCE)) or "",
        "items": ", ".join(map(str, row["item_ids"])) or "unscheduled",
        "updated_at": local_time(row["updated_at"]),
    }
