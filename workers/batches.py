"""Records on their way into frames: checked, given a digest, encoded once, and cut into batches.

Lives in source workers. In: what a plugin yields, one by one; out: the bodies of `batch` frames as JSON text. Whatever
cannot become an entry goes along as a rejection: one bad record costs nobody else anything.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping

from pylantir.data_sources.base import RECORD_LABEL, BadRecord
from pylantir.entry import RECORD_ID_FIELD
from pylantir.errors import RecordRejected
from pylantir.mapping import EntryMapper

try:
    # hashlib loads OpenSSL: four megabytes in every worker.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

BATCH_RECORDS = 400
"""So many fit a local socket's buffer: the writer has the batch while the next one is being mapped."""
BATCH_BYTES = 1024 * 1024
BATCH_AGE_S = 1.0
LONGEST_TEXT = 2000
"""Longer labels, reasons and identifiers than any sensible one are cut: 500 of them have to fit into a frame."""
LOGGED_REJECTIONS = 20
"""So many rejections a cycle are logged one by one; all of them are in the quarantine."""

logger = logging.getLogger(__name__)
encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode


class Batches:
    """Turns one cycle's entries into batches.

    Args:
        mapper: The source's mapper.
        snapshot: The cycle shows everything that the source has.
    """

    def __init__(self, mapper: EntryMapper, *, snapshot: bool) -> None:
        self.rejections = 0
        self._mapper = mapper
        self._snapshot = snapshot
        self._begin()

    def of_entries(self, entries: Iterable[object]) -> Iterator[str]:
        """Yield the bodies of frames, each as soon as it is full or a second old."""
        for position, entry in enumerate(entries, start=1):
            self._add(entry, position)
            now = time.monotonic()
            full = self._count >= BATCH_RECORDS or self._size >= BATCH_BYTES
            if full or now - self._begun_at > BATCH_AGE_S:
                yield self._end()
        if self._count:
            yield self._end()
        if self.rejections > LOGGED_REJECTIONS:
            logger.warning("%d records rejected in all; `pylantir rejects` shows them", self.rejections)

    def of_record_ids(self, record_ids: Iterable[object]) -> Iterator[str]:
        """Yield the bodies of frames that say which records exist, without their fields."""
        for record_id in record_ids:
            self._present.append(f"id:{record_id}"[:LONGEST_TEXT])
            self._count += 1
            if self._count >= BATCH_RECORDS:
                yield self._end()
        if self._count:
            yield self._end()

    def _begin(self) -> None:
        self._records: list[str] = []
        self._rejected: list[list[object]] = []
        self._present: list[str] = []
        self._count = 0
        self._size = 0
        self._begun_at = time.monotonic()

    def _end(self) -> str:
        rest = {"snapshot": self._snapshot, "rejected": self._rejected, "present": self._present}
        body = f'"records":[{",".join(self._records)}],{encode_json(rest)[1:]}'
        self._begin()
        return body

    def _add(self, entry: object, position: int) -> None:
        self._count += 1
        if isinstance(entry, BadRecord):
            self._reject(entry.record, entry.field, entry.reason, unreadable=True)
        elif not isinstance(entry, Mapping):
            reason = f"the plugin gave a {type(entry).__name__} instead of a dictionary"
            self._reject(f"record {position}", "", reason, unreadable=True)
        else:
            self._add_record(entry, position)

    def _add_record(self, entry: Mapping[str, object], position: int) -> None:
        try:
            mapped = self._mapper.to_entry(entry)
        except RecordRejected as rejected:
            label = str(entry.get(RECORD_LABEL) or f"record {position}")
            self._reject(
                label, rejected.field, rejected.reason, own_id=entry.get(RECORD_ID_FIELD), owner=entry.get("patient_id")
            )
            return
        fields = encode_json(mapped.fields)
        digest = blake2b(fields.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        record = f'[{encode_json(mapped.record_key)},"{digest}",{fields}]'
        self._records.append(record)
        self._size += len(record)

    def _reject(
        self,
        label: str,
        name: str,
        reason: str,
        *,
        own_id: object = None,
        owner: object = None,
        unreadable: bool = False,
    ) -> None:
        label, name, reason = label[:LONGEST_TEXT], name[:LONGEST_TEXT], reason[:LONGEST_TEXT]
        key = label if own_id in (None, "") else f"id:{str(own_id).strip()}"[:LONGEST_TEXT]
        patient_id = None if owner in (None, "") else str(owner).strip()[:LONGEST_TEXT]
        self._rejected.append([key, name, reason, patient_id, unreadable])
        self.rejections += 1
        if self.rejections <= LOGGED_REJECTIONS:
            where = label if key == label else f"{label} ({key})"
            logger.warning("%s rejected: %s%s", where, f"{name}: " if name else "", reason)
