"""Keeps in memory who was refused lately and why, for the page `/scanners` and `pylantir explain --last`.

Lives in the server process. Any thread notes a refusal; the main loop returns them. Each is kept once for an address,
an AE title and a reason, with its last moment and how often it came. Whoever connects chooses the title, so the number
of entries is bounded, and one address with ever new titles displaces its own entries only.
"""

from __future__ import annotations

import datetime
import threading
from collections import Counter

from pylantir.dicom.net.refusals import ADVICE, ORDINARY, Peer, Reason

MAX_ENTRIES = 64
MAX_TEXT = 300


class LastRefusals:
    """The last refusals, the most recent one last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str, Reason], dict[str, object]] = {}
        self._times: Counter[tuple[str, str, Reason]] = Counter()

    def note(self, reason: Reason, peer: Peer, text: str) -> None:
        """Keep a refusal, but for what happens every day."""
        if reason in ORDINARY:
            return
        key = (peer.host, peer.calling or "", reason)
        entry: dict[str, object] = {
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "address": peer.host,
            "calling": peer.calling,
            "called": peer.called,
            "reason": reason.value,
            "text": text[:MAX_TEXT],
            "what_to_do": ADVICE[reason],
        }
        with self._lock:
            self._times[key] += 1
            self._last.pop(key, None)
            self._last[key] = entry
            if len(self._last) > MAX_ENTRIES:
                self._drop_one()

    def tell(self, peer: str | None = None) -> list[dict[str, object]]:
        """Return the refusals, the most recent one first: all, or those of one AE title or address."""
        with self._lock:
            entries = [{**entry, "times": self._times[key]} for key, entry in self._last.items()]
        return [entry for entry in reversed(entries) if peer is None or peer in (entry["calling"], entry["address"])]

    def _drop_one(self) -> None:
        """Drop the oldest entry of the address that has the most."""
        ((host, _),) = Counter(host for host, _, _ in self._last).most_common(1)
        oldest = next(key for key in self._last if key[0] == host)
        del self._last[oldest], self._times[oldest]
