"""Keeps each scanner's last query in memory for `pylantir explain --last`, for the titles that asked most recently.

Lives in the server process. Association threads pass each query through here to the service that answers it; the main
loop returns the last query of one title, or an overview of all. Queries contain patient data: they are neither stored
nor logged. This module also counts the queries and the time that their answers took.
"""

from __future__ import annotations

import base64
import datetime
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from pylantir.dicom.net.commands import Ending
from pylantir.dicom.net.negotiation import AcceptedContext, AssociationRequest
from pylantir.dicom.net.refusals import Peer
from pylantir.dicom.net.services import FindExchange
from pylantir.ipc.tally import Tally

MAX_TITLES = 64
MAX_IDENTIFIER_BYTES = 16 * 1024
"""A longer identifier is not kept; no scanner sends one."""


class LastQueries:
    """The last query of each calling AE title."""

    def __init__(self, answer: Callable[[FindExchange], None], tally: Tally) -> None:
        """Prepare to keep queries.

        Args:
            answer: The service that answers queries.
            tally: Takes the counts.
        """
        self._answer = answer
        self._tally = tally
        self._lock = threading.Lock()
        self._last: OrderedDict[str, dict[str, object]] = OrderedDict()

    def answer(self, exchange: FindExchange) -> None:
        """Let the service answer a query, and keep it."""
        asked_at, began = datetime.datetime.now(datetime.UTC), time.monotonic()
        observed = _Observed(exchange)
        try:
            self._answer(observed)
        finally:
            facts = _describe(observed, asked_at)
            title, status = self._tally.known(exchange.caller), observed.ending.status if observed.ending else None
            self._tally.count("pylantir_find", title, "abandoned" if status is None else f"{status:04X}")
            self._tally.note("pylantir_find_duration_seconds", time.monotonic() - began, title)
            with self._lock:
                self._last[exchange.caller] = facts
                self._last.move_to_end(exchange.caller)
                if len(self._last) > MAX_TITLES:
                    self._last.popitem(last=False)

    def of(self, title: str) -> Mapping[str, object] | None:
        """Return a title's last query; None: the title has not asked since the server started."""
        with self._lock:
            return self._last.get(title)

    def overview(self) -> Mapping[str, Mapping[str, object]]:
        """Return the last query of every title without its contents, the most recent one last."""
        with self._lock:
            return {
                title: {name: facts[name] for name in ("at", "address", "matches", "status")}
                for title, facts in self._last.items()
            }

    def forget(self) -> None:
        """Forget all queries: one of them may name a patient who was erased."""
        with self._lock:
            self._last.clear()


class _Observed(FindExchange):
    """A query that counts its answers."""

    def __init__(self, exchange: FindExchange) -> None:
        self.peer: Peer = exchange.peer
        self.caller: str = exchange.caller
        self.request: AssociationRequest = exchange.request
        self.context: AcceptedContext = exchange.context
        self.identifier: bytes = exchange.identifier
        self.explicit_vr: bool = exchange.explicit_vr
        self.sent = 0
        self.pending_status: int | None = None
        self.ending: Ending | None = None
        self._exchange = exchange

    def send(self, identifiers: Sequence[bytes], status: int) -> None:
        self.sent += len(identifiers)
        self.pending_status = status
        self._exchange.send(identifiers, status)

    def conclude(self, ending: Ending) -> bool:
        is_sent = self._exchange.conclude(ending)
        self.ending = ending if is_sent else None
        return is_sent

    def is_cancelled(self) -> bool:
        return self._exchange.is_cancelled()

    def is_over(self) -> bool:
        return self._exchange.is_over()


def _describe(query: _Observed, asked_at: datetime.datetime) -> dict[str, object]:
    request, ending = query.request, query.ending
    is_kept = len(query.identifier) <= MAX_IDENTIFIER_BYTES
    return {
        "at": asked_at.isoformat(timespec="seconds"),
        "address": query.peer.host,
        "calling": request.calling,
        "called": request.called,
        "implementation_class": request.implementation_class,
        "implementation_version": request.implementation_version,
        "max_length": request.max_length,
        "transfer_syntax": query.context.transfer_syntax,
        "explicit_vr": query.explicit_vr,
        "identifier": base64.b64encode(query.identifier).decode("ascii") if is_kept else None,
        "matches": query.sent,
        "pending_status": query.pending_status,
        "status": ending.status if ending else None,
        "comment": ending.comment if ending else "the scanner did not wait for the end",
    }
