"""Ends HTTP connections whose client lets the server wait: five hundred of them would keep everybody else out.

Lives in the web process, in the thread of the event loop. uvicorn itself only bounds how long a connection may rest
between two requests.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

LOOK_EVERY_S = 20.0
"""A client has this time, and at most twice this time, for the rest of a request, or to take in an answer."""


class ImpatientProtocol(H11Protocol):
    """uvicorn's connection, which is ended where the client has not gone on between two looks."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look."""
        super().connection_made(transport)
        self._waits_for: tuple[str, object] | None = None
        self._look_again()

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
