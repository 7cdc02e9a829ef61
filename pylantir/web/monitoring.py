"""What machines ask to see whether all is well: `/metrics`, `/readyz` and `/healthz`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from pylantir.errors import StoreError
from pylantir.web.answers import ask_status
from pylantir.web.health import reasons_against
from pylantir.web.metrics import CONTENT_TYPE, Conflicts, write_metrics
from pylantir.web.ports import Ports, Site


class Monitoring:
    """Answers from what the supervisor and the database say at the moment of the request."""

    def __init__(self, site: Site, ports: Ports) -> None:
        self._site = site
        self._ports = ports

    def metrics(self, _request: Request) -> Response:
        """Answer `/metrics`."""
        written = write_metrics(ask_status(self._ports), self._conflicts(), self._site.machine)
        return Response(written, 200, {"Content-Type": CONTENT_TYPE})

    def readiness(self, _request: Request) -> Response:
        """Answer `/readyz`."""
        reasons = reasons_against(ask_status(self._ports))
        return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    def _conflicts(self) -> Conflicts | None:
        try:
            return self._ports.count_conflicts()
        except StoreError:
            return None


def answer_alive(_request: Request) -> Response:
    """Answer `/healthz`: the process answers."""
    return PlainTextResponse("ok\n")
