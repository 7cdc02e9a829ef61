"""A relay in front of a database server, which a test can freeze: it then passes nothing on, and keeps every connection."""

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
    """

    def __init__(self, socket_path: str) -> None:
        self.port = free_port()
        self.frozen = False
        self._socket_path = socket_path
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
            far.connect(self._socket_path)
        except OSError:
            near.close()
            return
        self._selector.register(near, selectors.EVENT_READ, far)
        self._selector.register(far, selectors.EVENT_READ, near)

    def _pass_on(self, origin: socket.socket, other: socket.socket) -> None:
        data = b""
        with suppress(OSError):
            data = origin.recv(65536)
        if data:
            with suppress(OSError):
                other.sendall(data)
            return
        for one in (origin, other):
            with suppress(KeyError, ValueError):
                self._selector.unregister(one)
            one.close()
