"""Taking in one source's cycle: batches in order, then the end, each in one transaction. Lives in the writer.

Everything here may be repeated: a frame that was committed and is sent again changes nothing. What a cycle has shown so
far is kept in memory only, so a cycle that began under another writer never removes anything.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from sqlalchemy import Connection, Engine, func, select

from pylantir.entry import RECORD_FIELDS
from pylantir.store.adoption import complete_old_ids, match_old_records
from pylantir.store.bulk import select_among
from pylantir.store.claims import Rules
from pylantir.store.columns import Contents, RecordColumns
from pylantir.store.cycles import CycleEnd, CycleState, CycleSummary, EntryBatch, utc_now
from pylantir.store.failures import is_temporary, telling_the_first_cause
from pylantir.store.newcomers import find_known_patients, insert_newcomers
from pylantir.store.outcome import Again, Outcome, tell_outcome
from pylantir.store.passages import Passages
from pylantir.store.progress import accept_next_removal, clear_progress, read_progress, save_progress
from pylantir.store.quarantine import (
    Rejection,
    add_rejections,
    note_missed_sightings,
    note_sightings,
    remove_rejections,
    remove_unseen,
    storable,
)
from pylantir.store.records import LIVE, PENDING, REFUSED, STEP_KEY, WITHDRAWN, Record
from pylantir.store.runs import find_last_run, find_last_success, read_counts, save_run
from pylantir.store.snapshot import settle_snapshot
from pylantir.store.tables import NOT_LIVE, source_entries
from pylantir.store.working_set import Events, WorkingSet

logger = logging.getLogger(__name__)

_ENTRIES = source_entries.c


class _Existing(NamedTuple):
    """A stored record, as far as comparing needs it."""

    id: int
    state: str
    patient_id: str
    contents: Contents


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
        self._passages = Passages()
        with engine.connect() as connection:
            self._cycle, self._held = read_progress(connection, source)
            last_run = find_last_run(connection, source)
        self._finished = last_run.started_at if last_run else None

    def find_last_success(self) -> str | None:
        """When the last successful cycle began (ISO 8601, UTC): where an incremental source goes on from."""
        with self._engine.connect() as connection:
            return find_last_success(connection, self._source)

    def apply_batch(self, batch: EntryBatch) -> list[int]:
        """Take in a batch, in one transaction; returns after the COMMIT.

        Returns:
            Names of its passages that must come with all their records in the next cycle, too.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: It could not be stored just now (disk full, lock): nothing has changed,
                and the same batch may be given again.
        """
        if self._is_over(batch.started_at):
            return []
        now = utc_now()
        with telling_the_first_cause(), self._engine.begin() as connection:
            cycle = self._continue_cycle(connection, batch.cycle, batch.started_at, batch.seq)
            if batch.seq <= cycle.last_seq:
                return []
            cycle.whole &= batch.seq == cycle.last_seq + 1
            result = self._take_in(connection, cycle, batch, now)
            for name, count in result.counts.items():
                cycle.counts[name] += count
            cycle.last_seq = batch.seq
            save_progress(connection, self._source, cycle)
        cycle.mark_seen(result.seen)
        cycle.mark_seen(list(result.again.ids))
        unkept = self._remember(cycle, batch, result)
        cycle.spared_patients.update(one.patient_id for one in result.rejected if one.patient_id)
        cycle.unreadable += sum(one.unreadable for one in batch.rejected)
        self._cycle = cycle
        tell_outcome(self._source, result)
        return unkept

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
                self._note_refused(connection, cycle, working.now)
                remove_unseen(connection, self._source, cycle.started_at)
            cycle.counts["cancelled"] += len(working.events.cancelled)
            whole = complete and held is None and not cycle.unreadable
            save_run(connection, self._source, cycle, complete=whole, error=error)
            clear_progress(connection, self._source, held, accepted_was_used=complete and not cycle.unreadable)
            entries = self._count_live(connection)
        self._cycle, self._held, self._finished = None, held, cycle.started_at
        self._passages = cycle.passages if complete else Passages()
        tell_outcome(self._source, Outcome(events=[working.events]))
        return CycleSummary(
            counts=cycle.counts, entries=entries, complete=whole, forgotten=cycle.forgotten,
            unreadable=cycle.unreadable, held=held,
        )  # fmt: skip

    def accept_removal(self) -> None:
        """Let the next snapshot remove what it will, whatever the guard says."""
        with self._engine.begin() as connection:
            accept_next_removal(connection, self._source)

    def _remember(self, cycle: CycleState, batch: EntryBatch, result: Outcome) -> list[int]:
        """Note what the passages stand for that were committed just now; tells which are not kept.

        Those are the ones with a record that was refused, repeated or waits: it is looked at in every cycle.
        """
        unkept: list[int] = []
        for again in result.again.names:
            self._passages.move(again, cycle.passages)
        keys = iter([str(record[0]) for record in batch.records])
        for name, length in batch.passages:
            own = list(islice(keys, length))
            if name is None:
                continue
            if own and result.unclean.isdisjoint(own) and result.ids.keys() >= set(own):
                cycle.passages.remember(name, [result.ids[key] for key in own])
            else:
                unkept.append(name)
        return unkept

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
            self._passages = Passages()
        return CycleState(name, started_at, whole=seq == 1)

    def _take_in(self, connection: Connection, cycle: CycleState, batch: EntryBatch, now: str) -> Outcome:
        """Store the records together or, when one of them raises, one by one, each under a savepoint of its own."""
        again = self._recognise(cycle, batch.repeated)
        records = RecordColumns.of(batch.names, batch.records)
        try:
            with connection.begin_nested():
                result = self._store(connection, cycle, again.ids, records, batch.snapshot, now)
        except Exception as error:
            if is_temporary(error):
                raise
            logger.exception("source %s: a record of batch %d cannot be stored", self._source, batch.seq)
            result = self._store_singly(connection, cycle, again.ids, records, batch.snapshot, now)
        result.again = again
        result.rejected += batch.rejected
        present = [storable(key) for key in batch.present]
        self._bring_back(connection, present, result, now)
        # A record that has become unreadable is still there: it keeps its item.
        shown = [*present, *(storable(one.record_key) for one in result.rejected)]
        result.seen += [row.id for row in self._find_existing(connection, shown).values() if row.state != WITHDRAWN]
        result.counts["fetched"] += len(again.ids) + len(records) - result.repeats + len(batch.rejected)
        result.counts["unchanged"] += len(again.ids)
        result.counts["rejected"] += len(result.rejected)
        note_sightings(connection, self._source, [*result.refused, *present], now)
        add_rejections(connection, self._source, result.rejected, now)
        return result

    def _recognise(self, cycle: CycleState, names: Sequence[int]) -> Again:
        """The records that passages stand for; a cycle that names what we do not know is not whole."""
        again = Again()
        for name in names:
            ids = self._passages.find(name)
            if ids is None or not again.ids.isdisjoint(ids) or cycle.has_seen_any(ids):
                cycle.whole, cycle.forgotten = False, True
            else:
                again.names.append(name)
                again.ids.update(ids)
        return again

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

    def _store_singly(
        self,
        connection: Connection,
        cycle: CycleState,
        again: Set[int],
        records: RecordColumns,
        snapshot: bool,
        now: str,
    ) -> Outcome:
        result = Outcome()
        # What is seen here counts for the cycle only once it is committed.
        cycle = replace(cycle, seen=bytearray(cycle.seen))
        for place, key in enumerate(records.keys):
            try:
                with connection.begin_nested():
                    one = self._store(connection, cycle, again, records.pick([place]), snapshot, now)
            except Exception as error:
                if is_temporary(error):
                    raise
                reason = f"cannot be stored ({type(error).__name__}); the writer's log says why"
                result.rejected.append(Rejection(key, "", reason, records.patients[place]))
            else:
                result.add(one)
                cycle.mark_seen(one.seen)
        return result

    def _store(
        self,
        connection: Connection,
        cycle: CycleState,
        again: Set[int],
        records: RecordColumns,
        snapshot: bool,
        now: str,
    ) -> Outcome:
        """Compare with what is stored, and change what differs."""
        result = Outcome()
        existing = self._find_existing(connection, records.keys, records.names)
        if not existing and len(set(records.keys)) == len(records):
            if records.keys:
                self._change(connection, cycle, again, records, existing, snapshot, now, result)
            return result
        shown: dict[str, Contents] = {}
        fresh: list[int] = []
        for place, (key, *said) in enumerate(zip(records.keys, *records.values.values(), strict=True)):
            prior = existing.get(key)
            if key not in shown and prior is not None and (prior.id in again or cycle.has_seen(prior.id)):
                shown[key] = prior.contents
            if shown.get(key) == said:
                result.repeats += 1
                result.unclean.add(key)
                continue
            if key in shown and snapshot:
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
            self._change(connection, cycle, again, records.pick(fresh), existing, snapshot, now, result)
        result.unclean.update(one.record_key for one in result.rejected)
        return result

    def _change(
        self,
        connection: Connection,
        cycle: CycleState,
        again: Set[int],
        fresh: RecordColumns,
        existing: Mapping[str, _Existing],
        snapshot: bool,
        now: str,
        result: Outcome,
    ) -> None:
        """Store records that are new or differ: those that need no decision together, the others after one."""
        complete_old_ids(connection, self._source, fresh.patients, self._rules.ranks, now)
        undecided = {
            patient
            for key, patient in zip(fresh.keys, fresh.patients, strict=True)
            if (prior := existing.get(key)) is not None
            for patient in (patient, prior.patient_id)
        }
        undecided |= find_known_patients(connection, fresh)
        plain = fresh.pick([n for n, patient in enumerate(fresh.patients) if patient not in undecided])
        # An incremental source may give a record twice: the later one counts.
        if len(set(plain.keys)) < len(plain):
            plain, undecided = fresh.pick([]), set(fresh.patients)
        if plain.keys:
            record_ids, item_ids = insert_newcomers(connection, self._source, plain, now)
            remove_rejections(connection, self._source, plain.keys)
            result.ids.update(zip(plain.keys, record_ids, strict=True))
            result.seen += record_ids
            result.counts["inserted"] += len(plain)
            result.events.append(Events(inserted=list(item_ids)))
        if undecided:
            rest = fresh.pick([n for n, patient in enumerate(fresh.patients) if patient in undecided])
            self._decide(connection, cycle, again, rest, existing, snapshot, now, result)

    def _decide(
        self,
        connection: Connection,
        cycle: CycleState,
        again: Set[int],
        fresh: RecordColumns,
        existing: Mapping[str, _Existing],
        snapshot: bool,
        now: str,
        result: Outcome,
    ) -> None:
        """Store records whose patients are known already: what they amount to together is decided anew."""
        said = fresh.fields()
        newcomers = {key: fields for key, fields in said.items() if key not in existing}
        working = WorkingSet(connection, self._rules, actor=f"source:{self._source}", now=now)
        working.load(fresh.patients)
        working.load(existing[key].patient_id for key in said if key in existing)
        records = {key: working.records[existing[key].id] for key in said if key in existing}
        records |= match_old_records(working.records.values(), self._source, newcomers, self._rules.ranks)
        seen = {*again, *result.seen}
        touched: list[tuple[Record, str]] = []
        for key, fields in said.items():
            known = records.get(key)
            arrives = known is None or known.state == WITHDRAWN
            state = LIVE
            if arrives and snapshot and key.startswith(STEP_KEY):
                state = self._state_of_newcomer(working, cycle, seen, fields)
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

    def _find_existing(
        self, connection: Connection, keys: Sequence[str], names: Sequence[str] = ()
    ) -> dict[str, _Existing]:
        """The stored records with these keys; their contents are the named fields, and more if they say more."""
        if not keys:
            return {}
        others = [name for name in RECORD_FIELDS if name not in names]
        columns = ("record_key", "id", "state", "patient_id", f"COALESCE({', '.join(others)}, NULL)", *names)
        found = select_among(connection, source_entries, columns, "record_key", keys, source=self._source)
        return {
            key: _Existing(number, state, patient_id, contents if more is None else [*contents, more])
            for key, number, state, patient_id, more, *contents in found
        }

    def _note_refused(self, connection: Connection, cycle: CycleState, now: str) -> None:
        """Records that came in repeated passages, and were refused since for another source's sake."""
        unsettled = (_ENTRIES.data_source == self._source, NOT_LIVE, _ENTRIES.state == REFUSED)
        refused = connection.execute(select(_ENTRIES.id, _ENTRIES.record_key).where(*unsettled))
        keys = [row.record_key for row in refused if cycle.has_seen(row.id)]
        missed = note_missed_sightings(connection, self._source, keys, cycle.started_at, now)
        cycle.counts["unchanged"] -= missed
        cycle.counts["rejected"] += missed

    def _count_live(self, connection: Connection) -> int:
        """Count by the indexes alone: the table is far larger."""
        own = select(func.count()).where(_ENTRIES.data_source == self._source)
        everything, others = connection.execute(
            select(own.scalar_subquery(), own.where(NOT_LIVE).scalar_subquery())
        ).one()
        return int(everything - others)


def _same_key(key: str, patient_id: str) -> Rejection:
    reason = "another record of the same fetch has this identity and other values; map source_record_id"
    return Rejection(key, "source_record_id", reason, patient_id)
