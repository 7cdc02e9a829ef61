"""The paths of DICOMweb: HTTP in, HTTP out.

Lives in the web process. What speaks DICOM is loaded with the first request that needs it: ten megabytes that pages
alone do not pay for.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from pylantir.mpps.model import Operation
from pylantir.web.answers import Bodies, busy
from pylantir.web.dicomweb.media import choose_form, read_body, write_result, write_results
from pylantir.web.ports import Ports, Site
from pylantir.web.shown import DICOMWEB

MAX_BODY_BYTES = 16 * 1024 * 1024
MOST_BODY_BYTES = 64 * 1024 * 1024
"""All bodies together that have come and are not stored yet."""
LARGE_BODY_BYTES = 1024 * 1024
"""Larger ones are decoded and stored one at a time: decoded, they take many times their length."""
LARGE_BODY_WAIT_S = 30.0

logger = logging.getLogger(__name__)


class DicomWeb:
    """The two DICOMweb services."""

    def __init__(self, site: Site, ports: Ports, today: Callable[[], datetime.date]) -> None:
        self._site = site
        self._ports = ports
        self._today = today
        self._bodies = Bodies(MAX_BODY_BYTES, MOST_BODY_BYTES)
        self._large_turn = asyncio.Lock()

    def search(self, request: Request) -> Response:
        """Search the scheduled procedure steps."""
        request.state.notes.service = DICOMWEB
        form = choose_form(request.headers.get("accept", ""))
        if form is None:
            return _not_acceptable()
        from pylantir.web.dicomweb.queries import read_search
        from pylantir.web.dicomweb.services import prepare_dicom_library, search_steps

        prepare_dicom_library()
        search = read_search(request.query_params.multi_items())
        found = search_steps(self._site, self._ports, request.state.user, search, self._today())
        if found.is_refused:
            return PlainTextResponse("more steps match than this user may have in one answer: narrow the search\n", 413)
        request.state.notes.items += found.items
        headers = {"Warning": ", ".join(found.remarks)} if found.remarks else {}
        if not found.steps:
            return Response(status_code=204, headers=headers)
        kind, body = write_results(form, found.steps)
        return Response(body, 200, {**headers, "Content-Type": kind})

    def retrieve(self, request: Request) -> Response:
        """Give back a performed procedure step."""
        request.state.notes.service = DICOMWEB
        form = choose_form(request.headers.get("accept", ""))
        if form is None:
            return _not_acceptable()
        from pylantir.web.dicomweb.services import may_use

        uid = request.path_params["uid"]
        if not may_use(self._site, self._ports, request.state.user, uid):
            return _not_yours()
        stored = self._ports.retrieve(uid)
        if stored is None:
            return PlainTextResponse("there is no such performed procedure step\n", 404)
        attributes, items = stored
        request.state.notes.items += items
        kind, body = write_result(form, attributes)
        return Response(body, 200, {"Content-Type": kind})

    async def report(self, request: Request) -> Response:
        """Take in a performed procedure step."""
        async with self._bodies.read(request) as body, self._turn(len(body)):
            return await run_in_threadpool(self._take_in, request, body)

    def _take_in(self, request: Request, body: bytes) -> Response:
        from pylantir.web.dicomweb.services import may_use, prepare_dicom_library, remark, take_report

        prepare_dicom_library()
        operation: Operation = "set" if "update" in request.query_params else "create"
        attributes = read_body(request.headers.get("content-type", ""), body)
        user, uid = request.state.user, request.path_params["uid"]
        if operation == "set" and not may_use(self._site, self._ports, user, uid):
            return _not_yours()
        status, answer = take_report(self._ports, user, uid, operation, attributes)
        logger.info("MPPS %s over HTTP: status %d (0x%04X)", operation, status, answer.status)
        headers = dict(remark(answer)) if answer.status else {}
        if status == 201:
            headers["Location"] = request.url.path
        return Response(b"", status, headers)

    @asynccontextmanager
    async def _turn(self, length: int) -> AsyncIterator[None]:
        """Let large reports be decoded and stored one at a time, without a thread that waits."""
        if length <= LARGE_BODY_BYTES:
            yield
            return
        try:
            async with asyncio.timeout(LARGE_BODY_WAIT_S):
                await self._large_turn.acquire()
        except TimeoutError:
            raise busy("other large reports are being stored") from None
        try:
            yield
        finally:
            self._large_turn.release()


def _not_acceptable() -> Response:
    return PlainTextResponse("accepted are application/dicom+json, application/dicom+xml, multipart/related\n", 406)


def _not_yours() -> Response:
    return PlainTextResponse("the step is another user's (mpps.own_only)\n", 403)
