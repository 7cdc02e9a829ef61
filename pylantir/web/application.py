"""The web application: which path is answered by what, and for whom.

Lives in the web process. Its owner hands in the configuration and the ports; no path changes anything but performed
procedure steps by DICOMweb, and who is logged in.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from pylantir.errors import BadRequest, ControlError, PylantirError, StoreError, WriterUnavailable, frames_of
from pylantir.web.access import COOKIE, NOBODY, SECURITY_HEADERS, SESSION_S, Gate, Locked, is_own_host, is_same_origin
from pylantir.web.dicomweb.media import choose_form, read_body, write_result, write_results
from pylantir.web.health import reasons_against
from pylantir.web.metrics import CONTENT_TYPE, write_metrics
from pylantir.web.pages.day import Filter, lay_out_day
from pylantir.web.pages.details import lay_out_item, lay_out_scanners, lay_out_sources
from pylantir.web.ports import Ports, Site

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_FORM_BYTES = 64 * 1024
_PAGES = Path(__file__).parent / "pages"
_OPEN_PATHS = ("/healthz", "/readyz", "/login", "/static/")
"""Paths that are answered without a login."""
_PROGRAM_PATHS = ("/dicomweb/", "/metrics")
"""Paths for programs: they get 401 instead of the login page, and sessions do not count."""

logger = logging.getLogger(__name__)
Endpoint = Callable[[Request], Awaitable[Response]]


def make_application(site: Site, ports: Ports, *, today: Callable[[], datetime.date] = datetime.date.today) -> ASGIApp:
    """Put the application together.

    Args:
        site: The configuration.
        ports: What it asks for everything that it shows.
        today: The site's day.
    """
    http = site.http
    gate = Gate(http)
    routes: list[Route | Mount] = [
        Route("/healthz", _healthz),
        Route("/readyz", _Readiness(ports).answer),
        Mount("/static", StaticFiles(directory=_PAGES / "static")),
    ]
    pages = _Pages(site, ports, gate, today)
    if http.pages:
        routes += [
            Route("/", pages.day),
            Route("/items/{number:int}", pages.item),
            Route("/sources", pages.sources),
            Route("/scanners", pages.scanners),
            Route("/login", pages.login_form),
            Route("/login", pages.log_in, methods=["POST"]),
            Route("/logout", pages.log_out, methods=["POST"]),
        ]
    if http.dicomweb:
        dicomweb = _DicomWeb(site, ports, today)
        routes += [
            Route("/dicomweb/modality-scheduled-procedure-steps", dicomweb.search),
            Route("/dicomweb/modality-performed-procedure-steps/{uid}", dicomweb.retrieve),
            Route("/dicomweb/modality-performed-procedure-steps/{uid}", dicomweb.report, methods=["POST"]),
        ]
    if http.metrics:
        routes.append(Route("/metrics", _Metrics(ports).answer))
    handlers: dict[Any, Any] = {
        HTTPException: pages.explain_status,
        StoreError: _unavailable,
        WriterUnavailable: _unavailable,
        BadRequest: _bad_request,
    }
    application = Starlette(routes=routes, exception_handlers=handlers)
    return _Guard(application, site, gate)


class _Guard:
    """Checks who asks and from where before any page runs, and adds the security headers to every answer."""

    def __init__(self, application: ASGIApp, site: Site, gate: Gate) -> None:
        self._application = application
        self._http = site.http
        self._gate = gate
        # Without a login, only this machine asks; a page elsewhere could make its browser ask under another name.
        self._only_own_host = not site.http.needs_login and not site.http.behind_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        refusal = await run_in_threadpool(self._judge, Request(scope))
        started = False

        async def send_with_headers(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        try:
            await (refusal or self._application)(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001 - last resort: one request that raises is only that one's failure
            # Not the message: it may quote a patient.
            frames = frames_of(error)
            logger.error("a request failed: %s\n%s", type(error).__name__, frames)  # noqa: TRY400
            if not started:
                await PlainTextResponse("internal error; the log has the traceback\n", 500)(
                    scope, receive, send_with_headers
                )

    def _judge(self, request: Request) -> Response | None:
        """Put the user into the request's state, or return a refusal."""
        path = request.url.path
        request.state.user, request.state.has_session = NOBODY, False
        if self._only_own_host and not is_own_host(request.headers.get("host", "")):
            return PlainTextResponse("this address is for this machine itself: ask 127.0.0.1 or localhost\n", 403)
        if not self._http.needs_login or path.startswith(_OPEN_PATHS):
            return None
        is_program = path.startswith(_PROGRAM_PATHS)
        authorization = request.headers.get("authorization")
        user = self._gate.user_of_header(authorization) if authorization else None
        if user is None and not is_program:
            user = self._gate.user_of_session(request.cookies.get(COOKIE, ""))
            request.state.has_session = user is not None
        if isinstance(user, Locked):
            return _too_many_tries(user)
        if user is not None:
            request.state.user = user
            return None
        if is_program or not self._http.pages or authorization:
            return PlainTextResponse(
                "log in: HTTP Basic or Bearer\n", 401, {"WWW-Authenticate": 'Basic realm="Pylantir", charset="UTF-8"'}
            )
        target = path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)


class _Pages:
    """The pages for people."""

    def __init__(self, site: Site, ports: Ports, gate: Gate, today: Callable[[], datetime.date]) -> None:
        self._site = site
        self._ports = ports
        self._gate = gate
        self._today = today
        loader = FileSystemLoader(_PAGES / "templates")
        self._templates = Environment(loader=loader, autoescape=select_autoescape(), trim_blocks=False)

    def day(self, request: Request) -> Response:
        today = self._today()
        values = lay_out_day(Filter.from_form(request.query_params, today), self._ports, today)
        return self._render(request, "day.html", {**values, "page": "day", "refreshes": True})

    def item(self, request: Request) -> Response:
        number = request.path_params["number"]
        item = self._ports.find_item(number) if number < 2**63 else None
        if item is None:
            raise HTTPException(404)
        return self._render(request, "item.html", lay_out_item(item, self._ports))

    def sources(self, request: Request) -> Response:
        values = lay_out_sources(ask_status(self._ports))
        return self._render(request, "sources.html", {**values, "page": "sources", "refreshes": True})

    def scanners(self, request: Request) -> Response:
        asked = {name: request.query_params.get(name, "").strip() for name in ("scanner", "patient", "item")}
        is_asked = bool(asked["scanner"] and (asked["patient"] or asked["item"]))
        values = {
            **asked,
            "asked": is_asked,
            "verdicts": self._judge(asked) if is_asked else [],
            "rows": lay_out_scanners(_ask_queries(self._ports)),
            "page": "scanners",
        }
        return self._render(request, "scanners.html", values)

    def _judge(self, asked: dict[str, str]) -> list[dict[str, Any]]:
        # As in `_DicomWeb`: loaded by who needs it.
        from pylantir.web.pages.verdicts import verdicts_on

        return verdicts_on(asked, self._site, self._ports, self._today())

    def login_form(self, request: Request) -> Response:
        return self._render(request, "login.html", {"next": _own_path(request.query_params.get("next", "/"))})

    async def log_in(self, request: Request) -> Response:
        if not is_same_origin(request.headers):
            return PlainTextResponse("the form was sent from another site\n", 403)
        form = parse_qs((await _read(request, MAX_FORM_BYTES)).decode("utf-8", "replace"))
        user, password, target = (form.get(name, [""])[0] for name in ("user", "password", "next"))
        session = await run_in_threadpool(self._gate.log_in, user, password)
        if isinstance(session, Locked):
            return _too_many_tries(session)
        if session is None:
            logger.warning("login refused")
            values = {"problem": "This is not the right user and password.", "next": _own_path(target)}
            return self._render(request, "login.html", values, status=401)
        response = RedirectResponse(_own_path(target), 303)
        secure = self._site.http.tls is not None or self._site.http.behind_proxy
        response.set_cookie(COOKIE, session, max_age=int(SESSION_S), httponly=True, samesite="lax", secure=secure)
        return response

    async def log_out(self, request: Request) -> Response:
        if not is_same_origin(request.headers):
            return PlainTextResponse("the form was sent from another site\n", 403)
        self._gate.log_out(request.cookies.get(COOKIE, ""))
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE)
        return response

    def explain_status(self, request: Request, error: Exception) -> Response:
        """Answer what has no page of its own."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        texts = {
            404: ("Not found", "There is nothing at this address."),
            405: ("Not possible", "Not with this method."),
        }
        title, text = texts.get(status, ("Not possible", str(getattr(error, "detail", ""))))
        headers = getattr(error, "headers", None)
        if request.url.path.startswith(_PROGRAM_PATHS) or not self._site.http.pages:
            return PlainTextResponse(f"{text}\n", status, headers)
        response = self._render(request, "message.html", {"title": title, "text": text}, status=status)
        response.headers.update(headers or {})
        return response

    def _render(self, request: Request, template: str, values: dict[str, Any], *, status: int = 200) -> Response:
        state = request.state
        whole = {"user": getattr(state, "user", NOBODY), "has_session": getattr(state, "has_session", False), **values}
        return HTMLResponse(self._templates.get_template(template).render(whole), status)


class _DicomWeb:
    """The two DICOMweb services.

    What speaks DICOM is loaded with the first request that needs it: ten megabytes that pages alone do not pay for.
    """

    def __init__(self, site: Site, ports: Ports, today: Callable[[], datetime.date]) -> None:
        self._site = site
        self._ports = ports
        self._today = today

    def search(self, request: Request) -> Response:
        form = choose_form(request.headers.get("accept", ""))
        if form is None:
            return _not_acceptable()
        from pylantir.web.dicomweb.queries import FUZZY_REMARK, read_search
        from pylantir.web.dicomweb.services import prepare_dicom_library, search_steps

        prepare_dicom_library()
        search = read_search(request.query_params.multi_items())
        found = search_steps(self._site, self._ports, request.state.user, search, self._today())
        headers = {"Warning": FUZZY_REMARK} if search.is_fuzzy else {}
        if not found:
            return Response(status_code=204, headers=headers)
        kind, body = write_results(form, found)
        return Response(body, 200, {**headers, "Content-Type": kind})

    def retrieve(self, request: Request) -> Response:
        form = choose_form(request.headers.get("accept", ""))
        if form is None:
            return _not_acceptable()
        attributes = self._ports.retrieve(request.path_params["uid"])
        if attributes is None:
            return PlainTextResponse("there is no such performed procedure step\n", 404)
        kind, body = write_result(form, attributes)
        return Response(body, 200, {"Content-Type": kind})

    async def report(self, request: Request) -> Response:
        from pylantir.web.dicomweb.services import prepare_dicom_library, remark, take_report

        prepare_dicom_library()
        operation = "set" if "update" in request.query_params else "create"
        body = await _read(request, MAX_BODY_BYTES)
        attributes = read_body(request.headers.get("content-type", ""), body)
        user, uid = request.state.user, request.path_params["uid"]
        status, answer = await run_in_threadpool(take_report, self._ports, user, uid, operation, attributes)  # type: ignore[arg-type]
        logger.info("MPPS %s over HTTP: status %d (0x%04X)", operation, status, answer.status)
        headers = dict(remark(answer)) if answer.status else {}
        if status == 201:
            headers["Location"] = request.url.path
        return Response(b"", status, headers)


class _Metrics:
    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def answer(self, _request: Request) -> Response:
        return Response(write_metrics(ask_status(self._ports)), 200, {"Content-Type": CONTENT_TYPE})


class _Readiness:
    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def answer(self, _request: Request) -> Response:
        reasons = reasons_against(ask_status(self._ports))
        return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _healthz(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


def ask_status(ports: Ports) -> Any:
    """What the supervisor says; None where it does not answer."""
    with suppress(OSError, ControlError, PylantirError):
        return ports.status()
    return None


def _ask_queries(ports: Ports) -> Any:
    with suppress(OSError, ControlError, PylantirError):
        return ports.last_queries()
    return {}


async def _read(request: Request, most: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"a body has at most {most} bytes")
    return bytes(body)


def _own_path(target: str) -> str:
    """Accept only a path of this application, so that a login never redirects to another site."""
    is_ours = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
    return target if is_ours else "/"


def _too_many_tries(locked: Locked) -> Response:
    text = f"too many wrong passwords for this user: try again in {locked.retry_after_s} s\n"
    return PlainTextResponse(text, 429, {"Retry-After": str(locked.retry_after_s)})


def _not_acceptable() -> Response:
    return PlainTextResponse("accepted are application/dicom+json, application/dicom+xml, multipart/related\n", 406)


def _unavailable(_request: Request, error: Exception) -> Response:
    logger.warning("a request could not be answered: %s", error)
    return PlainTextResponse("the worklist is not available just now; try again\n", 503, {"Retry-After": "5"})


def _bad_request(_request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", 400)
