"""`pylantir test-client`: ask the server what a scanner would ask."""

from __future__ import annotations

import argparse
import datetime
import logging

from pylantir.cli.layout import ITEM_COLUMNS
from pylantir.cli.output import print_json, print_rows, readable_item
from pylantir.cli.periods import read_days
from pylantir.dicom.client import Peer, echo, find_scheduled
from pylantir.dicom.net.bridge import configure_client
from pylantir.errors import ExitStatus
from pylantir.programs.progress import progress
from pylantir.settings import DicomSettings

_COLUMNS = {
    **ITEM_COLUMNS,
    "accession_number": "ACCESSION",
    "study_instance_uid": "STUDY UID",
}
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_CALLING = "PYLANTIR_TEST"


def ask_server(settings: DicomSettings, options: argparse.Namespace) -> int:
    """Send one C-ECHO, or one C-FIND and print the matches."""
    configure_client()
    # pynetdicom's log is silenced: DicomPeerError reports its failures in our own words.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    peer = choose_peer(settings, options)
    if options.echo:
        echo(peer)
        print(f"{peer} answers")
        return ExitStatus.OK
    keys = make_keys(options, datetime.date.today())  # noqa: DTZ011 - the operator's day
    with progress(f"asking {peer}"):
        matches = find_scheduled(peer, keys)
    if options.json:
        print_json(matches)
    else:
        print_rows(_COLUMNS, list(map(readable_item, matches)), nothing=f"{peer} answers: no matches")
    return ExitStatus.OK


def choose_peer(settings: DicomSettings, options: argparse.Namespace) -> Peer:
    """Choose the server and the calling AE title: by default the configured server and its first allowed scanner."""
    host = settings.host if options.host is None else options.host
    return Peer(
        host=_EVERY_INTERFACE.get(host, host),
        port=settings.port if options.port is None else options.port,
        called=options.ae_title or settings.ae_title,
        calling=options.calling or next(iter(settings.allowed_aet), _CALLING),
        tls=settings.tls,
    )


def make_keys(options: argparse.Namespace, today: datetime.date) -> dict[str, str]:
    """Turn the options into matching keys as DICOM writes them.

    Raises:
        PylantirError: `--date` is no day or range.
    """
    keys = {
        "patient_id": options.patient,
        "patient_name": options.name,
        "modality": options.modality,
        "scheduled_station_aetitle": options.station,
    }
    if options.date:
        first, last = read_days(options.date, today)
        keys["scheduled_start_date"] = first if first == last else f"{first or ''}-{last or ''}"
    return {field: value for field, value in keys.items() if value}
