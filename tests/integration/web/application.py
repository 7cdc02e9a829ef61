"""The web application on a real database, without a process around it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from starlette.testclient import TestClient
from worklist_store import RULES, Feed, Record

from pylantir.errors import ControlError
from pylantir.mpps.model import MppsAnswer, MppsRequest
from pylantir.settings import AccessSettings, DicomSettings, HttpSettings
from pylantir.store.change.reports import record_report
from pylantir.store.schema.engine import open_for_reading, open_for_writing
from pylantir.store.schema.upgrade import prepare_database
from pylantir.web.application import make_application
from pylantir.web.ports import Ports, Site
from pylantir.web.shown import Shown
from workers.child.accesses import AccessBuffer
from workers.web.readings import Readings, make_ports


class Application:
    """What clients ask, and what stands behind it."""

    def __init__(self, folder: Path, records: Sequence[Record], *, dicom: DicomSettings, **http: Any) -> None:
        self.url = f"sqlite:///{folder / 'worklist.db'}"
        self.writer: Engine = open_for_writing(self.url)
        prepare_database(self.writer)
        Feed(self.writer, "ris").sync(*records)
        self.reader = open_for_reading(self.url)
        self.shown: list[Shown] = []
        readings = Readings(self.reader, folder, AccessBuffer(AccessSettings()))
        ports: Ports = make_ports(readings, self._report, own_only=False)
        ports = replace(ports, status=self._no_supervisor, note_shown=self.shown.append)
        site = Site(http=HttpSettings(**http), dicom=dicom, machine="here")
        self.client = TestClient(make_application(site, ports), base_url="http://127.0.0.1")
        self.client.__enter__()

    def _report(self, request: MppsRequest) -> MppsAnswer:
        now = datetime.datetime.now(datetime.UTC)
        return record_report(self.writer, request, RULES, strict=False, now=now, today=f"{now:%Y%m%d}")

    def _no_supervisor(self) -> Any:
        raise ControlError("there is none")

    def close(self) -> None:
        self.client.__exit__()
        self.reader.dispose()
        self.writer.dispose()
