"""Listens and connects on local sockets in the runtime directory, however long its path is.

Source: unix(7), SO_PEERCRED.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST_ADDRESS_BYTES = 107
BACKLOG = 128


@contextmanager
def _short_address(path: Path) -> Iterator[str]:
    """Yield an address of at most 107 bytes for the path: if the path is longer, through the open folder."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def listen_at(path: Path) -> socket.socket:
    """Listen on a local socket for this user only; remove an old one, because the caller holds the instance's lock."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_address(path) as address:
            listener.bind(address)
        path.chmod(0o600)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def connect_to(path: Path) -> socket.socket:
    """Connect to a local socket, without blocking.

    Raises:
        BlockingIOError: A process listens there but does not accept connections at present.
        OSError: No process listens there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # A listener that is stopped and has a full backlog would block us, too.
    sock.setblocking(False)
    try:
        with _short_address(path) as address:
            sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def find_listener(sock: socket.socket) -> tuple[int, int] | None:
    """Return the process and the user that listen at the other end of a connection, as the kernel knows them.

    Returns:
        Process id (0: it runs in a container that we cannot look into) and user id; None if this system does not say.
    """
    if sys.platform != "linux":
        return None
    pid, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII")))
    return pid, uid
