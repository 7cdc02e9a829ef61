"""A relay in front of a database server, which a test can freeze: it then passes nothing on, and keeps every connection.

It counts how often a client waits for the server, and can change to another server.
"""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress

from ports import free_port


class Relay:
    """Passes on what comes to a port of this machine.

    Args:
        socket_path: The socket of the server behind it.

    Attributes:
        port: Where it listens.
        frozen: While true, nothing passes: new connections are accepted, and hear nothing.
        waits: How many messages came after which a client waits for the server's answer (Query, Sync, Flush).
        socket_path: The socket of the server to which new connections go.
    """

    def __init__(self, socket_path: str) -> None:
        self.port = free_port()
        self.frozen = False
        self.socket_path = socket_path
        self.waits = 0
        self._last_kind = b""
        self._unread: dict[socket.socket, bytes] = {}
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]

    def _run(self) -> None:
        while not self._ended:
            if self.frozen:
                threading.Event().wait(0.05)
                continue
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._accept()
                elif not self.frozen and key.fileobj.fileno() >= 0:  # type: ignore[union-attr]
                    self._pass_on(key.fileobj, key.data)  # type: ignore[arg-type]

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(self.socket_path)
        except OSError:
            near.close()
            return
        self._selector.register(near, selectors.EVENT_READ, far)
        self._selector.register(far, selectors.EVENT_READ, near)
        self._unread[near] = b""

    def _pass_on(self, origin: socket.socket, other: socket.socket) -> None:
        data = b""
        with suppress(OSError):
            data = origin.recv(65536)
        if data:
            if origin in self._unread:
                self._count(origin, data)
            with suppress(OSError):
                other.sendall(data)
            return
        for one in (origin, other):
            self._unread.pop(one, None)
            with suppress(KeyError, ValueError):
                self._selector.unregister(one)
            one.close()

    def _count(self, client: socket.socket, data: bytes) -> None:
        """Look at the client's messages: one byte for the kind, four for the length; the first message has no kind."""
        unread = self._unread[client] + data
        while len(unread) >= 5:
            begin = 1 if unread[0] else 0
            length = begin + int.from_bytes(unread[begin : begin + 4], "big")
            if len(unread) < length:
                break
            kind = unread[:1]
            # A Flush right after a Sync is waited for together with it.
            self.waits += kind in {b"Q", b"S"} or (kind == b"H" and self._last_kind != b"S")
            self._last_kind = kind
            unread = unread[length:]
        self._unread[client] = unread
