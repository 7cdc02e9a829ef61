"""Cuts a plugin's records into passages and names each passage, so that unchanged ones need not be sent again.

Lives in source workers. In: entries as the plugin gives them; out: passages of some sixteen records. The contents of
the records decide where a passage ends, so a record that is added, removed or changed does not alter the passages
around it. The name is a digest of all values; within one worker, equal names mean equal records.
Glossary: passage (docs/explanation/glossary.md).
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
    # hashlib would load OpenSSL: four megabytes in every worker.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

_SHORTEST, _ENDS_ONE_IN, _LONGEST = 8, 8, 64
_MOST_CHARS = 1 << 18
_LONGEST_LABEL = 2000
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
        labels: Each record's position in the source, for messages.
        size: Approximate number of characters.
    """

    name: int | None
    layout: tuple[str, ...]
    records: list[list[object]]
    labels: list[str | int]
    size: int


@dataclass(frozen=True, slots=True)
class Stray:
    """A value that is not a record, its position, and what was raised if it looked like one and cannot be read."""

    entry: object
    position: int
    error: str | None = None


class PassageNames:
    """A set of names that takes eight bytes per name, because there may be very many.

    Args:
        key: Secret key of the digest; only names made with the same key can be compared.

    Attributes:
        remarks: Name -> the warnings about the values of its records; few passages have any.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self.key = key or os.urandom(16)
        self._names = array("Q")
        self._taken = bytearray()
        self.remarks: dict[int, Counter[tuple[str, str]]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: int) -> None:
        """Add a name; `without` makes it available for look-ups."""
        self._names.append(name)

    def without(self, others: Iterable[int]) -> PassageNames:
        """Return the set for look-ups, without the given names."""
        left_out = set(others)
        rest = PassageNames(self.key)
        rest._names.extend(name for name in sorted(self._names) if name not in left_out)
        rest._taken = bytearray(len(rest._names))
        rest.remarks = {name: told for name, told in self.remarks.items() if name not in left_out}
        return rest

    def take(self, name: int) -> bool:
        """Return whether a name is in the set, and remove it."""
        place = bisect_left(self._names, name)
        if place == len(self._taken) or self._names[place] != name or self._taken[place]:
            return False
        self._taken[place] = 1
        return True


class PassageCutter:
    """Cuts the entries of one cycle into passages, one entry at a time.

    Args:
        key: As for `PassageNames`.
        within_s: A passage ends at the latest after this time, so that a slow plugin's records are sent.
    """

    def __init__(self, key: bytes, *, within_s: float = math.inf) -> None:
        self._key = key
        self._within_s = within_s
        self._position = 0
        self._layout: tuple[str, ...] = ()
        self._label_at: int | None = None
        self._begin()

    def add(self, entry: object) -> Sequence[Passage | Stray]:
        """Add the next entry and return the passages that end before or with it."""
        self._position += 1
        if type(entry) is not dict and not isinstance(entry, Mapping):
            return (*self.finish(), Stray(entry, self._position))
        try:
            return self._add_record(entry)
        except Exception as error:  # noqa: BLE001 - a plugin's objects: any method of theirs may raise
            return (*self.finish(), Stray(entry, self._position, type(error).__name__))

    def finish(self) -> Sequence[Passage]:
        """Return the unfinished passage, if there is one."""
        if not self._records:
            return ()
        passage = Passage(
            name=self._name() if self._comparable else None,
            layout=tuple(field for field in self._layout if field != RECORD_LABEL),
            records=self._records,
            labels=self._labels,
            size=self._size,
        )
        self._begin()
        return (passage,)

    def _add_record(self, entry: Mapping[str, object]) -> Sequence[Passage]:
        # What may raise comes first: nothing has changed then.
        layout = tuple(entry)
        is_new = layout != self._layout
        label_at = _label_place(layout) if is_new else self._label_at
        values = list(entry.values())
        label = self._position if label_at is None else str(values.pop(label_at))[:_LONGEST_LABEL]
        is_text = True
        try:
            text: str | None = _BETWEEN_VALUES.join(values)  # type: ignore[arg-type]  # a TypeError says if they are not
        except TypeError:
            text, is_text = _write_out(values), False
        done: Sequence[Passage] = ()
        if is_new:
            done = self.finish()
            self._layout, self._label_at = layout, label_at
        if text is None:
            text, self._comparable = "", False
            self._size += sum(len(one) for one in values if isinstance(one, str | bytes))
        elif not is_text:
            self._written_out += 1
        self._labels.append(label)
        self._records.append(values)
        self._texts.append(text)
        self._size += len(text)
        length = len(self._records)
        ends_here = hash(text) % _ENDS_ONE_IN == 0 and length >= _SHORTEST
        if ends_here or length >= _LONGEST or self._size > _MOST_CHARS or time.monotonic() > self._due:
            return (*done, *self.finish())
        return done

    def _begin(self) -> None:
        self._records: list[list[object]] = []
        self._labels: list[str | int] = []
        self._texts: list[str] = []
        self._size = self._written_out = 0
        self._comparable = True
        self._due = time.monotonic() + self._within_s

    def _name(self) -> int | None:
        """Return the digest of the records; None if a value contains one of our separators and would be ambiguous."""
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
    """The passages that need not be sent again: a complete cycle showed them, and one writer has committed them.

    Each writer connection has its own welcome: after a reconnect the worker sends everything again.
    """

    def __init__(self) -> None:
        self._names = PassageNames()
        self._writer: object = None

    def begin(self, writer: object) -> PassageNames:
        """Begin a cycle; return the names that this writer knows, each to be used once."""
        names = self._names if writer is self._writer else PassageNames()
        self._names, self._writer = PassageNames(), writer
        return names

    def commit(self, shown: PassageNames, *, writer: object, unkept: Iterable[int]) -> bool:
        """Remember the passages that a complete cycle has shown.

        Args:
            shown: The names of its passages.
            writer: The writer that has committed its end.
            unkept: Names that the writer does not keep, because it checks some of their records in every cycle.

        Returns:
            Whether the cycle began with the same writer; if not, nothing is remembered.
        """
        if writer is not self._writer:
            return False
        self._names = shown.without(unkept)
        return True


def _label_place(layout: Sequence[object]) -> int | None:
    """Return where a record's label is among its values; raise what a key raises of which no text can be made."""
    for field in layout:
        str(field)
    return layout.index(RECORD_LABEL) if RECORD_LABEL in layout else None


def _write_out(values: Sequence[object]) -> str | None:
    """Write values that are not all text; return None if `repr` cannot tell values apart.

    A value that no text can be made of raises here, where only its own record is refused.
    """
    if all(type(one) in _PLAIN_TYPES or type(one).__module__ in _PLAIN_MODULES for one in values):
        return _OTHER_THAN_TEXT + _BETWEEN_VALUES * (len(values) - 1) + repr(values)
    for one in values:
        str(one)
    return None
