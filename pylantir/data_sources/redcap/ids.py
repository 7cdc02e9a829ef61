"""Stores many record IDs in little memory, so that a worker does not grow with the project.

Lives in the worker of a REDCap source.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

_BITS, _PLACES = 1 << 22, 4


class RecordIds:
    """Record IDs in the order of the export, at a tenth of the memory that a list of texts takes."""

    def __init__(self) -> None:
        self._lines = io.BytesIO()
        self._last: str | None = None
        self.count = 0

    def add(self, record_id: str) -> None:
        """Append an ID, unless the row before had the same one."""
        if record_id != self._last:
            self._lines.write(record_id.encode() + b"\n")
            self._last = record_id
            self.count += 1

    def batches(self, size: int) -> Iterator[list[str]]:
        """Give the IDs in lists of `size`."""
        self._lines.seek(0)
        while batch := [line[:-1].decode() for line in itertools.islice(self._lines, size)]:
            yield batch


class SeenIds:
    """A set that never forgets an ID, but may take an unknown ID for known: one in 10 000 when it holds 100 000.

    Source: B. H. Bloom, Space/time trade-offs in hash coding with allowable errors, 1970.
    """

    def __init__(self) -> None:
        self._bits = bytearray(_BITS // 8)

    def add(self, name: str) -> None:
        """Remember an ID."""
        for place in _places(name):
            self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, name: str) -> bool:
        return all(self._bits[place >> 3] & 1 << (place & 7) for place in _places(name))


def _places(name: str) -> Iterator[int]:
    whole = hash(name)
    first, step = whole % _BITS, (whole >> 32) | 1
    return ((first + number * step) % _BITS for number in range(_PLACES))
