"""Reading requests and answering failures: what pages, DICOMweb and monitoring have in common."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pylantir.errors import ControlError, PylantirError
from pylantir.web.ports import Ports

PROGRAM_PATHS = ("/dicomweb/", "/metrics")
"""Paths for programs: they get 401 instead of the login page, and sessions do not count."""

logger = logging.getLogger(__name__)


async def read_body_of(request: Request, most: int) -> bytes:
    """Read a request's body.

    Raises:
        HTTPException: 413, it has more bytes than that.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"a body has at most {most} bytes")
    return bytes(body)


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
