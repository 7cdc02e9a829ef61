"""The web application: which path is answered by what.

Lives in the web process. Its owner hands in the configuration and the ports; no path changes anything but performed
procedure steps by DICOMweb, and who is logged in.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from pylantir.errors import BadRequest, StoreError, WriterUnavailable
from pylantir.web.access import Gate
from pylantir.web.answers import answer_bad_request, answer_unavailable
from pylantir.web.dicomweb.endpoints import DicomWeb
from pylantir.web.guard import Guard
from pylantir.web.monitoring import Monitoring, answer_alive
from pylantir.web.pages.views import FOLDER, Pages
from pylantir.web.ports import Ports, Site


def make_application(site: Site, ports: Ports, *, today: Callable[[], datetime.date] = datetime.date.today) -> ASGIApp:
    """Put the application together.

    Args:
        site: The configuration.
        ports: What it asks for everything that it shows.
        today: The site's day.
    """
    http = site.http
    gate = Gate(http)
    monitoring = Monitoring(site, ports)
    routes: list[Route | Mount] = [
        Route("/healthz", answer_alive),
        Route("/readyz", monitoring.readiness),
        Mount("/static", StaticFiles(directory=FOLDER / "static")),
    ]
    pages = Pages(site, ports, gate, today)
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
        dicomweb = DicomWeb(site, ports, today)
        routes += [
            Route("/dicomweb/modality-scheduled-procedure-steps", dicomweb.search),
            Route("/dicomweb/modality-performed-procedure-steps/{uid}", dicomweb.retrieve),
            Route("/dicomweb/modality-performed-procedure-steps/{uid}", dicomweb.report, methods=["POST"]),
        ]
    if http.metrics:
        routes.append(Route("/metrics", monitoring.metrics))
    handlers: dict[Any, Any] = {
        HTTPException: pages.explain_status,
        StoreError: pages.explain_unavailable,
        WriterUnavailable: answer_unavailable,
        BadRequest: answer_bad_request,
    }
    application = Starlette(routes=routes, exception_handlers=handlers)
    # A path with a slash too many does not exist; the router would redirect it to whatever the Host header names.
    application.router.redirect_slashes = False
    return Guard(application, http, gate, ports)
