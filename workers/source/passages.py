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
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def cut_passages(entries: Iterable[object], key: bytes, *, within_s: float = math.inf) -> Iterator[Passage | Stray]:
    """Cut one cycle's records into passages.

    Args:
        entries: What the plugin gives.
        key: As for `PassageNames`.
        within_s: A plugin that takes its time gets a passage for what it has given so far, this long after the last.
    """
    join, now = _BETWEEN_VALUES.join, time.monotonic
    layout: tuple[str, ...] = ()
    label_at: int | None = None
    records: list[list[object]] = []
    labels: list[str | int] = []
    texts: list[str] = []
    written_out = 0
    due = now() + within_s

    def finish() -> Passage:
        nonlocal records, labels, texts, written_out, due
        passage = Passage(
            name=_name_passage(key, layout, texts, width=len(records[0]), written_out=written_out),
            layout=tuple(field for field in layout if field != RECORD_LABEL),
            records=records,
            labels=labels,
            size=sum(map(len, texts)),
        )
        records, labels, texts, written_out = [], [], [], 0
        due = now() + within_s
        return passage

    for position, entry in enumerate(entries, start=1):
        if type(entry) is not dict and not isinstance(entry, Mapping):
            if records:
                yield finish()
            yield Stray(entry, position)
            continue
        own_layout = tuple(entry)
        if own_layout != layout:
            if records:
                yield finish()
            layout = own_layout
            label_at = layout.index(RECORD_LABEL) if RECORD_LABEL in layout else None
        values = list(entry.values())
        labels.append(position if label_at is None else str(values.pop(label_at)))
        try:
            text = join(values)
        except TypeError:
            text = _write_out(values)
            written_out += 1
        records.append(values)
        texts.append(text)
        length = len(records)
        if (hash(text) % _ENDS_ONE_IN == 0 and length >= _SHORTEST) or length >= _LONGEST or now() > due:
            yield finish()
    if records:
        yield finish()


def _write_out(values: Sequence[object]) -> str:
    """Write values that are not all text; what cannot be told apart by that has a separator too many."""
    if all(type(one) in _PLAIN_TYPES or type(one).__module__ in _PLAIN_MODULES for one in values):
        return _OTHER_THAN_TEXT + _BETWEEN_VALUES * (len(values) - 1) + repr(values)
    return _BETWEEN_VALUES * len(values)


def _name_passage(
    key: bytes, layout: tuple[str, ...], texts: Sequence[str], *, width: int, written_out: int
) -> int | None:
    whole = _BETWEEN_RECORDS.join(texts)
    # Text with one of our own marks in it could be taken for something else.
    if (
        whole.count(_BETWEEN_VALUES) != len(texts) * (width - 1)
        or whole.count(_BETWEEN_RECORDS) != len(texts) - 1
        or whole.count(_OTHER_THAN_TEXT) != written_out
    ):
        return None
    said = repr(layout) + _BETWEEN_RECORDS + whole
    digest = blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big")
