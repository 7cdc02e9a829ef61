"""The worklist's port. The supervisor holds it, so that scanners wait in a queue while the server restarts."""

from __future__ import annotations

import socket

from pylantir.errors import PylantirError
from pylantir.ipc.sockets import BACKLOG
from pylantir.settings import DicomSettings


def listen_for_scanners(settings: DicomSettings) -> socket.socket:
    """Bind the worklist's port.

    Raises:
        PylantirError: It cannot be bound; says what to do.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        msg = (
            f"cannot listen on {settings.host} port {settings.port}: {error}; "
            "stop the program that uses the port, or set another dicom.port"
        )
        raise PylantirError(msg) from None
