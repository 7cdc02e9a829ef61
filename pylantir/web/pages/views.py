"""The paths of the pages: a request in, a rendered page out.

Lives in the web process; called from its worker threads.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from pylantir.errors import ControlError, PylantirError
from pylantir.web.access import COOKIE, NOBODY, SESSION_S, Gate, Locked, is_same_origin
from pylantir.web.answers import PROGRAM_PATHS, Bodies, address_of, answer_unavailable, ask_status
from pylantir.web.pages.day import Filter, lay_out_day
from pylantir.web.pages.item import lay_out_item
from pylantir.web.pages.sources import lay_out_differences, lay_out_rejected, lay_out_sources
from pylantir.web.ports import Ports, Site
from pylantir.web.shown import PAGE

MAX_FORM_BYTES = 64 * 1024
FOLDER = Path(__file__).parent

logger = logging.getLogger(__name__)


class Pages:
    """The pages for people."""

    def __init__(self, site: Site, ports: Ports, gate: Gate, today: Callable[[], datetime.date]) -> None:
        self._site = site
        self._ports = ports
        self._gate = gate
        self._today = today
        self._forms = Bodies(MAX_FORM_BYTES, 64 * MAX_FORM_BYTES)
        loader = FileSystemLoader(FOLDER / "templates")
        self._templates = Environment(
            loader=loader, autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True, auto_reload=False
        )

    def day(self, request: Request) -> Response:
        """Show the worklist of a day."""
        request.state.notes.service = PAGE
        today = self._today()
        values = lay_out_day(Filter.from_form(request.query_params, today), self._ports, today)
        request.state.notes.items += values["items"]
        laid_out = lay_out_sources(ask_status(self._ports), {})
        sources = [source["name"] for source in laid_out["sources"]]
        chosen, remarks = values["chosen"], list(values["chosen"].remarks)
        if chosen.source and sources and chosen.source not in sources:
            remarks.append(f'There is no source "{chosen.source}": the page Sources lists them.')
        titles = sorted({*self._site.dicom.profiles, *self._site.dicom.allowed_aet, *values["scanners"]} - {"*"})
        whole = {
            **values, "scanners": titles, "sources": sources, "remarks": remarks, "troubled": laid_out["troubled"],
            "page": "day", "refreshes": True,
        }  # fmt: skip
        return self._render(request, "day.html", whole)

    def item(self, request: Request) -> Response:
        """Show one item."""
        request.state.notes.service = PAGE
        number = request.path_params["number"]
        item = self._ports.find_item(number) if number < 2**63 else None
        if item is None:
            raise HTTPException(404)
        request.state.notes.items.append(number)
        return self._render(request, "item.html", lay_out_item(item, self._ports))

    def sources(self, request: Request) -> Response:
        """Show the sources and what to do about each."""
        request.state.notes.service = PAGE
        _, held = self._ports.count_conflicts()
        differences = lay_out_differences(self._ports.find_conflicts())
        request.state.notes.items += [item for row in differences for item in row["items"]]
        values = {
            **lay_out_sources(ask_status(self._ports), held),
            "differences": differences,
            "rejected": lay_out_rejected(self._ports.find_rejected()),
        }
        return self._render(request, "sources.html", {**values, "page": "sources", "refreshes": True})

    def scanners(self, request: Request) -> Response:
        """Show which scanner asked, which was refused, and why a patient does not appear on one."""
        # As in `DicomWeb`: what speaks DICOM is loaded by who needs it.
        from pylantir.web.pages.scanners import judge, lay_out_refused, lay_out_scanners

        request.state.notes.service = PAGE
        asked = {name: request.query_params.get(name, "").strip() for name in ("scanner", "patient", "item")}
        is_asked = bool(asked["scanner"] and (asked["patient"] or asked["item"]))
        verdict = judge(asked, self._site, self._ports, self._today()) if is_asked else None
        request.state.notes.items += [one["id"] for one in verdict["items"]] if verdict else []
        told = self._ask_scanners()
        rows = lay_out_scanners(told.get("asked", {}), self._site.dicom)
        refused = lay_out_refused(told.get("refused", ()))
        values = {**asked, "verdict": verdict, "rows": rows, "refused": refused, "page": "scanners"}
        return self._render(request, "scanners.html", values)

    def login_form(self, request: Request) -> Response:
        """Show the form to log in with."""
        return self._render(request, "login.html", {"next": _own_path(request.query_params.get("next", "/"))})

    async def log_in(self, request: Request) -> Response:
        """Begin a session."""
        if not is_same_origin(request.headers):
            return PlainTextResponse("the form was sent from another site\n", 403)
        async with self._forms.read(request) as body:
            form = parse_qs(body.decode("utf-8", "replace"))
        user, password, target = (form.get(name, [""])[0] for name in ("user", "password", "next"))
        session = await run_in_threadpool(self._gate.log_in, user, password)
        if isinstance(session, Locked):
            problem = f"Too many wrong passwords for this user: try again in {session.retry_after_s} seconds."
            response = self._render(request, "login.html", {"problem": problem, "next": _own_path(target)}, status=429)
            response.headers["Retry-After"] = str(session.retry_after_s)
            return response
        if session is None:
            logger.warning("login refused")
            self._ports.note_refused_login(address_of(request), user if user in self._site.http.users else None)
            values = {"problem": "This is not the right user and password.", "next": _own_path(target)}
            return self._render(request, "login.html", values, status=401)
        redirection = RedirectResponse(_own_path(target), 303)
        secure = self._site.http.tls is not None or self._site.http.behind_proxy
        redirection.set_cookie(COOKIE, session, max_age=int(SESSION_S), httponly=True, samesite="lax", secure=secure)
        return redirection

    async def log_out(self, request: Request) -> Response:
        """End the session."""
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
        return self._message(request, title, text, status, getattr(error, "headers", None) or {})

    def explain_unavailable(self, request: Request, error: Exception) -> Response:
        """Answer that the database cannot be read just now."""
        if request.url.path.startswith(PROGRAM_PATHS) or not self._site.http.pages:
            return answer_unavailable(request, error)
        logger.warning("a page could not be shown: %s", error)
        text = "The worklist cannot be read just now. Pylantir tries again by itself; load this page again in a moment."
        return self._message(request, "Not available just now", text, 503, {"Retry-After": "5"})

    def _message(self, request: Request, title: str, text: str, status: int, headers: Mapping[str, str]) -> Response:
        if request.url.path.startswith(PROGRAM_PATHS) or not self._site.http.pages:
            return PlainTextResponse(f"{text}\n", status, headers)
        response = self._render(request, "message.html", {"title": title, "text": text}, status=status)
        response.headers.update(headers)
        return response

    def _ask_scanners(self) -> Mapping[str, Any]:
        with suppress(OSError, ControlError, PylantirError):
            return self._ports.find_scanners()
        return {}

    def _render(self, request: Request, template: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
        state = request.state
        whole = {
            "user": getattr(state, "user", NOBODY),
            "has_session": getattr(state, "has_session", False),
            "now": datetime.datetime.now().astimezone(),
            **values,
        }
        return HTMLResponse(self._templates.get_template(template).render(whole), status)


def _own_path(target: str) -> str:
    """Accept only a path of this application, so that a login never redirects to another site."""
    is_ours = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
    return target if is_ours else "/"
