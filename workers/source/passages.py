"""Passages: cutting what a plugin gives into runs of records, each with a name by which it is known again.

Lives in source workers. In: entries as the plugin gives them; out: passages of some sixteen records. Where one ends is
decided by the records themselves, so a record that comes, goes or changes leaves the passages around it as they were. A
name is a digest of everything that the records say; equal names of one worker mean equal records.
"""

from __future__ import annotations

import math
import os
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Stray:
    """What is no record, and where it stood."""

    entry: object
    position: int


class PassageNames:
    """A set of names in eight bytes each: there may be very many.

    Args:
        key: Names are comparable among sets with the same key, which nobody outside knows.

    Attributes:
        remarks: Name -> what was told about the values of its records; few passages have any.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self.key = key or os.urandom(16)
        self._names = array("Q")
        self._taken = bytearray()
        self.remarks: dict[int, Counter[tuple[str, str]]] = {}

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
        rest.remarks = {name: told for name, told in self.remarks.items() if name not in left_out}
        return rest

    def take(self, name: int) -> bool:
        """Whether a name is there; the second time it is not."""
        place = bisect_left(self._names, name)
        if place == len(self._taken) or self._names[place] != name or self._taken[place]:
            return False
        self._taken[place] = 1
        return True


class PassageCutter:
    """Cuts one cycle's entries, given one by one, into passages.

    Args:
        key: As for `PassageNames`.
        within_s: A slow plugin gets a passage for what it has given so far, this long after the last one.
    """

    def __init__(self, key: bytes, *, within_s: float = math.inf) -> None:
        self._key = key
        self._within_s = within_s
        self._position = 0
        self._layout: tuple[str, ...] = ()
        self._label_at: int | None = None
        self._begin()

    def add(self, entry: object) -> Sequence[Passage | Stray]:
        """Take in the next entry, and return the passages that end before or with it."""
        self._position += 1
        if type(entry) is not dict and not isinstance(entry, Mapping):
            return (*self.finish(), Stray(entry, self._position))
        done: Sequence[Passage] = ()
        layout = tuple(entry)
        if layout != self._layout:
            done = self.finish()
            self._layout = layout
            self._label_at = layout.index(RECORD_LABEL) if RECORD_LABEL in layout else None
        values = list(entry.values())
        self._labels.append(self._position if self._label_at is None else str(values.pop(self._label_at)))
        try:
            text = _BETWEEN_VALUES.join(values)
        except TypeError:
            text = self._write_out(values)
        self._records.append(values)
        self._texts.append(text)
        length = len(self._records)
        ends_here = hash(text) % _ENDS_ONE_IN == 0 and length >= _SHORTEST
        if ends_here or length >= _LONGEST or time.monotonic() > self._due:
            return (*done, *self.finish())
        return done

    def finish(self) -> Sequence[Passage]:
        """Return the passage that has begun, if there is one."""
        if not self._records:
            return ()
        passage = Passage(
            name=self._name() if self._comparable else None,
            layout=tuple(field for field in self._layout if field != RECORD_LABEL),
            records=self._records,
            labels=self._labels,
            size=sum(map(len, self._texts)),
        )
        self._begin()
        return (passage,)

    def _write_out(self, values: Sequence[object]) -> str:
        """Write values of which some are not text; where `repr` does not tell values apart, nothing is comparable."""
        if not all(type(one) in _PLAIN_TYPES or type(one).__module__ in _PLAIN_MODULES for one in values):
            self._comparable = False
            return ""
        self._written_out += 1
        return _OTHER_THAN_TEXT + _BETWEEN_VALUES * (len(values) - 1) + repr(values)

    def _begin(self) -> None:
        self._records: list[list[object]] = []
        self._labels: list[str | int] = []
        self._texts: list[str] = []
        self._written_out = 0
        self._comparable = True
        self._due = time.monotonic() + self._within_s

    def _name(self) -> int | None:
        """Digest what the records say; None if text with a mark of ours in it could be taken for something else."""
        texts = self._texts
        whole = _BETWEEN_RECORDS.join(texts)
        if (
            whole.count(_BETWEEN_VALUES) != len(texts) * (len(self._records[0]) - 1)
            or whole.count(_BETWEEN_RECORDS) != len(texts) - 1
            or whole.count(_OTHER_THAN_TEXT) != self._written_out
        ):
            return None
        said = repr(self._layout) + _BETWEEN_RECORDS + whole
        digest = blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "big")


class KnownPassages:
    """The passages that need not be sent again: a whole cycle has shown them, and one writer has committed them.

    A writer is told from another by the welcome that it gave: after every reconnect everything is sent once more.
    """

    def __init__(self) -> None:
        self._names = PassageNames()
        self._writer: object = None

    def begin(self, writer: object) -> PassageNames:
        """Begin a cycle; returns the names that this writer knows, which count once only."""
        names = self._names if writer is self._writer else PassageNames()
        self._names, self._writer = PassageNames(), writer
        return names

    def commit(self, shown: PassageNames, *, writer: object, unkept: Iterable[int]) -> bool:
        """Note what a whole cycle has shown.

        Args:
            shown: The names of its passages.
            writer: The writer that has committed its end.
            unkept: Names that the writer does not keep: some of their records are looked at in every cycle.

        Returns:
            Whether that was the same writer as at the beginning of the cycle; if not, nothing is noted.
        """
        if writer is not self._writer:
            return False
        self._names = shown.without(unkept)
        return True
