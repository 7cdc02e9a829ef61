"""A REDCap server on loopback: tokens, errors, exports, date ranges in its own time, and all that goes wrong.

`with RedcapServer() as server:` serves `server.records`; `server.faults` are worked off one per request. After
`server.shut_down()` nobody answers until `server.come_back()`.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

from ports import free_port

TOKEN = "0123456789ABCDEF0123456789ABCDEF"
STRUCTURE = ("redcap_event_name", "redcap_repeat_instrument", "redcap_repeat_instance")
Row = dict[str, object]


def field(name: str, form: str, field_type: str = "text", choices: str = "") -> Row:
    return {
        "field_name": name,
        "form_name": form,
        "field_type": field_type,
        "field_label": name,
        "select_choices_or_calculations": choices,
    }


CPIP_METADATA = [
    field("record_id", "demographics"),
    field("study_id", "demographics"),
    field("family_id", "demographics"),
    field("youth_dob_y", "demographics"),
    field("demo_sex", "demographics", "radio", "1, Male | 2, Female | 3, Prefer not to say"),
    field("allergies", "demographics", "checkbox", "1, Latex | 2, Gadolinium | -9, Other"),
    field("mri_instance", "mri"),
    field("mri_date", "mri"),
    field("mri_time", "mri"),
    field("mri_accession", "mri"),
    field("t1_date", "mri"),
]


def base_row(record: str, **values: str) -> Row:
    return {"record_id": record, "redcap_repeat_instrument": "", "redcap_repeat_instance": "", **values}


def mri_row(record: str, instance: int, **values: str) -> Row:
    return {"record_id": record, "redcap_repeat_instrument": "mri", "redcap_repeat_instance": instance, **values}


class RedcapServer:
    """One project. Change it while it runs with `put` and `delete`; `requests` are the form fields that came in."""

    def __init__(self, metadata: list[Row] | None = None, certificate: ssl.SSLContext | None = None) -> None:
        self.metadata = CPIP_METADATA if metadata is None else metadata
        self.records: dict[str, list[Row]] = {}
        self.changed: dict[str, float] = {}
        self.requests: list[dict[str, str]] = []
        self.connections = 0
        self.faults: list[str] = []
        self.retry_after = "1"
        self.hidden: set[str] = set()
        self.missing_data_codes: str | None = None  # as old versions of REDCap, which do not know the question
        self.most_records: int | None = None
        self.clock_offset_s = 0.0
        self.time_zone: datetime.tzinfo | None = None
        self.released = threading.Event()
        self.open: set[socket.socket] = set()
        self._certificate = certificate
        # It comes back at the same port.
        self._http = self._listen(free_port())
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self._http.server_address[1]}/api/"

    def __enter__(self) -> RedcapServer:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        if self._thread.is_alive():
            self.shut_down()

    def shut_down(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def come_back(self) -> None:
        self._http = self._listen(int(self._http.server_address[1]))
        self.__enter__()

    def _listen(self, port: int) -> ThreadingHTTPServer:
        http = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
        http.daemon_threads = True
        http.project = self  # type: ignore[attr-defined]
        if self._certificate is not None:
            http.socket = self._certificate.wrap_socket(http.socket, server_side=True)
        return http

    def put(self, *rows: Row, changed_s_ago: float = 0.0) -> None:
        """Replace a record by these rows."""
        record = str(rows[0][str(self.metadata[0]["field_name"])])
        self.records[record] = list(rows)
        self.changed[record] = self.now() - changed_s_ago

    def delete(self, record: str) -> None:
        del self.records[record]

    def now(self) -> float:
        return time.time() + self.clock_offset_s

    def local(self, moment: float) -> str:
        return (
            datetime.datetime.fromtimestamp(moment, datetime.UTC)
            .astimezone(self.time_zone)
            .strftime("%Y-%m-%d %H:%M:%S")
        )

    def contents(self) -> list[str]:
        """Say what was asked for: "metadata", "changed", "ids", "records"."""
        return [
            request["content"]
            if request["content"] != "record"
            else "records"
            if "records[0]" in request
            else "changed"
            if "dateRangeBegin" in request
            else "ids"
            for request in self.requests
            if request["content"] != "project"
        ]

    def export(self, form: dict[str, str]) -> list[Row]:
        fields = _indexed(form, "fields")
        known = {str(row["field_name"]): row for row in self.metadata}
        completions = {f"{row['form_name']}_complete" for row in self.metadata}
        if wrong := [name for name in fields if name not in known and name not in completions]:
            told = ", ".join(f"'{name}'" for name in wrong)
            raise _RefusedError(400, f'The following values in the parameter "fields" are not valid: {told}')
        wanted = _indexed(form, "records")
        if self.most_records is not None and len(wanted) > self.most_records:
            raise _RefusedError(500, "REDCap ran out of server memory.")
        begin = form.get("dateRangeBegin", "")
        chosen = [
            record
            for record in (wanted or self.records)
            if record in self.records and (not begin or self.local(self.changed[record]) >= begin)
        ]
        columns = [column for name in fields for column in _columns(known.get(name), name) if name not in self.hidden]
        structure = [name for name in STRUCTURE if any(name in row for rows in self.records.values() for row in rows)]
        return [
            {name: row.get(name, "") for name in dict.fromkeys([columns[0], *structure, *columns])}
            for record in chosen
            for row in self.records[record]
        ]


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _indexed(form: dict[str, str], name: str) -> list[str]:
    return [value for key, value in form.items() if key.startswith(f"{name}[")]


def _columns(meta: Row | None, name: str) -> Iterator[str]:
    if meta is None or meta["field_type"] != "checkbox":
        yield name
        return
    for choice in str(meta["select_choices_or_calculations"]).split("|"):
        yield f"{name}___{choice.partition(',')[0].strip().replace('-', '_')}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet

    def setup(self) -> None:
        super().setup()
        self.server.project.connections += 1  # type: ignore[attr-defined]
        self.server.project.open.add(self.connection)  # type: ignore[attr-defined]

    def finish(self) -> None:
        self.server.project.open.discard(self.connection)  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            super().finish()

    def do_POST(self) -> None:
        project: RedcapServer = self.server.project  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {key: values[0] for key, values in parse_qs(body, keep_blank_values=True).items()}
        project.requests.append(form)
        is_about_the_project = form.get("content") == "project"
        fault = project.faults.pop(0) if project.faults and not is_about_the_project else ""
        try:
            status, answer = 200, json.dumps(self._answer(project, form, fault)).encode()
        except _RefusedError as refusal:
            status, answer = refusal.status, json.dumps({"error": str(refusal)}).encode()
        if fault == "silence":
            project.released.wait()
        elif fault == "disconnect":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "cut":
            self._send(project, status, answer[: len(answer) // 2], length=len(answer))
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "cut chunked":
            self._send(project, status, answer[: len(answer) // 2], length=None)
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "empty":
            self._send(project, 200, b"")
        elif fault == "nothing":
            self._send(project, 200, b"[]")
        elif fault == "html":
            self._send(project, 200, b"<!DOCTYPE html><title>Maintenance</title>", kind="text/html")
        elif fault.startswith("page "):
            self._send(project, int(fault[5:]), b"<html>Blocked by the firewall</html>", kind="text/html")
        elif fault == "redirect":
            self._send(project, 302, b"", extra={"Location": "http://127.0.0.1:1/elsewhere/"})
        elif fault.isdecimal():
            self._send(project, int(fault), b'{"error":"try later"}', extra={"Retry-After": project.retry_after})
        else:
            self._send(project, status, answer)

    def _answer(self, project: RedcapServer, form: dict[str, str], fault: str) -> object:
        if form.get("token") != TOKEN:
            raise _RefusedError(403, "You do not have permissions to use the API")
        if fault == "error in 200":
            return {"error": f"The token {TOKEN} is tired"}
        if form["content"] == "metadata":
            return project.metadata
        if form["content"] == "project" and project.missing_data_codes is not None:
            return {"project_id": 1, "missing_data_codes": project.missing_data_codes}
        if form["content"] == "record":
            return project.export(form)
        raise _RefusedError(400, 'The value of the parameter "content" is not valid')

    def _send(
        self,
        project: RedcapServer,
        status: int,
        body: bytes,
        *,
        length: int | None = -1,
        kind: str = "application/json",
        extra: dict[str, str] | None = None,
    ) -> None:
        self.send_response_only(status)
        self.send_header("Date", email.utils.formatdate(project.now(), usegmt=True))
        self.send_header("Content-Type", kind)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
            body = f"{len(body):x}\r\n".encode() + body + b"\r\n"
        else:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
