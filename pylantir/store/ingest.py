"""Taking in one source's cycle: batches in order, then the end, each in one transaction. Lives in the writer.

Everything here may be repeated: a frame that was committed and is sent again changes nothing. What a cycle has shown so
far is kept in memory only, so a cycle that began under another writer never removes anything.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Engine, Row, bindparam, func, select

from pylantir.store.adoption import complete_old_ids, match_old_records
from pylantir.store.claims import Rules
from pylantir.store.cycles import CycleEnd, CycleState, CycleSummary, EntryBatch, EntryRecord, utc_now
from pylantir.store.failures import is_temporary, telling_the_first_cause
from pylantir.store.outcome import Outcome, tell_outcome
from pylantir.store.progress import accept_next_removal, clear_progress, read_progress, save_progress
from pylantir.store.quarantine import (
    Rejection,
    add_rejections,
    note_sightings,
    remove_rejections,
    remove_unseen,
    storable,
)
from pylantir.store.records import LIVE, PENDING, REFUSED, STEP_KEY, WITHDRAWN, Record, chunks
from pylantir.store.runs import find_last_run, find_last_success, read_counts, save_run
from pylantir.store.snapshot import settle_snapshot
from pylantir.store.tables import source_entries
from pylantir.store.working_set import WorkingSet

logger = logging.getLogger(__name__)

_ENTRIES = source_entries.c
_Existing = Row[*tuple[Any, ...]]


class SourceIngest:
    """Takes in the cycles of one source.

    Args:
        engine: The database, opened for writing.
        source: The source's name.
        rules: Priorities and the matching rule.
        keep_missing: Records that a snapshot no longer shows stay (`missing_entries: "keep"`).
    """

    def __init__(self, engine: Engine, source: str, rules: Rules, *, keep_missing: bool = False) -> None:
        self._engine = engine
        self._source = source
        self._rules = rules
        self._keep_missing = keep_missing
        with engine.connect() as connection:
            self._cycle, self._held = read_progress(connection, source)
            last_run = find_last_run(connection, source)
        self._finished = last_run.started_at if last_run else None

    def find_last_success(self) -> str | None:
        """When the last successful cycle began (ISO 8601, UTC): where an incremental source goes on from."""
        with self._engine.connect() as connection:
            return find_last_success(connection, self._source)

    def apply_batch(self, batch: EntryBatch) -> None:
        """Take in a batch, in one transaction; returns after the COMMIT.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: It could not be stored just now (disk full, lock): nothing has changed,
                and the same batch may be given again.
        """
        if self._is_over(batch.started_at):
            return
        now = utc_now()
        with telling_the_first_cause(), self._engine.begin() as connection:
            cycle = self._continue_cycle(connection, batch.cycle, batch.started_at, batch.seq)
            if batch.seq <= cycle.last_seq:
                return
            cycle.whole &= batch.seq == cycle.last_seq + 1
            result = self._take_in(connection, cycle, batch, now)
            for name, count in result.counts.items():
                cycle.counts[name] += count
            cycle.last_seq = batch.seq
            save_progress(connection, self._source, cycle)
        cycle.mark_seen(result.seen)
        cycle.spared_patients.update(one.patient_id for one in result.rejected if one.patient_id)
        cycle.unreadable += sum(one.unreadable for one in batch.rejected)
        self._cycle = cycle
        tell_outcome(self._source, result)

    def finish_cycle(self, end: CycleEnd) -> CycleSummary:
        """Apply what only the whole snapshot can tell, and close the cycle, in one transaction.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: As `apply_batch`.
        """
        if self._is_over(end.started_at):
            return self._recall_summary()
        with self._engine.begin() as connection:
            cycle = self._continue_cycle(connection, end.cycle, end.started_at, end.seq)
            error = end.error
            if error is None and end.seq != cycle.last_seq + 1:
                error = "some of its batches did not arrive; the next cycle brings them"
            complete = end.complete and error is None and cycle.whole
            working = WorkingSet(connection, self._rules, actor=f"source:{self._source}", now=utc_now())
            held = self._held
            if complete:
                keep = self._keep_missing or cycle.unreadable > 0
                still_held = settle_snapshot(working, self._source, cycle, held=held, keep_missing=keep)
                held = held if cycle.unreadable else still_held
                remove_unseen(connection, self._source, cycle.started_at)
            cycle.counts["cancelled"] += len(working.events.cancelled)
            whole = complete and held is None and not cycle.unreadable
            save_run(connection, self._source, cycle, complete=whole, error=error)
            clear_progress(connection, self._source, held, accepted_was_used=complete and not cycle.unreadable)
            entries = self._count_live(connection)
        self._cycle, self._held, self._finished = None, held, cycle.started_at
        tell_outcome(self._source, Outcome(events=[working.events]))
        return CycleSummary(
            counts=cycle.counts, entries=entries, complete=whole, unreadable=cycle.unreadable, held=held
        )

    def accept_removal(self) -> None:
        """Let the next snapshot remove what it will, whatever the guard says."""
        with self._engine.begin() as connection:
            accept_next_removal(connection, self._source)

    def _is_over(self, started_at: str) -> bool:
        """Whether a frame belongs to the cycle that was finished last: its acknowledgement was lost."""
        return self._cycle is None and started_at == self._finished

    def _recall_summary(self) -> CycleSummary:
        with self._engine.connect() as connection:
            run = find_last_run(connection, self._source)
            entries = self._count_live(connection)
        counts = read_counts(run) if run else {}
        return CycleSummary(counts=counts, entries=entries, complete=bool(run and run.complete), held=self._held)

    def _continue_cycle(self, connection: Connection, name: str, started_at: str, seq: int) -> CycleState:
        """A copy of the cycle in progress if it is this one, else a new one; an abandoned one gets its run's row."""
        if self._cycle and self._cycle.cycle == name:
            return replace(self._cycle, counts=dict(self._cycle.counts))
        if self._cycle:
            error = "the cycle was interrupted; the next one repeats it"
            save_run(connection, self._source, self._cycle, complete=False, error=error)
        return CycleState(name, started_at, whole=seq == 1)

    def _take_in(self, connection: Connection, cycle: CycleState, batch: EntryBatch, now: str) -> Outcome:
        """Store the records together or, when one of them raises, one by one, each under a savepoint of its own."""
        try:
            with connection.begin_nested():
                result = self._store(connection, cycle, batch.records, batch.snapshot, now)
        except Exception as error:
            if is_temporary(error):
                raise
            logger.exception("source %s: a record of batch %d cannot be stored", self._source, batch.seq)
            result = self._store_singly(connection, cycle, batch, now)
        result.rejected += batch.rejected
        present = [storable(key) for key in batch.present]
        self._bring_back(connection, present, result, now)
        # A record that has become unreadable is still there: it keeps its item.
        shown = [*present, *(storable(one.record_key) for one in result.rejected)]
        result.seen += [row.id for row in self._find_existing(connection, shown).values() if row.state != WITHDRAWN]
        result.counts["fetched"] += len(batch.records) - result.repeats + len(batch.rejected)
        result.counts["rejected"] += len(result.rejected)
        note_sightings(connection, self._source, [*result.refused, *present], now)
        add_rejections(connection, self._source, result.rejected, now)
        return result

    def _bring_back(self, connection: Connection, present: Sequence[str], result: Outcome, now: str) -> None:
        """Let in, as they were, the records that an earlier list of what exists did not have."""
        back = [row for row in self._find_existing(connection, present).values() if row.state == WITHDRAWN]
        if not back:
            return
        working = WorkingSet(connection, self._rules, actor=f"source:{self._source}", now=now)
        working.load(row.patient_id for row in back)
        for row in back:
            working.enter(working.records[row.id], LIVE)
        working.write()
        result.counts["fetched"] += len(back)
        result.counts["inserted"] += len(back)
        result.events.append(working.events)

    def _store_singly(self, connection: Connection, cycle: CycleState, batch: EntryBatch, now: str) -> Outcome:
        result = Outcome()
        # What is seen here counts for the cycle only once it is committed.
        cycle = replace(cycle, seen=bytearray(cycle.seen))
        for record in batch.records:
            try:
                with connection.begin_nested():
                    one = self._store(connection, cycle, [record], batch.snapshot, now)
            except Exception as error:
                if is_temporary(error):
                    raise
                reason = f"cannot be stored ({type(error).__name__}); the writer's log says why"
                result.rejected.append(Rejection(record[0], "", reason, record[2].get("patient_id")))
            else:
                result.add(one)
                cycle.mark_seen(one.seen)
        return result

    def _store(
        self,
        connection: Connection,
        cycle: CycleState,
        records: Sequence[EntryRecord],
        snapshot: bool,
        now: str,
    ) -> Outcome:
        """Compare with what is stored, and change what differs."""
        result = Outcome()
        existing = self._find_existing(connection, [key for key, _, _ in records])
        shown: dict[str, str] = {}
        fresh: dict[str, EntryRecord] = {}
        for record in records:
            key, digest, fields = record
            prior = existing.get(key)
            if key not in shown and prior is not None and cycle.has_seen(prior.id):
                shown[key] = prior.digest
            if shown.get(key) == digest:
                result.repeats += 1
                continue
            if key in shown and snapshot:
                result.rejected.append(_same_key(key, fields))
                continue
            shown[key] = digest
            if prior is not None and prior.digest == digest and prior.state != WITHDRAWN:
                result.seen.append(prior.id)
                if prior.state == REFUSED:
                    result.refused.append(key)
                result.counts["rejected" if prior.state == REFUSED else "unchanged"] += 1
            else:
                fresh[key] = record
        if fresh:
            self._change(connection, cycle, fresh, existing, snapshot, now, result)
        return result

    def _change(
        self,
        connection: Connection,
        cycle: CycleState,
        fresh: Mapping[str, EntryRecord],
        existing: Mapping[str, _Existing],
        snapshot: bool,
        now: str,
        result: Outcome,
    ) -> None:
        newcomers = {key: fields for key, _, fields in fresh.values() if key not in existing}
        new_patients = [fields["patient_id"] for fields in newcomers.values()]
        complete_old_ids(connection, self._source, new_patients, self._rules.ranks, now)
        working = WorkingSet(connection, self._rules, actor=f"source:{self._source}", now=now)
        working.load(fields["patient_id"] for _, _, fields in fresh.values())
        working.load(existing[key].patient_id for key in fresh if key in existing)
        records = {key: working.records[existing[key].id] for key in fresh if key in existing}
        records |= match_old_records(working.records.values(), self._source, newcomers, self._rules.ranks)
        seen = set(result.seen)
        touched: list[tuple[Record, str]] = []
        for key, digest, fields in fresh.values():
            known = records.get(key)
            arrives = known is None or known.state == WITHDRAWN
            state = LIVE
            if arrives and snapshot and key.startswith(STEP_KEY):
                state = self._state_of_newcomer(working, cycle, seen, fields)
            if known is None:
                record = working.add(self._source, key, fields, digest, state)
            else:
                record = known
                record.data_source, record.record_key = self._source, key
                working.change(record, fields, digest)
                if arrives:
                    working.enter(record, state)
            seen.add(record.id)
            touched.append((record, "inserted" if arrives else "updated"))
        working.write()
        for record, outcome in touched:
            result.counts["rejected" if record.state == REFUSED else outcome] += 1
        remove_rejections(
            connection, self._source, [record.record_key for record, _ in touched if record.state != REFUSED]
        )
        result.seen += [record.id for record, _ in touched]
        result.counts["cancelled"] += len(working.events.cancelled)
        result.events.append(working.events)

    def _state_of_newcomer(
        self, working: WorkingSet, cycle: CycleState, seen: set[int], fields: Mapping[str, str]
    ) -> str:
        """PENDING while the snapshot has not shown a record that this one may be, at another time."""
        for record in working.records_of(fields["patient_id"]):
            if (
                record.data_source == self._source
                and record.state == LIVE
                and record.record_key.startswith(STEP_KEY)
                and record.id not in seen
                and not cycle.has_seen(record.id)
                and record.fields.get("modality") == fields.get("modality")
            ):
                return PENDING
        return LIVE

    def _find_existing(self, connection: Connection, keys: Sequence[str]) -> dict[str, _Existing]:
        return {
            row.record_key: row
            for chunk in chunks(keys)
            for row in connection.execute(_FIND_EXISTING, {"source": self._source, "keys": chunk})
        }

    def _count_live(self, connection: Connection) -> int:
        statement = select(func.count()).where(_ENTRIES.data_source == self._source, _ENTRIES.state == LIVE)
        return connection.scalar(statement) or 0


def _same_key(key: str, fields: Mapping[str, str]) -> Rejection:
    reason = "another record of the same fetch has this identity and other values; map source_record_id"
    return Rejection(key, "source_record_id", reason, fields["patient_id"])


_FIND_EXISTING = select(_ENTRIES.id, _ENTRIES.record_key, _ENTRIES.digest, _ENTRIES.state, _ENTRIES.patient_id).where(
    _ENTRIES.data_source == bindparam("source"), _ENTRIES.record_key.in_(bindparam("keys", expanding=True))
)
