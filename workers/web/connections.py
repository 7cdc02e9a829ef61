"""Ends HTTP connections whose client lets the server wait: hundreds of them would keep everybody else out.

Lives in the web process, in the thread of the event loop. uvicorn itself only bounds how long a connection may rest
between two requests, and answers 503 to whoever comes when there are too many.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections import Counter
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

LOOK_EVERY_S = 20.0
"""A client has this time, and at most twice this time, for the rest of a request, or to take in an answer."""
MOST_CONNECTIONS = 400
"""With more, each new connection takes the place of one that waits for its client."""
MOST_HANDSHAKES = 64
"""Connections that have not finished their TLS handshake: each takes a quarter of a megabyte, and asyncio's time limit
is a minute."""
COLLECT_EVERY = 128


class Listener(socket.socket):
    """The listening socket, which knows the connections that have not finished their TLS handshake.

    When there are too many, the oldest one of the address that has the most of them is ended.

    Args:
        listening: Bound and listening; taken over.
    """

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(fileno=listening.detach())
        self._in_handshake: dict[int, tuple[socket.socket, str]] = {}
        self._ended = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection, and make room for it."""
        connection, address = super().accept()
        if len(self._in_handshake) >= MOST_HANDSHAKES:
            self._make_room()
        # A number that comes again is of a connection that has ended; the new one stands at the end.
        self._in_handshake.pop(connection.fileno(), None)
        self._in_handshake[connection.fileno()] = connection, address[0]
        return connection, address

    def note_opened(self, number: int) -> None:
        """Take note that a connection, by its descriptor, has got through its handshake, or needs none."""
        self._in_handshake.pop(number, None)

    def note_ended(self) -> None:
        """Free the memory of connections that were ended, every so often.

        What asyncio holds of a TLS connection refers to itself, and Python looks for such memory by the number of
        objects: these are few and large.
        """
        self._ended += 1
        if self._ended % COLLECT_EVERY == 0:
            gc.collect()

    def _make_room(self) -> None:
        for number in [number for number, (one, _) in self._in_handshake.items() if one.fileno() != number]:
            del self._in_handshake[number]
        if len(self._in_handshake) >= MOST_HANDSHAKES:
            ((crowd, _),) = Counter(address for _, address in self._in_handshake.values()).most_common(1)
            number = next(number for number, (_, address) in self._in_handshake.items() if address == crowd)
            connection, _ = self._in_handshake.pop(number)
            # asyncio, which holds it, sees its end.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            self.note_ended()


class ImpatientProtocol(H11Protocol):
    """uvicorn's connection, which is ended where the client has not gone on between two looks, or to make room.

    Args:
        listener: Where it comes from.
        options: As uvicorn gives them.
    """

    def __init__(self, listener: Listener, **options: Any) -> None:
        super().__init__(**options)
        self._listener = listener

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look, and make room."""
        super().connection_made(transport)
        self._listener.note_opened(transport.get_extra_info("socket").fileno())
        self._waits_for: tuple[str, object] | None = None
        self._heard_at = self.loop.time()
        self._look_again()
        if len(self.connections) > MOST_CONNECTIONS:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Take note of the moment."""
        self._heard_at = self.loop.time()
        super().data_received(data)

    def _make_room(self) -> None:
        """End a connection that waits: of the address that has the most of them, the one that has waited longest."""
        others: list[Any] = [one for one in self.connections if one is not self and not one.transport.is_closing()]
        waiting = [one for one in others if one._find_wait() is not None]  # noqa: SLF001 - of this class, too
        if len(others) >= MOST_CONNECTIONS and waiting:
            addresses = Counter(one.client and one.client[0] for one in waiting)
            ((crowd, _),) = addresses.most_common(1)
            crowded = (one for one in waiting if (one.client and one.client[0]) == crowd)
            min(crowded, key=lambda one: one._heard_at).transport.abort()  # noqa: SLF001 - as above
            self._listener.note_ended()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop looking."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def _look_again(self) -> None:
        self._next_look = self.loop.call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        waits_for = self._find_wait()
        if waits_for is not None and waits_for == self._waits_for:
            self.transport.abort()
            return
        self._waits_for = waits_for
        self._look_again()

    def _find_wait(self) -> tuple[str, object] | None:
        """Return what the client has still to do, and for which request; None: it is the server's turn."""
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            return "next request", cycle
        if self.flow.write_paused:
            return "answer", cycle
        return ("body", cycle) if cycle.more_body else None
