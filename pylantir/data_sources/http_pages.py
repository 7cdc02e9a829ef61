"""Fetches pages of an HTTP server: whole, within limits, and from the configured origin only.

Lives in the worker of a JSON source with a `url`. In: an address and headers, which may hold secrets. Out: one page at
a time, in an unnamed file. Headers go to the origin of the first address alone: a redirect or a next page elsewhere
fails the fetch. Messages name the address without its query, and never a header's value.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import ssl
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pylantir.data_sources.connection_trouble import describe_trouble, place_of, proxy_of
from pylantir.data_sources.formats.file_kind import GZIP, HEAD_BYTES, strange_kind
from pylantir.errors import SourceUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

LARGEST_PAGE_BYTES = 256 << 20
LARGEST_FETCH_BYTES = 2 << 30
MOST_PAGES = 10_000
LONGEST_REST_S = 3600.0
_CHUNK_BYTES = 1 << 16
_LONGEST_PAGE_FACTOR = 4
_ASK_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
_DEFAULT_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAccess:
    """Where the pages are, and how patient to be with the server.

    Attributes:
        url: The first page; http or https.
        headers: Name -> value; may hold secrets.
        timeout_s: Longest silence of the server, in seconds; a page may take four times as long as a whole.
        ca_bundle: PEM file of the authorities that vouch for the server; empty: those of the machine.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 60.0
    ca_bundle: str = ""


class HttpPages:
    """Fetches the pages of one server, one after the other."""

    def __init__(
        self,
        access: HttpAccess,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._access = access
        self._monotonic, self._clock = monotonic, clock
        self._rest_until = 0.0
        self._seen: set[str] = set()
        self._bytes_left = LARGEST_FETCH_BYTES

    def begin(self) -> str:
        """Begin a fetch; give the address of its first page.

        Raises:
            SourceUnavailable: The server has asked to be left alone until later.
        """
        if (rest_s := self._rest_until - self._monotonic()) > 0:
            raise self.unavailable(
                self._access.url, f"has asked for a pause (Retry-After); {rest_s:.0f} s of it are left"
            )
        self._seen = {_without_fragment(self._access.url)}
        self._bytes_left = LARGEST_FETCH_BYTES
        return self._access.url

    def next_address(self, page: str, given: object) -> str:
        """Say where the next page is.

        Args:
            page: The address of this page.
            given: What it says about the next one; None, false or empty ends the fetch.

        Raises:
            SourceUnavailable: It is no address, leads to another origin, or to a page that was fetched already.
        """
        if given is None or given == "" or given is False:
            return ""
        if not isinstance(given, str):
            raise self.unavailable(page, f'"next" leads to a value of type {type(given).__name__}, not to an address')
        try:
            address = _without_fragment(urllib.parse.urljoin(page, given.strip()))
            elsewhere = origin_of(address) != origin_of(self._access.url)
        except ValueError:
            raise self.unavailable(page, 'what "next" leads to is no http or https address') from None
        if elsewhere:
            raise self.unavailable(
                page, f"the next page is on another server ({place_of(address)}); nothing is asked there"
            )
        if address in self._seen:
            raise self.unavailable(page, "the next page is one that was fetched already: the pages go in a circle")
        if len(self._seen) >= MOST_PAGES:
            raise self.unavailable(page, f'more than {MOST_PAGES} pages; does "next" ever end?')
        self._seen.add(address)
        return address

    @contextlib.contextmanager
    def fetch(self, address: str) -> Iterator[BinaryIO]:
        """Fetch a page whole, and give it as an open file.

        Raises:
            SourceUnavailable: The page does not arrive, is incomplete, or is no document.
        """
        with tempfile.TemporaryFile() as spooled:
            try:
                self._download(address, spooled)
            except urllib.error.HTTPError as error:
                with error:
                    raise self._refused(address, error) from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                trouble = describe_trouble(error, address, self._access.timeout_s)
                raise self.unavailable(address, trouble.text) from None
            with contextlib.closing(self._unpacked(address, spooled)) as page:
                head = page.read(HEAD_BYTES)
                page.seek(0)
                if strange := strange_kind(head):
                    raise self.unavailable(address, f"what it answers {strange}")
                yield page

    def unavailable(self, address: str, reason: str) -> SourceUnavailable:
        """Make the exception that says why the fetch failed."""
        return SourceUnavailable(f"{place_of(address)}: {reason}")

    def _download(self, address: str, into: BinaryIO) -> None:
        deadline = self._monotonic() + self._access.timeout_s * _LONGEST_PAGE_FACTOR
        request = urllib.request.Request(address, headers={"Accept": "application/json", **self._access.headers})  # noqa: S310 - http or https, checked
        opener = urllib.request.build_opener(
            _SameOriginRedirects(origin_of(self._access.url)), urllib.request.HTTPSHandler(context=self._tls())
        )
        with opener.open(request, timeout=self._access.timeout_s) as response:
            if response.status != http.client.OK:
                raise self.unavailable(address, f"answers HTTP {response.status}; expected 200")
            announced = response.headers.get("Content-Length", "")
            size = 0
            while block := response.read1(_CHUNK_BYTES):
                size += len(block)
                if size > min(LARGEST_PAGE_BYTES, self._bytes_left):
                    raise self.unavailable(address, "the answer is too large; let the server give it in pages")
                if self._monotonic() > deadline:
                    raise TimeoutError
                into.write(block)
            if announced.isdecimal() and size < int(announced):
                raise http.client.IncompleteRead(b"")
            self._bytes_left -= size
        into.seek(0)

    def _unpacked(self, address: str, spooled: BinaryIO) -> BinaryIO:
        """Decompress a page; some servers compress without being asked."""
        head = spooled.read(len(GZIP))
        spooled.seek(0)
        if head != GZIP:
            return spooled
        import gzip
        import zlib

        unpacked, size = tempfile.TemporaryFile(), 0  # noqa: SIM115 - the caller closes it
        try:
            with gzip.GzipFile(fileobj=spooled) as packed:
                while block := packed.read1(_CHUNK_BYTES):
                    size += len(block)
                    if size > LARGEST_PAGE_BYTES:
                        raise self.unavailable(address, "the answer is too large once it is unpacked")
                    unpacked.write(block)
        except (EOFError, OSError, zlib.error):
            unpacked.close()
            raise self.unavailable(address, "the answer is cut short or damaged (gzip)") from None
        except SourceUnavailable:
            unpacked.close()
            raise
        unpacked.seek(0)
        return unpacked

    def _tls(self) -> ssl.SSLContext:
        bundle = self._access.ca_bundle
        try:
            return ssl.create_default_context(cafile=bundle or None)
        except OSError as error:
            reason = "holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
            raise self.unavailable(self._access.url, f"ca_bundle {bundle} cannot be used: {reason}") from None

    def _refused(self, address: str, error: urllib.error.HTTPError) -> SourceUnavailable:
        status = error.code
        is_page = "html" in error.headers.get("Content-Type", "").lower()
        if status in _ASK_LATER:
            rest_s = min(_seconds(error.headers.get("Retry-After"), self._clock()), LONGEST_REST_S)
            self._rest_until = self._monotonic() + rest_s
            advice = f"asks for a pause of {rest_s:.0f} s" if rest_s else "cannot answer now; it is asked again later"
        elif status == 407:
            advice = f"the proxy {proxy_of(address)} wants a user and a password"
        elif status == 403 and is_page:
            advice = "an HTML page refuses the request: a firewall or proxy perhaps, before the server is reached"
        elif status in {401, 403}:
            advice = "refuses the request; check headers: are the variables that they name current?"
        elif status in {404, 410}:
            advice = "does not know this address; check url"
        elif 300 <= status < 400:
            advice = self._describe_redirect(address, error.headers.get("Location", ""))
        else:
            advice = "refuses the request; check url and headers"
        return self.unavailable(address, f"{advice} (HTTP {status})")

    def _describe_redirect(self, address: str, target: str) -> str:
        try:
            within = origin_of(urllib.parse.urljoin(address, target)) == origin_of(self._access.url)
        except ValueError:
            within = False
        if target and within:
            return "redirects in a circle; is url the address of the data, or of a page to log in?"
        return f"redirects elsewhere ({place_of(target) or 'nowhere'}); set url to where the data are"


class _SameOriginRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects within one origin only, because the headers would be sent along."""

    max_redirections = 5
    max_repeats = 2

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: object,
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        try:
            same = origin_of(newurl) == self._origin
        except ValueError:
            same = False
        # None: the redirect itself becomes the answer, and the error.
        return super().redirect_request(req, fp, code, msg, headers, newurl) if same else None  # type: ignore[arg-type]


def origin_of(address: str) -> Origin:
    """Give scheme, host and port of an address.

    Raises:
        ValueError: It is neither http nor https, or names no host.
    """
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None:
        raise ValueError("expected an http or https address without user and password")
    return parts.scheme, parts.hostname.lower(), parts.port or _DEFAULT_PORTS[parts.scheme]


def _without_fragment(address: str) -> str:
    return urllib.parse.urldefrag(address).url


def _seconds(retry_after: str | None, now: float) -> float:
    """Read a Retry-After header, in seconds or as a date."""
    text = (retry_after or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return 0.0
