"""Remembers the record ids of passages, so that a source need not send unchanged records again. Lives in the writer.

A source worker cuts the plugin's records into passages and names each by a digest. In the next cycle it sends only the
name of a passage that has not changed. This module keeps the record ids of each name, in memory and from one complete
cycle to the next. If the writer does not know a name, it says so, and the source worker sends all records again.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence


class Passages:
    """The passages of one cycle: name -> record ids. Some 100 bytes each, whether it has five records or fifty."""

    def __init__(self) -> None:
        # Neighbouring records mostly have consecutive ids: the first id and the length are enough then.
        self._ids: dict[int, range | bytes] = {}

    def remember(self, name: int, record_ids: Sequence[int]) -> None:
        """Remember a passage's records; the caller must not change the ids afterwards."""
        first = record_ids[0]
        run = range(first, first + len(record_ids))
        self._ids[name] = run if list(record_ids) == list(run) else array("q", record_ids).tobytes()

    def find(self, name: int) -> Sequence[int] | None:
        """Return the ids of its records in order; None if the name is unknown."""
        found = self._ids.get(name)
        return array("q", found) if isinstance(found, bytes) else found

    def move(self, name: int, successor: Passages) -> None:
        """Move a passage to the next cycle, which has shown it again."""
        successor._ids[name] = self._ids.pop(name)
