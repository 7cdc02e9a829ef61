"""Remembers the record ids of passages, so that a source need not send unchanged records again. Lives in the writer.

A source worker cuts the plugin's records into passages and names each by a digest. In the next cycle it sends only the
name of a passage that has not changed. This module keeps the record ids of each name, in memory and from one complete
cycle to the next. If the writer does not know a name, it says so, and the source worker sends all records again.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pylantir.ipc.cycles import Passage


@dataclass(slots=True)
class Again:
    """What a batch shows again by naming unchanged passages.

    Attributes:
        names: The passages.
        ids: The ids of their records.
        has_unknown: The batch also names passages that cannot be recognised.
    """

    names: list[int] = field(default_factory=list)
    ids: set[int] = field(default_factory=set)
    has_unknown: bool = False


class Passages:
    """The passages of one cycle: name -> record ids. Some 100 bytes each, whether it has five records or fifty."""

    def __init__(self) -> None:
        # Neighbouring records mostly have consecutive ids: the first id and the length are enough then.
        self._ids: dict[int, range | bytes] = {}

    def remember(self, passages: Iterable[Passage], record_ids: Sequence[int | None]) -> list[int]:
        """Remember the records of passages that have just been committed.

        Args:
            passages: The passages of a batch.
            record_ids: The ids of all their records in order; None for one that is to be checked in every cycle.

        Returns:
            The passages that are not remembered, because of such a record or because they have none.
        """
        unkept: list[int] = []
        begin = 0
        for name, length in passages:
            own = record_ids[begin : begin + length]
            begin += length
            if name is None:
                continue
            if own and all(own):
                self._keep(name, own)  # type: ignore[arg-type]  # none of them is None
            else:
                unkept.append(name)
        return unkept

    def recognise(self, names: Iterable[int], has_seen_any: Callable[[Sequence[int]], bool]) -> Again:
        """Return what is known of passages that a batch names.

        Args:
            names: The names.
            has_seen_any: Whether the cycle has shown one of some records before: a record can be shown only once.
        """
        again = Again()
        for name in names:
            ids = self.find(name)
            if ids is None or not again.ids.isdisjoint(ids) or has_seen_any(ids):
                again.has_unknown = True
            else:
                again.names.append(name)
                again.ids.update(ids)
        return again

    def find(self, name: int) -> Sequence[int] | None:
        """Return the ids of its records in order; None if the name is unknown."""
        found = self._ids.get(name)
        return array("q", found) if isinstance(found, bytes) else found

    def move(self, names: Iterable[int], successor: Passages) -> None:
        """Move passages to the next cycle, which has shown them again."""
        for name in names:
            successor._ids[name] = self._ids.pop(name)

    def _keep(self, name: int, record_ids: Sequence[int]) -> None:
        first = record_ids[0]
        run = range(first, first + len(record_ids))
        self._ids[name] = run if list(record_ids) == list(run) else array("q", record_ids).tobytes()
