"""Checks who asks and from where before any page runs, and sees every answer go out.

Lives in the web process. The one place that knows of each answer which user got it, with which status, and which items
it showed.
"""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pylantir.errors import frames_of
from pylantir.settings import HttpSettings
from pylantir.web.access import COOKIE, NOBODY, SECURITY_HEADERS, Gate, Locked, is_own_host
from pylantir.web.answers import PROGRAM_PATHS, address_of
from pylantir.web.ports import Ports
from pylantir.web.shown import Notes

_OPEN_PATHS = ("/healthz", "/readyz", "/login", "/static/")
"""Paths that are answered without a login."""

logger = logging.getLogger(__name__)


class Guard:
    """Stands around the application.

    Args:
        application: What answers whoever may ask.
        http: Who may.
        gate: Passwords, tokens and sessions.
        ports: Told of each answer that may have shown patients, after it was sent, and of failed logins.
    """

    def __init__(self, application: ASGIApp, http: HttpSettings, gate: Gate, ports: Ports) -> None:
        self._application = application
        self._http = http
        self._gate = gate
        self._ports = ports
        # Without a login, only this machine asks; a page elsewhere could make its browser ask under another name.
        self._only_own_host = not http.needs_login and not http.behind_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        request = Request(scope)
        refusal = await run_in_threadpool(self._judge, request)
        status = 0

        async def send_with_headers(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        try:
            await (refusal or self._application)(scope, receive, send_with_headers)
        except ClientDisconnect:
            # The client went away before its request was complete: nobody waits for an answer.
            return
        except Exception as error:  # noqa: BLE001 - last resort: one request that raises is only that one's failure
            # Not the message: it may quote a patient.
            frames = frames_of(error)
            logger.error("a request failed: %s\n%s", type(error).__name__, frames)  # noqa: TRY400
            if not status:
                await PlainTextResponse("internal error; the log has the traceback\n", 500)(
                    scope, receive, send_with_headers
                )
        shown = request.state.notes.take(scope, status, request.state.user)
        if shown is not None:
            self._ports.note_shown(shown)

    def _judge(self, request: Request) -> Response | None:
        """Put the user into the request's state, or return a refusal."""
        path = request.url.path
        request.state.user, request.state.has_session, request.state.notes = NOBODY, False, Notes()
        if self._only_own_host and not is_own_host(request.headers.get("host", "")):
            return PlainTextResponse("this address is for this machine itself: ask 127.0.0.1 or localhost\n", 403)
        if not self._http.needs_login or path.startswith(_OPEN_PATHS):
            return None
        is_program = path.startswith(PROGRAM_PATHS)
        authorization = request.headers.get("authorization")
        user = self._gate.user_of_header(authorization) if authorization else None
        if user is None and not is_program:
            user = self._gate.user_of_session(request.cookies.get(COOKIE, ""))
            request.state.has_session = user is not None
        if isinstance(user, Locked):
            return answer_too_many_tries(user)
        if user is not None:
            request.state.user = user
            return None
        if authorization:
            self._ports.note_refused_login(address_of(request), None)
        if is_program or not self._http.pages or authorization:
            return PlainTextResponse(
                "log in: HTTP Basic or Bearer\n", 401, {"WWW-Authenticate": 'Basic realm="Pylantir", charset="UTF-8"'}
            )
        target = path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)


def answer_too_many_tries(locked: Locked) -> Response:
    """Answer a user who has to wait after wrong passwords."""
    text = f"too many wrong passwords for this user: try again in {locked.retry_after_s} s\n"
    return PlainTextResponse(text, 429, {"Retry-After": str(locked.retry_after_s)})
