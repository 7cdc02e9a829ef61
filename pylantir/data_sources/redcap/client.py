"""Sends requests to REDCap: PyCap builds them, our own HTTP session sends and repeats them within a time limit.

Lives in the worker of a REDCap source. In: what to export; out: rows as dictionaries of text, record IDs.
Knows nothing of worklists. The token is in the request's body alone, never in a message.

Source: the API as REDCap documents it under /api/help, PyCap 2.7.
"""

from __future__ import annotations

import datetime
import email.utils
import itertools
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import requests
import urllib3
from redcap.project import Project

from pylantir.data_sources.connection_trouble import describe_trouble, place_of, proxy_of
from pylantir.data_sources.redcap.answers import (
    OUT_OF_MEMORY,
    RedcapError,
    RedcapRefused,
    Row,
    TooMuchError,
    TransientError,
    error_text,
    iter_rows,
    read_records,
    read_rows,
)
from pylantir.data_sources.redcap.ids import RecordIds
from pylantir.data_sources.redcap.options import RedcapAccess
from pylantir.data_sources.redcap.project import VALIDATION, read_choices
from pylantir.errors import SourceUnavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

_RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 30.0
_LONGEST_REST_S = 3600.0
_CHUNK_BYTES = 65536
_USER_INFO = re.compile(r"//[^/\s]*@")
_METADATA_KEYS = ("field_name", "form_name", "field_type", "select_choices_or_calculations", VALIDATION)


class _PyCapProject(Project):
    """PyCap's project on our transport; for records it only builds the request, which we read as a stream."""

    def __init__(self, url: str, token: str, send: Callable[[Row], list[Row]]) -> None:
        super().__init__(url, token)
        self._send = send

    def _call_api(self, payload: Row, return_type: str, file: object = None) -> Any:
        return payload if payload["content"] == "record" else self._send(payload)


class RedcapClient:
    """One project's API. A request is repeated until it succeeds, is refused, or the time limit is reached."""

    def __init__(
        self,
        access: RedcapAccess,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._access = access
        self._clock, self._monotonic, self._sleep = clock, monotonic, sleep
        self._session = requests.Session()
        self._skew_s = 0.0
        self._rest_until = 0.0
        self.forget_metadata()
        self.renew_patience()
        if access.verify is False:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            logger.warning('REDCap: "verify": false: anybody on the way can read the token and change the data')

    def renew_patience(self) -> None:
        """Restart the time limit after which a request is given up."""
        self._deadline = self._monotonic() + self._access.patience_s

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def server_time(self) -> datetime.datetime:
        """Say what the server's clock shows now (UTC), by the Date header of its last answer."""
        return datetime.datetime.fromtimestamp(self._clock() + self._skew_s, datetime.UTC)

    def metadata(self) -> list[Row]:
        """Give the project's fields in order, the record ID first; asked once until `forget_metadata`."""
        fields: list[Row] = self._project.metadata
        if not fields:
            raise RedcapRefused(self._message("shows no fields: the project is empty, or the token's user sees none"))
        return fields

    def missing_codes(self) -> frozenset[str]:
        """Return the project's missing data codes; none if REDCap does not report them, as in old versions."""
        payload = {"token": self._access.token, "content": "project", "format": "json", "returnFormat": "json"}
        try:
            (about,) = self._send(payload, lambda chunks: read_rows([b"[", *chunks, b"]"]))
        except RedcapRefused:
            return frozenset()
        return frozenset(read_choices(str(about.get("missing_data_codes") or "")))

    def forget_metadata(self) -> None:
        """Ask for the metadata again at the next request."""
        self._project = _PyCapProject(self._access.url, self._access.token, self._send_for_metadata)

    def record_ids(self, changed_since: datetime.datetime | None = None) -> RecordIds:
        """List the records, or those that were created or changed since a time.

        Args:
            changed_since: In the server's local time, without a zone.
        """
        self.metadata()  # before the export, so that its failure can be told apart from the export's
        name = self._project.def_field
        payload = self._project.export_records(fields=[name], date_begin=changed_since)

        def collect(chunks: Iterable[bytes]) -> RecordIds:
            ids = RecordIds()
            for row in iter_rows(chunks):
                if row.get(name) in {None, ""}:
                    raise RedcapError(
                        f'the export lacks "{name}", the record ID; check the rights of the token\'s user'
                    )
                ids.add(str(row[name]))
            return ids

        return self._send(payload, collect)

    def rows(self, records: Sequence[str], fields: Sequence[str], *, with_groups: bool = False) -> list[Row]:
        """Export whole records; asks for fewer at a time when REDCap runs out of memory, or its answer is too large.

        Args:
            records: Record IDs.
            fields: Names as in the metadata; the record ID comes always.
            with_groups: Also the data access group of each row.
        """
        payload = self._project.export_records(
            records=list(records), fields=list(fields), export_data_access_groups=with_groups
        )
        try:
            return self._send(payload, read_records, divisible=len(records) > 1)
        except TooMuchError as failure:
            half = len(records) // 2
            logger.warning("REDCap: %s, over %d records; asking for fewer", failure, len(records))
            parts = (records[:half], records[half:])
            return [row for part in parts for row in self.rows(part, fields, with_groups=with_groups)]

    def _send_for_metadata(self, payload: Row) -> list[Row]:
        rows = self._send(payload, read_rows)
        return [{key: row.get(key, "") for key in _METADATA_KEYS} for row in rows]

    def _send(self, payload: Row, read: Callable[[Iterable[bytes]], T], *, divisible: bool = False) -> T:
        if (rest_s := self._rest_until - self._monotonic()) > 0:
            raise SourceUnavailable(self._message(f"asked for a pause (Retry-After); {rest_s:.0f} s are left"))
        for attempt in itertools.count(1):
            try:
                return self._attempt(payload, read)
            except TransientError as failure:
                if divisible and isinstance(failure, TooMuchError):
                    raise
                delay_s = max(failure.retry_after_s, retry_delay_s(attempt))
                if self._monotonic() + delay_s >= self._deadline:
                    self._rest_until = self._monotonic() + min(failure.retry_after_s, _LONGEST_REST_S)
                    times = "once" if attempt == 1 else f"{attempt} times"
                    raise SourceUnavailable(self._message(f"{failure}; asked {times}")) from None
                logger.warning("%s; asking again in %.1f s", self._message(str(failure)), delay_s)
                self._sleep(delay_s)
        raise AssertionError

    def _attempt(self, payload: Row, read: Callable[[Iterable[bytes]], T]) -> T:
        """Send a request once.

        Raises:
            TransientError: The answer did not arrive, was incomplete, or was not in JSON.
            RedcapRefused: REDCap refused the request.
        """
        timeout_s = max(0.1, min(self._access.timeout_s, self._deadline - self._monotonic()))
        try:
            # No redirects: they turn a POST into a GET, or carry the token to another server.
            with self._session.post(
                self._access.url,
                data=payload,
                timeout=timeout_s,
                verify=self._access.verify,
                stream=True,
                allow_redirects=False,
            ) as response:
                self._note_server_time(response.headers.get("Date"))
                chunks = self._chunks(response)
                if response.status_code != requests.codes.ok:
                    self._refuse(response, chunks)
                try:
                    return read(chunks)
                except RedcapError as error:
                    raise RedcapRefused(self._message(f"refuses: {error}")) from None
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
            raise TransientError(f"no answer for {timeout_s:.0f} s") from None
        except (requests.exceptions.ConnectionError, urllib3.exceptions.HTTPError) as error:
            trouble = describe_trouble(error, self._access.url, timeout_s)
            if trouble.lasts:
                raise RedcapRefused(self._message(trouble.text)) from None
            raise TransientError(trouble.text) from None
        except (requests.exceptions.RequestException, OSError, ValueError) as error:
            # OSError: the file of ca_bundle does not exist. ValueError: a redirect, or a proxy, to no address.
            said = _USER_INFO.sub("//", str(error))
            raise SourceUnavailable(self._message(f"cannot be asked: {said}")) from None

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            yield chunk
            if self._monotonic() > self._deadline:
                raise TransientError("the answer takes too long")

    def _note_server_time(self, date: str | None) -> None:
        try:
            sent = email.utils.parsedate_to_datetime(date or "")
        except ValueError:
            return
        self._skew_s = sent.timestamp() - self._clock()

    def _refuse(self, response: requests.Response, chunks: Iterator[bytes]) -> None:
        body = next(chunks, b"")
        status = response.status_code
        text = error_text(body)
        told = f"HTTP {status}" + (f": {text}" if text else "")
        if OUT_OF_MEMORY.search(body):
            raise TooMuchError(f"{told}; out of memory")
        if status in _RETRIED_STATUSES:
            raise TransientError(told, _seconds(response.headers.get("Retry-After")))
        if response.is_redirect:
            target = place_of(response.headers.get("Location", ""))
            advice = f"redirects elsewhere ({target}); set api_url to the address of REDCap's API"
        elif status in {401, 403} and text:
            advice = (
                f"refuses the token in {self._access.token_env}; check that it is current and has API Export rights"
            )
        elif status == 407:
            advice = f"is not reached: the proxy {proxy_of(self._access.url)} wants a user and a password"
        elif status in {401, 403}:
            # REDCap gives its reasons in JSON or XML; a page comes from something else, such as a proxy.
            advice = "is not reached: a page that is not REDCap's refuses the request (a firewall, a proxy, a login?)"
        elif status == 404:
            advice = "does not know this address; check api_url"
        else:
            advice = "refuses the request; check field_mapping and the rights of the token's user"
        raise RedcapRefused(self._message(f"{advice} ({told})"))

    def _message(self, text: str) -> str:
        return f"REDCap ({self._access.url}): {text.replace(self._access.token, '***')}"


def retry_delay_s(attempt: int) -> float:
    """Say how long to pause after this many failed attempts: half a second, doubled each time, up to 30 s."""
    return float(min(_FIRST_DELAY_S * 2 ** min(attempt - 1, 16), _LONGEST_DELAY_S))


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
