"""An installation that serves pages, DICOMweb and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from installation import Installation, csv_source
from ports import free_port
from waiting import steady_today

PATIENTS = ["P1", "P2", "P3"]


class WebSite:
    """The installation and a client for it."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.http_port = free_port()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.http_port}", timeout=20)

    def start(self, *, date: str = "", **http: Any) -> None:
        """Serve the patients of a day, today unless said otherwise."""
        day = date or steady_today().isoformat()
        self.installation.write_csv("a.csv", PATIENTS, day)
        modalities = http.pop("modalities", [])
        section = {"port": self.http_port, **http}
        self.installation.configure(csv_source("a", "a.csv"), http=section, modalities=modalities)
        self.installation.start()


@pytest.fixture
def site(installation: Installation) -> Iterator[WebSite]:
    made = WebSite(installation)
    yield made
    made.client.close()
    # In order, so that what the processes have run is counted, too.
    if installation.supervisor and installation.supervisor.poll() is None:
        assert installation.terminate() == 0
