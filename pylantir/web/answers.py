"""Reading requests and answering failures: what pages, DICOMweb and monitoring have in common."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pylantir.errors import ControlError, PylantirError
from pylantir.web.ports import Ports

PROGRAM_PATHS = ("/dicomweb/", "/metrics")
"""Paths for programs: they get 401 instead of the login page, and sessions do not count."""

logger = logging.getLogger(__name__)


class Bodies:
    """Reads the bodies of requests, which together take a limited amount of memory. For one event loop.

    Args:
        most: Bytes of one body.
        most_together: Bytes of all bodies that are held at a time.
    """

    def __init__(self, most: int, most_together: int) -> None:
        self._most = most
        self._most_together = most_together
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body; it counts until the context ends.

        Raises:
            HTTPException: 413, it is too long; 503, too many others are long just now.
        """
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                self._held += len(chunk)
                if len(body) > self._most:
                    raise HTTPException(413, f"a body has at most {self._most} bytes")
                if self._held > self._most_together:
                    raise busy("too many large requests at a time")
            yield bytes(body)
        finally:
            self._held -= len(body)


def busy(text: str) -> HTTPException:
    """Make the answer to a request that has to be repeated."""
    return HTTPException(503, f"{text}; try again", {"Retry-After": "5"})


def address_of(request: Request) -> str:
    """Return the client's address; empty if it is not known."""
    return request.client.host if request.client else ""


def ask_status(ports: Ports) -> Mapping[str, Any] | None:
    """Return what the supervisor says; None where it does not answer."""
    with suppress(OSError, ControlError, PylantirError):
        return ports.status()
    return None


def answer_unavailable(_request: Request, error: Exception) -> Response:
    """Answer that the database, or the writer, does not answer just now."""
    logger.warning("a request could not be answered: %s", error)
    return PlainTextResponse("the worklist is not available just now; try again\n", 503, {"Retry-After": "5"})


def answer_bad_request(_request: Request, error: Exception) -> Response:
    """Answer that a request makes no sense, and why."""
    return PlainTextResponse(f"{error}\n", 400)
