"""Taking in the records of one batch: they are compared with what is stored, and what differs is changed.

Lives in the writer. In: a transaction and the records. Out: what became of them. Most of a first sync is stored at once
(`newcomers`), most of a later one is found unchanged; what is left is decided patient by patient (`working_set`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection

from pylantir.entry import RECORD_FIELDS
from pylantir.ipc.batch import Rejection
from pylantir.ipc.records import Column, RecordColumns
from pylantir.store.decide.claims import Rules
from pylantir.store.decide.records import LIVE, PENDING, REFUSED, STEP_KEY, WITHDRAWN, Record
from pylantir.store.failures import is_temporary
from pylantir.store.intake.newcomers import find_undecided_patients, insert_newcomers
from pylantir.store.intake.outcome import Outcome
from pylantir.store.intake.quarantine import remove_rejections
from pylantir.store.intake.state import CycleState
from pylantir.store.intake.working_set import Events, WorkingSet
from pylantir.store.schema.adoption import complete_old_ids, match_old_records
from pylantir.store.schema.bulk import select_among_new
from pylantir.store.schema.tables import source_entries

logger = logging.getLogger(__name__)


class _Existing(NamedTuple):
    """A stored record, as far as comparing needs it."""

    id: int
    state: str
    patient_id: str
    contents: Column  # a value, or None, per field of the batch


class BatchIntake:
    """Takes in records of one batch.

    Args:
        connection: In the batch's transaction.
        source: Whose records they are.
        rules: Priorities and the matching rule.
        cycle: What the cycle has shown before this batch.
        again: Ids of records that this batch shows by their passages' names.
        snapshot: The cycle shows everything that the source has, so a key may come once only.
        trusting: Nobody looks whether the records are stored already. If one is, or cannot be stored, an exception
            says so, and the whole transaction has to be repeated without trust.
        now: The time.
    """

    def __init__(
        self,
        connection: Connection,
        source: str,
        rules: Rules,
        cycle: CycleState,
        *,
        again: Set[int],
        snapshot: bool,
        trusting: bool,
        now: str,
    ) -> None:
        self._connection = connection
        self._source = source
        self._rules = rules
        self._cycle = cycle
        self._again = again
        self._snapshot = snapshot
        self._trusting = trusting
        self._now = now

    def store(self, records: RecordColumns) -> Outcome:
        """Store the records together or, when one of them raises, one by one, each under a savepoint of its own."""
        if self._trusting and len(set(records.keys)) == len(records):
            result = Outcome()
            self._change(records, {}, result)
            return result
        try:
            with self._connection.begin_nested():
                return self._store(records)
        except Exception as error:
            if is_temporary(error):
                raise
            logger.exception("source %s: a record of a batch cannot be stored", self._source)
            return self._store_singly(records)

    def _store_singly(self, records: RecordColumns) -> Outcome:
        result = Outcome()
        # What is seen here counts for the cycle only once it is committed.
        self._cycle = replace(self._cycle, seen=bytearray(self._cycle.seen))
        for place, key in enumerate(records.keys):
            try:
                with self._connection.begin_nested():
                    one = self._store(records.pick([place]))
            except Exception as error:
                if is_temporary(error):
                    raise
                reason = f"cannot be stored ({type(error).__name__}); the writer's log says why"
                result.rejected.append(Rejection(key, "", reason, records.patients[place]))
            else:
                result.add(one)
                self._cycle.mark_seen(one.seen)
        return result

    def _store(self, records: RecordColumns) -> Outcome:
        """Compare with what is stored, and change what differs."""
        result = Outcome()
        existing = self.find_existing(records.keys, records.names)
        if not existing and len(set(records.keys)) == len(records):
            self._change(records, existing, result)
            return result
        shown: dict[str, Column] = {}
        fresh: list[int] = []
        for place, (key, *said) in enumerate(zip(records.keys, *records.values.values(), strict=True)):
            prior = existing.get(key)
            if key not in shown and prior is not None and (prior.id in self._again or self._cycle.has_seen(prior.id)):
                shown[key] = prior.contents
            if shown.get(key) == said:
                result.repeats += 1
                result.unclean.add(key)
                continue
            if key in shown and self._snapshot:
                result.rejected.append(_same_key(key, records.patients[place]))
                continue
            shown[key] = said
            if prior is not None and prior.contents == said and prior.state != WITHDRAWN:
                result.seen.append(prior.id)
                result.ids[key] = prior.id
                if prior.state != LIVE:
                    result.unclean.add(key)
                if prior.state == REFUSED:
                    result.refused.append(key)
                result.counts["rejected" if prior.state == REFUSED else "unchanged"] += 1
            else:
                fresh.append(place)
        if fresh:
            self._change(records.pick(fresh), existing, result)
        result.unclean.update(one.record_key for one in result.rejected)
        return result

    def _change(self, fresh: RecordColumns, existing: Mapping[str, _Existing], result: Outcome) -> None:
        """Store records that are new or differ: those that need no decision together, the others after one."""
        if not fresh:
            return
        complete_old_ids(self._connection, self._source, fresh.patients, self._rules.ranks, self._now)
        undecided = {
            patient
            for key, patient in zip(fresh.keys, fresh.patients, strict=True)
            if (prior := existing.get(key)) is not None
            for patient in (patient, prior.patient_id)
        }
        undecided |= find_undecided_patients(self._connection, self._source, fresh)
        plain = fresh.pick([n for n, patient in enumerate(fresh.patients) if patient not in undecided])
        # An incremental source may give a record twice: the later one counts.
        if len(set(plain.keys)) < len(plain):
            plain, undecided = fresh.pick([]), set(fresh.patients)
        if plain.keys:
            record_ids, item_ids = insert_newcomers(self._connection, self._source, plain, self._now)
            remove_rejections(self._connection, self._source, plain.keys)
            result.ids.update(zip(plain.keys, record_ids, strict=True))
            result.seen += record_ids
            result.counts["inserted"] += len(plain)
            result.events.append(Events(inserted=list(item_ids)))
        if undecided:
            rest = fresh.pick([n for n, patient in enumerate(fresh.patients) if patient in undecided])
            self._decide(rest, existing, result)

    def _decide(self, fresh: RecordColumns, existing: Mapping[str, _Existing], result: Outcome) -> None:
        """Store records of patients about whom more is stored: what it amounts to together is decided anew."""
        said = fresh.fields()
        newcomers = {key: fields for key, fields in said.items() if key not in existing}
        working = WorkingSet(self._connection, self._rules, actor=f"source:{self._source}", now=self._now)
        working.load(fresh.patients)
        working.load(existing[key].patient_id for key in said if key in existing)
        records = {key: working.records[existing[key].id] for key in said if key in existing}
        records |= match_old_records(working.records.values(), self._source, newcomers, self._rules.ranks)
        seen = {*self._again, *result.seen}
        touched: list[tuple[Record, str]] = []
        for key, fields in said.items():
            known = records.get(key)
            arrives = known is None or known.state == WITHDRAWN
            state = LIVE
            if arrives and self._snapshot and key.startswith(STEP_KEY):
                state = self._state_of_newcomer(working, seen, fields)
            if known is None:
                record = working.add(self._source, key, fields, state)
            else:
                record = known
                record.data_source, record.record_key = self._source, key
                working.change(record, fields)
                if arrives:
                    working.enter(record, state)
            seen.add(record.id)
            touched.append((record, "inserted" if arrives else "updated"))
        working.write()
        for record, outcome in touched:
            result.counts["rejected" if record.state == REFUSED else outcome] += 1
            result.ids[record.record_key] = record.id
            if record.state != LIVE:
                result.unclean.add(record.record_key)
        remove_rejections(
            self._connection, self._source, [record.record_key for record, _ in touched if record.state != REFUSED]
        )
        result.seen += [record.id for record, _ in touched]
        result.counts["cancelled"] += len(working.events.cancelled)
        result.events.append(working.events)

    def _state_of_newcomer(self, working: WorkingSet, seen: Set[int], fields: Mapping[str, str]) -> str:
        """PENDING while the snapshot has not shown a record that this one may be, at another time."""
        for record in working.records_of(fields["patient_id"]):
            if (
                record.data_source == self._source
                and record.state == LIVE
                and record.record_key.startswith(STEP_KEY)
                and record.id not in seen
                and not self._cycle.has_seen(record.id)
                and record.fields.get("modality") == fields.get("modality")
            ):
                return PENDING
        return LIVE

    def find_existing(self, keys: Sequence[str], names: Sequence[str] = ()) -> dict[str, _Existing]:
        """The stored records with these keys; their contents are the named fields, and more if they say more."""
        if not keys:
            return {}
        # The last two: a source may give every field, and COALESCE wants two values.
        others = ", ".join([*(name for name in RECORD_FIELDS if name not in names), "NULL", "NULL"])
        columns = ("record_key", "id", "state", "patient_id", f"COALESCE({others})", *names)
        found = select_among_new(self._connection, source_entries, columns, "record_key", keys, source=self._source)
        return {
            key: _Existing(number, state, patient_id, contents if more is None else [*contents, more])
            for key, number, state, patient_id, more, *contents in found
        }


def _same_key(key: str, patient_id: str) -> Rejection:
    reason = "another record of the same fetch has this identity and other values; map source_record_id"
    return Rejection(key, "source_record_id", reason, patient_id)
