"""Passages: runs of records that a source has shown before, so that it need not show them again. Lives in the writer.

A source worker cuts what its plugin gives into passages and names each by a digest. In the next cycle the name alone
stands for a passage that has not changed. What it stands for, the records' ids, is kept here, in memory and for one
cycle only: a whole one to be followed by the next. Whoever does not know a name says so, and gets all records again.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence


class Passages:
    """The passages of one cycle: name -> record ids. Some 100 bytes each, whether it has five records or fifty."""

    def __init__(self) -> None:
        # Neighbours in a file mostly have ids in a row: first and length then stand for them.
        self._ids: dict[int, range | bytes] = {}

    def remember(self, name: int, record_ids: Sequence[int]) -> None:
        """Note what a passage stands for; never changed afterwards."""
        first = record_ids[0]
        run = range(first, first + len(record_ids))
        self._ids[name] = run if list(record_ids) == list(run) else array("q", record_ids).tobytes()

    def find(self, name: int) -> Sequence[int] | None:
        """The ids of its records, in their order; None if nobody has told."""
        found = self._ids.get(name)
        return array("q", found) if isinstance(found, bytes) else found

    def move(self, name: int, successor: Passages) -> None:
        """Hand a passage over to the next cycle, which has shown it again."""
        successor._ids[name] = self._ids.pop(name)
