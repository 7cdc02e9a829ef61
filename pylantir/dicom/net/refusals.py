"""Logs and counts refused and aborted associations; a peer cannot flood the log.

Lives in the server process. Who was refused and why comes in. The same reason from the same address is logged at most
once a minute; another reason is logged at once, and so is what else was wrong with a message. Every refusal is counted
by its reason.
"""

from __future__ import annotations

import enum
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

EVERY_S = 60.0
MAX_REMEMBERED = 1024
"""How many pairs of address and reason are kept; the one that was logged longest ago is dropped first."""
MAX_KINDS = 20
"""How many different mistakes are logged for one address and reason in a minute."""
_GIVEN = re.compile(r"\"[^\"]*\"|'[^']*'|[0-9A-F]{8}|\d+")
"""Matches the values that a peer can put into a text: the same mistake with another value counts as the same."""


class Reason(enum.StrEnum):
    """Why an association or a message was refused or aborted. Few and fixed: they are the keys of `refusals`."""

    HOST = "host not allowed"
    NO_DICOM = "no DICOM"
    UNREADABLE_REQUEST = "unreadable association request"
    TOO_SLOW = "too slow"
    TLS = "TLS"
    CERTIFICATE = "certificate"
    PROTOCOL_VERSION = "protocol version"
    APPLICATION_CONTEXT = "application context"
    CALLING_TITLE = "calling AE title"
    CALLED_TITLE = "called AE title"
    CONTEXTS = "presentation contexts"
    NO_PLACE = "no place"
    GAVE_WAY = "gave way to a configured scanner"
    PROTOCOL = "protocol"
    LIMIT = "limit"
    IDLE = "idle"
    MESSAGE = "message"
    ABORTED_BY_PEER = "aborted by the peer"
    CONNECTION_LOST = "connection lost"
    STOPPING = "stopping"
    INTERNAL = "internal error"


ORDINARY = frozenset({Reason.IDLE, Reason.ABORTED_BY_PEER, Reason.CONNECTION_LOST, Reason.STOPPING})
"""What happens every day in a hospital: INFO, not WARNING."""
_AT_THE_SCANNER = "this is a fault of the device: ask its maker, with the line of `pylantir-supervisor log mwl-scp`"
ADVICE: Mapping[Reason, str] = {
    Reason.HOST: "add the address to dicom.allowed_hosts if it may ask, then `pylantir-supervisor reload`",
    Reason.NO_DICOM: "look at the port that the device is set to: it is no DICOM worklist that it looks for",
    Reason.UNREADABLE_REQUEST: _AT_THE_SCANNER,
    Reason.TOO_SLOW: "look at the network between the two; a connection is given 10 s to ask for an association",
    Reason.TLS: "switch TLS on, or off, on both sides, and compare the certificates: see the guide DICOM over TLS",
    Reason.CERTIFICATE: "correct modalities[].certificate, or give the scanner the certificate that stands there",
    Reason.PROTOCOL_VERSION: _AT_THE_SCANNER,
    Reason.APPLICATION_CONTEXT: _AT_THE_SCANNER,
    Reason.CALLING_TITLE: "correct the scanner's own AE title there, or allowed_aet and modalities here; then reload",
    Reason.CALLED_TITLE: "correct the server's AE title at the scanner, or dicom.ae_title here; then reload",
    Reason.CONTEXTS: "point the scanner's worklist or MPPS at this server, and its other services at another one",
    Reason.NO_PLACE: "give the scanner a host in modalities: then it always gets a place",
    Reason.GAVE_WAY: "give the scanner a host in modalities: then it keeps its place",
    Reason.PROTOCOL: _AT_THE_SCANNER,
    Reason.LIMIT: _AT_THE_SCANNER,
    Reason.MESSAGE: "the status and its comment say what was wrong with the request; the association went on",
    Reason.INTERNAL: "this is a fault of Pylantir: `pylantir-supervisor log mwl-scp` has the place in the program",
}
"""What a technician can do about a refusal. What happens every day needs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end: the address, and both AE titles once they have been read.

    Attributes:
        certificate: Subject of the certificate that it showed, by RFC 4514.
    """

    host: str
    calling: str | None = None
    called: str | None = None
    certificate: str | None = None

    def __str__(self) -> str:
        if self.calling is None:
            return self.host
        return f"{self.host} ({shown(self.calling)} calls {shown(self.called or '')})"


def shown(title: str) -> str:
    """Write an AE title for a log line: nothing in it may end the line or act on a terminal."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in title) or "(blank)"


class ProtocolError(Exception):
    """A peer broke a rule. The association is aborted, with the reason in the log."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Refusals:
    """Logs and counts what was refused. May be used from several threads."""

    def __init__(
        self,
        logger: logging.Logger,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_refusal: Callable[[Reason, Peer, str], None] = lambda _reason, _peer, _text: None,
        on_told: Callable[[Reason, Peer, str], None] = lambda _reason, _peer, _text: None,
    ) -> None:
        self._logger = logger
        self._on_told = on_told
        self._on_refusal = on_refusal
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._last: dict[tuple[str, str, str], tuple[float, int]] = {}
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """Reason -> how often, since the server started."""
        with self._lock:
            return dict(self._counts)

    def add(self, reason: Reason, peer: Peer, text: str, *, is_told: bool = False) -> None:
        """Count a refusal, and log it unless the same was logged of this address less than a minute ago.

        Args:
            reason: What is counted.
            peer: Who was refused.
            text: What was wrong, for the log.
            is_told: There is a line in the log already.
        """
        with self._lock:
            self._counts[reason.value] += 1
        self._on_refusal(reason, peer, text)
        if not is_told:
            level = logging.INFO if reason in ORDINARY else logging.WARNING
            if self._tell((peer.host, reason, _GIVEN.sub("", text)), level, peer, text):
                self._on_told(reason, peer, text)

    def tolerate(self, peer: Peer, text: str) -> None:
        """Log, at the same rate, a mistake in a request that was served nevertheless."""
        self._tell((peer.host, "tolerated", text), logging.WARNING, peer, text)

    def _tell(self, key: tuple[str, str, str], level: int, peer: Peer, text: str) -> bool:
        now = self._clock()
        with self._lock:
            if key not in self._last and not self._may_tell_more(*key[:2], now):
                key = (*key[:2], "")
            told_at, untold = self._last.pop(key, (-EVERY_S, 0))
            is_due = now - told_at >= EVERY_S
            self._last[key] = (now, 0) if is_due else (told_at, untold + 1)
            _forget_oldest(self._last)
        if is_due:
            more = f" ({untold} more since the last such line)" if untold else ""
            self._logger.log(level, "connection from %s: %s%s", peer, text, more)
        return is_due

    def _may_tell_more(self, host: str, reason: str, now: float) -> bool:
        """Limit the mistakes that are logged for the first time: a peer with ever new ones cannot fill the log."""
        began_at, kinds = self._kinds.pop((host, reason), (now, 0))
        if now - began_at >= EVERY_S:
            began_at, kinds = now, 0
        self._kinds[host, reason] = (began_at, kinds + 1)
        _forget_oldest(self._kinds)
        return kinds < MAX_KINDS


def _forget_oldest(remembered: dict[Any, Any]) -> None:
    if len(remembered) > MAX_REMEMBERED:
        del remembered[next(iter(remembered))]
