"""Passages: cutting what a plugin gives into runs of records, each with a name by which it is known again.

Lives in source workers. In: entries as the plugin gives them; out: passages of some sixteen records. Where one ends is
decided by the records themselves, so a record that comes, goes or changes leaves the passages around it as they were. A
name is a digest of everything that the records say; equal names of one worker mean equal records.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pylantir.data_sources.base import RECORD_LABEL

try:
    # hashlib loads OpenSSL: four megabytes in every worker.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

_SHORTEST, _ENDS_ONE_IN, _LONGEST = 8, 8, 64
_BETWEEN_VALUES, _BETWEEN_RECORDS, _OTHER_THAN_TEXT = "\x1f", "\x1d", "\x1e"
_PLAIN_TYPES = frozenset({str, int, float, bool, type(None)})
_PLAIN_MODULES = frozenset({"datetime", "decimal"})


@dataclass(slots=True)
class Passage:
    """Consecutive records of one layout.

    Attributes:
        name: A number of 64 bits, or None if the records cannot be compared.
        layout: The fields, as the plugin named them.
        records: A value per field.
        labels: Where each record stands in the source, for messages.
        size: Characters in it, roughly.
    """

    name: int | None
    layout: tuple[str, ...]
    records: list[list[object]]
    labels: list[str | int]
    size: int


class PassageNames:
    """A set of names in eight bytes each: there may be very many.

    Args:
        key: Names are comparable among sets with the same key, which nobody outside knows.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self.key = key or os.urandom(16)
        self._names = array("Q")
        self._taken = bytearray()

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: int) -> None:
        """Note a name; it can be found after `without`."""
        self._names.append(name)

    def without(self, others: Iterable[int]) -> PassageNames:
        """The set to look names up in, less some."""
        left_out = set(others)
        rest = PassageNames(self.key)
        rest._names.extend(name for name in sorted(self._names) if name not in left_out)
        rest._taken = bytearray(len(rest._names))
        return rest

    def take(self, name: int) -> bool:
        """Whether a name is there; the second time it is not."""
        place = bisect_left(self._names, name)
        if place == len(self._taken) or self._names[place] != name or self._taken[place]:
            return False
        self._taken[place] = 1
        return True


class PassageCutter:
    """Cuts one cycle's records into passages.

    Args:
        key: As for `PassageNames`.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._layout: tuple[str, ...] = ()
        self._label_at: int | None = None
        self._begin()

    def add(self, entry: Mapping[str, object], position: int) -> Passage | None:
        """Take in a record; gives a passage when one has come to its end."""
        layout = tuple(entry)
        finished = None
        if layout != self._layout:
            finished = self.cut()
            self._layout = layout
            self._label_at = layout.index(RECORD_LABEL) if RECORD_LABEL in layout else None
        values = list(entry.values())
        self._labels.append(position if self._label_at is None else str(values.pop(self._label_at)))
        try:
            text = _BETWEEN_VALUES.join(values)  # type: ignore[arg-type]  # that is what is found out here
            comparable = text.count(_BETWEEN_VALUES) == len(values) - 1
        except TypeError:
            comparable = all(type(one) in _PLAIN_TYPES or type(one).__module__ in _PLAIN_MODULES for one in values)
            text = _OTHER_THAN_TEXT + repr(values) if comparable else ""
        self._comparable &= comparable
        self._records.append(values)
        self._texts.append(text)
        length = len(self._records)
        if length >= _SHORTEST and (hash(text) % _ENDS_ONE_IN == 0 or length >= _LONGEST):
            # Never both: a passage of another layout has just begun.
            return self.cut()
        return finished

    def cut(self) -> Passage | None:
        """End the passage here, if there is one."""
        if not self._records:
            return None
        whole = _BETWEEN_RECORDS.join(self._texts)
        name = None
        if self._comparable and whole.count(_BETWEEN_RECORDS) == len(self._records) - 1:
            said = repr(self._layout) + _BETWEEN_RECORDS + whole
            digest = blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8, key=self._key).digest()
            name = int.from_bytes(digest, "big")
        layout = tuple(field for field in self._layout if field != RECORD_LABEL)
        passage = Passage(name, layout, self._records, self._labels, len(whole))
        self._begin()
        return passage

    def _begin(self) -> None:
        self._records: list[list[object]] = []
        self._labels: list[str | int] = []
        self._texts: list[str] = []
        self._comparable = True
