"""The server under attack, in a process of its own: serves a few items and writes its port to standard output."""

from __future__ import annotations

import logging
import selectors
import socket
import sys
from collections.abc import Sequence

from pylantir.dicom.find.answers import QueryService
from pylantir.dicom.net import connection, messages, reception
from pylantir.dicom.net.acceptor import DicomServer
from pylantir.dicom.net.bridge import configure_dicom_libraries
from pylantir.dicom.net.services import Services
from pylantir.query import WorklistQuery, item_matches
from pylantir.settings import DicomSettings

PATIENCE_S = 1.0
"""Every time limit of the server, so that an attack by silence does not take a minute."""
ITEMS = [
    {
        "id": number,
        "patient_id": f"P{number}",
        "patient_name": name,
        "modality": "MR",
        "study_instance_uid": f"1.2.{number}",
        "scheduled_start_date": "20260101",
        "scheduled_start_time": "080000",
        "performed_procedure_step_status": "SCHEDULED",
    }
    for number, name in enumerate(("Doe^Jane", "Łęcki^Stanisław", "Yamada^Tarou=山田^太郎"), start=1)
]


def find(query: WorklistQuery, fields: Sequence[str]) -> list[list[list[object]]]:
    """All that match, in one batch."""
    return [[[item.get(name) for name in fields] for item in ITEMS if item_matches(query, item)]]


def main() -> None:
    """Serve until standard input ends."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    configure_dicom_libraries()
    connection.PDU_TIMEOUT_S = messages.MESSAGE_TIMEOUT_S = PATIENCE_S
    reception.REQUEST_TIMEOUT_S = reception.LEAVE_TIMEOUT_S = PATIENCE_S
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    settings = DicomSettings(idle_timeout_s=PATIENCE_S)
    server = DicomServer(listener, settings, Services(query=QueryService(settings, find).answer))
    print(listener.getsockname()[1], flush=True)
    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while sys.stdin not in {key.fileobj for key, _ in selector.select(server.pause_s())}:
            server.accept_pending()
    server.stop(0)


if __name__ == "__main__":
    main()
