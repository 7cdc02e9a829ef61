"""Keeps a process's counts and durations for `/metrics`; the process sends them to the supervisor.

Lives in any process; any thread may call it. A tally starts at zero with its process. It is bounded: of the labels that
peers choose, it keeps apart those that the configuration names, and the first `MOST_NAMES` others.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

MOST_NAMES = 64
OTHER = "other"
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histograms' buckets, in seconds."""

Labels = tuple[str, ...]


@dataclass(slots=True)
class Histogram:
    """How often something took at most so many seconds (per bucket), and the total time."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0


class Tally:
    """Counters and histograms by name and labels.

    Args:
        configured: Names of peers that always are labels of their own.
    """

    def __init__(self, configured: Collection[str] = ()) -> None:
        self._configured = frozenset(configured)
        self._counts: dict[tuple[str, Labels], int] = {}
        self._histograms: dict[tuple[str, Labels], Histogram] = {}
        self._names: set[str] = set()
        self._lock = threading.Lock()
        self._changed = False

    def count(self, name: str, *labels: str) -> None:
        """Count one more."""
        with self._lock:
            key = name, labels
            self._counts[key] = self._counts.get(key, 0) + 1
            self._changed = True

    def note(self, name: str, seconds: float, *labels: str) -> None:
        """Note how long something took."""
        with self._lock:
            histogram = self._histograms.setdefault((name, labels), Histogram())
            histogram.buckets[bisect_left(BOUNDS_S, seconds)] += 1
            histogram.sum_s += seconds
            self._changed = True

    def known(self, name: str) -> str:
        """Return a peer's name as a label: the name itself, or `other` if there are too many strangers already."""
        if name in self._configured:
            return name
        with self._lock:
            if name not in self._names and len(self._names) >= MOST_NAMES:
                return OTHER
            self._names.add(name)
            return name

    def take_news(self) -> dict[str, object] | None:
        """Return the tally for the supervisor if anything has changed since the last call."""
        with self._lock:
            if not self._changed:
                return None
            self._changed = False
            return {
                "counts": [[name, list(labels), value] for (name, labels), value in self._counts.items()],
                "histograms": [
                    [name, list(labels), list(one.buckets), one.sum_s]
                    for (name, labels), one in self._histograms.items()
                ],
            }


def counts_in(tally: Mapping[str, object], name: str) -> Iterator[tuple[Labels, int]]:
    """Yield the counters of one name from a result of `take_news`."""
    for one, labels, value in tally.get("counts", ()):  # type: ignore[attr-defined]
        if one == name:
            yield tuple(labels), int(value)


def histograms_in(tally: Mapping[str, object], name: str) -> Iterator[tuple[Labels, list[int], float]]:
    """Yield the histograms of one name from a result of `take_news`: labels, counts by bucket, total seconds."""
    for one, labels, buckets, sum_s in tally.get("histograms", ()):  # type: ignore[attr-defined]
        if one == name:
            yield tuple(labels), list(buckets), float(sum_s)
