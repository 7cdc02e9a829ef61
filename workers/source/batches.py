"""Checks a plugin's records, cuts them into batches and encodes them for frames.

Lives in source workers. In: what a plugin yields, one by one; out: the bodies of `batch` frames as JSON text. A record
that cannot become an entry is sent as a rejection and does not affect the others. Unchanged passages of the last cycle
are neither checked nor sent again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from pylantir.data_sources.base import BadRecord
from pylantir.entry import RECORD_ID_FIELD, WorklistEntry
from pylantir.errors import RecordRejected
from pylantir.ipc.batch import LONGEST_TEXT, write_batches
from pylantir.ipc.cycles import Rejection
from pylantir.ipc.records import RecordColumns, join_columns
from pylantir.mapping import EntryMapper
from pylantir.values.known import Warned
from workers.source.passages import Passage, PassageCutter, PassageNames, Stray
from workers.source.telling import RejectionLog

BATCH_RECORDS = 600
"""Records per batch. More would make a sync cheaper, but a scanner's report would wait longer behind a transaction:
some 50 ms if every record has changed."""
FIRST_BATCH_RECORDS = 4 * BATCH_RECORDS
"""Records per batch in a source's first cycle: storing new records takes less time."""
BATCH_BYTES = 1024 * 1024
BATCH_AGE_S = 1.0
MAX_REPEATED = 400
"""Names of unchanged passages per batch: some ten thousand records."""


class Batches:
    """Turns one cycle's entries into batches.

    Args:
        mapper: The source's mapper.
        log: Logs the rejected records.
        snapshot: The cycle shows everything that the source has.
        known: The passages that the last cycle has shown and the writer has committed.
        first: The source has never been fetched successfully.
        strike_out: Removes the source's secrets from a text.

    Attributes:
        shown: The passages that this cycle has shown.
        warned: The warnings about values, including those of unchanged passages.
    """

    def __init__(
        self,
        mapper: EntryMapper,
        log: RejectionLog,
        *,
        snapshot: bool,
        known: PassageNames | None = None,
        first: bool = False,
        strike_out: Callable[[str], str] = str,
    ) -> None:
        self._mapper = mapper
        self._log = log
        self._strike_out = strike_out
        self._snapshot = snapshot
        self._known = PassageNames() if known is None else known
        # The very first batch is small, because the writer has nothing to do until it comes.
        self._most = BATCH_RECORDS
        self._most_later = FIRST_BATCH_RECORDS if first else BATCH_RECORDS
        self.shown = PassageNames(self._known.key)
        self.warned: Warned = Counter()
        self._begin()

    def of_entries(self, entries: Iterable[object]) -> Iterator[str]:
        """Yield the bodies of frames, each as soon as it is full or a second old."""
        self._log.begin()
        cutter = PassageCutter(self.shown.key, within_s=BATCH_AGE_S)
        for entry in entries:
            for passage in cutter.add(entry):
                self._take(passage)
                if self._is_full() or time.monotonic() - self._begun_at > BATCH_AGE_S:
                    yield from self._end()
        for passage in cutter.finish():
            self._take(passage)
        if self._pending or self._repeated or self._rejected:
            yield from self._end()
        self._log.end()

    def of_record_ids(self, record_ids: Iterable[object]) -> Iterator[str]:
        """Yield the bodies of frames that say which records exist, without their fields."""
        for record_id in record_ids:
            self._present.append(f"id:{record_id}"[:LONGEST_TEXT])
            if len(self._present) >= BATCH_RECORDS:
                yield from self._end()
        if self._present:
            yield from self._end()

    def _begin(self) -> None:
        self._pending: list[Passage] = []
        self._count = self._size = 0
        self._repeated: list[int] = []
        self._rejected: list[Rejection] = []
        self._present: list[str] = []
        self._begun_at = time.monotonic()

    def _is_full(self) -> bool:
        return (
            self._count + len(self._rejected) >= self._most
            or self._size >= BATCH_BYTES
            or len(self._repeated) >= MAX_REPEATED
        )

    def _take(self, passage: Passage | Stray) -> None:
        if isinstance(passage, Stray):
            self._refuse(passage)
            return
        # A second passage of the same name is a repeat, which the writer must see.
        if passage.name is not None and self._known.take(passage.name):
            self._repeated.append(passage.name)
            self.shown.add(passage.name)
            self._warn(passage.name, self._known.remarks.get(passage.name))
            return
        self._pending.append(passage)
        self._count += len(passage.records)
        self._size += passage.size

    def _end(self) -> Iterator[str]:
        passages: list[tuple[int | None, int]] = []
        parts = [part for run in _runs_of_one_layout(self._pending) for part in self._map_run(run, passages)]
        bodies = write_batches(
            snapshot=self._snapshot, records=join_columns(parts), passages=passages, repeated=self._repeated,
            rejected=self._rejected, present=self._present,
        )  # fmt: skip
        self._begin()
        self._most = self._most_later
        for body, kept in bodies:
            if self._snapshot:
                for name, _ in kept:
                    if name is not None:
                        self.shown.add(name)
            yield body

    def _map_run(self, run: Sequence[Passage], passages: list[tuple[int | None, int]]) -> Iterator[RecordColumns]:
        """Check the records of passages of one layout: together or, if that fails, one by one.

        Notes how they fall into passages: the name, if it may be known again, and the number of records.
        """
        layout = run[0].layout
        told: Warned = Counter()
        columns = self._mapper.to_columns(layout, [record for passage in run for record in passage.records], told)
        if columns is not None and not told:
            passages += [(passage.name, len(passage.records)) for passage in run]
            yield columns
            return
        for passage in run:
            yield self._map_passage(passage, passages)

    def _map_passage(self, passage: Passage, passages: list[tuple[int | None, int]]) -> RecordColumns:
        """Check the records of one passage: together or, if that fails, one by one."""
        told: Warned = Counter()
        name = passage.name
        columns = self._mapper.to_columns(passage.layout, passage.records, told)
        if columns is None:
            entries, is_clean = self._map_each(passage, told)
            name = passage.name if is_clean else None
            names = dict.fromkeys(field for entry in entries for field in entry.fields)
            columns = RecordColumns(
                [entry.record_key for entry in entries],
                {field: [entry.fields.get(field) for entry in entries] for field in names},
            )
        passages.append((name, len(columns)))
        self._warn(name, told)
        return columns

    def _map_each(self, passage: Passage, told: Warned) -> tuple[list[WorklistEntry], bool]:
        """Check a passage's records one by one; returns the good ones, and whether all of them are."""
        entries, is_clean = [], True
        for record, label in zip(passage.records, passage.labels, strict=True):
            fields = dict(zip(passage.layout, record, strict=True))
            try:
                entries.append(self._mapper.to_entry(fields, told))
            except RecordRejected as rejected:
                own_id, owner = fields.get(RECORD_ID_FIELD), self._mapper.patient_of(fields)
                self._reject(_label(label), rejected.field, rejected.reason, own_id=own_id, owner=owner)
                is_clean = False
        return entries, is_clean

    def _warn(self, name: int | None, told: Warned | None) -> None:
        """Count the warnings about a passage's values, and remember them for the cycles in which it is unchanged."""
        if told:
            self.warned.update(told)
            if name is not None and self._snapshot:
                self.shown.remarks[name] = told

    def _refuse(self, stray: Stray) -> None:
        """Reject a value that is not a record."""
        entry, label = stray.entry, _label(stray.position)
        if stray.error:
            self._reject(label, "", f"a value of the record cannot be read: {stray.error}", unreadable=True)
        elif isinstance(entry, BadRecord):
            self._reject(entry.record, entry.field, entry.reason, unreadable=True, by_plugin=True)
        else:
            self._reject(
                label, "", f"the plugin gave a {type(entry).__name__} instead of a dictionary", unreadable=True
            )

    def _reject(
        self,
        label: str,
        name: str,
        reason: str,
        *,
        own_id: object = None,
        owner: object = None,
        unreadable: bool = False,
        by_plugin: bool = False,
    ) -> None:
        label, name, reason = (self._strike_out(str(text))[:LONGEST_TEXT] for text in (label, name, reason))
        key = label if own_id in (None, "") else f"id:{str(own_id).strip()}"[:LONGEST_TEXT]
        patient_id = None if owner in (None, "") else str(owner).strip()[:LONGEST_TEXT]
        self._rejected.append(Rejection(key, name, reason, patient_id, unreadable))
        self._size += len(key) + len(name) + len(reason)
        self._log.add(label, f"{name}: {reason}" if name else reason, key=key, by_plugin=by_plugin)


def _runs_of_one_layout(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    for _, run in groupby(passages, key=lambda passage: passage.layout):
        yield list(run)


def _label(place: str | int) -> str:
    return place if isinstance(place, str) else f"record {place}"
