"""The sign by which commands find an instance whose runtime folder was removed: a socket without a file.

Lives in the supervisor, which holds it, and in the commands. Its name follows from the folder's path. It is in no file
system, so nothing can remove it, and the kernel says which process holds it.

Source: unix(7), abstract addresses.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
from pathlib import Path

from pylantir.ipc.sockets import find_listener

_BACKLOG = 128


class Beacon:
    """The socket of one instance; None of the methods fails where such sockets do not exist.

    Attributes:
        holder: The other process of this user that holds the folder's beacon; None if we hold it, or nobody does.
    """

    def __init__(self, folder: Path) -> None:
        self.holder: int | None = None
        self._listener: socket.socket | None = None
        if sys.platform != "linux":
            return
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(_address(folder))
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            self.holder = find_beacon(folder)
            return
        listener.setblocking(False)
        self._listener = listener

    def clear(self) -> None:
        """Drop the connections of commands that have looked for us, or the queue would be full at some time."""
        with contextlib.suppress(OSError):
            while self._listener:
                self._listener.accept()[0].close()

    def put_out(self) -> None:
        """Close it: this instance ends."""
        if self._listener:
            self._listener.close()
            self._listener = None


def find_beacon(folder: Path) -> int | None:
    """Return the process that holds the beacon of a folder.

    Returns:
        Its process id. None if there is none, or it belongs to another user (unless we are root), or it runs in
        another container.
    """
    if sys.platform != "linux":
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(_address(folder))
            pid, uid = find_listener(sock) or (0, 0)
        except OSError:
            return None
    return pid if pid and os.geteuid() in {0, uid} else None


def _address(folder: Path) -> bytes:
    # Containers that share a network have their own folders of the same path.
    with contextlib.suppress(OSError):
        container = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116
        digest = hashlib.sha256(f"{container} {os.path.realpath(folder)}".encode()).hexdigest()
        return f"\0pylantir-{digest[:32]}".encode("ascii")
    return b""
