"""The ports of the instance. The supervisor holds them, so that who asks waits in a queue while a process restarts."""

from __future__ import annotations

import socket

from pylantir.errors import PylantirError
from pylantir.ipc.sockets import BACKLOG
from pylantir.settings import DicomSettings, HttpSettings


def listen_for_browsers(settings: HttpSettings | None) -> socket.socket | None:
    """Bind the port of `http`, if there is such a section.

    Raises:
        PylantirError: It cannot be bound; says what to do.
    """
    return _listen(settings.host, settings.port, "http.port") if settings else None


def listen_for_scanners(settings: DicomSettings) -> socket.socket:
    """Bind the worklist's port.

    Raises:
        PylantirError: It cannot be bound; says what to do.
    """
    return _listen(settings.host, settings.port, "dicom.port")


def _listen(host: str, port: int, key: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        msg = f"cannot listen on {host} port {port}: {error}; stop the program that uses the port, or set another {key}"
        raise PylantirError(msg) from None
