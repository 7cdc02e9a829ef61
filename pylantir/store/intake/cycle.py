"""Stores one source's cycle: its batches in order, then its end, each in one transaction. Lives in the writer.

Every step may be repeated: a committed frame that arrives again changes nothing. The writer keeps only in memory which
records a cycle has shown, so a cycle that began under another writer never removes anything. `conclusion` decides what
the writer may do at the end of a cycle.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, Engine, func, select

from pylantir.errors import frames_of
from pylantir.ipc.cycles import CycleEnd, EntryBatch
from pylantir.store.clock import Clock, local_day, system_time, utc_now
from pylantir.store.decide.claims import Rules
from pylantir.store.decide.classify import Existing
from pylantir.store.decide.conclusion import conclude
from pylantir.store.decide.records import LIVE, REFUSED, WITHDRAWN
from pylantir.store.failures import describe_failure, is_passing, telling_the_first_cause
from pylantir.store.hosts.history import History
from pylantir.store.hosts.leases import Tenure
from pylantir.store.intake.batch import BatchIntake, ask_existing
from pylantir.store.intake.outcome import Again, Outcome, tell_outcome
from pylantir.store.intake.progress import (
    clear_progress,
    end_hold,
    find_last_run,
    find_last_success,
    read_counts,
    read_progress,
    save_progress,
    save_run,
)
from pylantir.store.intake.quarantine import (
    add_rejections,
    note_missed_sightings,
    note_sightings,
    remove_unseen,
    storable,
)
from pylantir.store.intake.remembered import Passages
from pylantir.store.intake.snapshot import settle_snapshot, withdraw_held
from pylantir.store.intake.state import CycleState, CycleSummary
from pylantir.store.intake.warnings import save_warnings
from pylantir.store.intake.working_set import WorkingSet
from pylantir.store.schema.engine import reading, transaction
from pylantir.store.schema.facts import Facts, ask_facts
from pylantir.store.schema.tables import NOT_LIVE, source_entries

logger = logging.getLogger(__name__)

_ENTRIES = source_entries.c
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of a batch's records: what reads it, once it was asked for.

    Attributes:
        existing: Key -> record.
        facts: What the decisions need besides; None: the batch has no records.
    """

    existing: Callable[[], Mapping[str, Existing]]
    facts: Callable[[], Facts] | None


class SourceIngest:
    """Stores the cycles of one source.

    Args:
        engine: The database, opened for writing.
        source: The source's name.
        rules: Priorities and the matching rule.
        keep_missing: Records that a snapshot no longer shows stay (`missing_entries: "keep"`).
        seldom: The source is fetched less often than once per `removal.SELDOM_S` seconds.
        tenure: This host's right to fetch the source; None where no other host can.
        clock: Returns the time.
    """

    def __init__(
        self,
        engine: Engine,
        source: str,
        rules: Rules,
        *,
        keep_missing: bool = False,
        seldom: bool = False,
        tenure: Tenure | None = None,
        clock: Clock = system_time,
    ) -> None:
        self._engine = engine
        self._source = source
        self._rules = rules
        self._keep_missing = keep_missing
        self._seldom = seldom
        self._clock = clock
        self._passages = Passages()
        self._told_repeats = 0
        with reading(engine) as connection:
            self._cycle, self._held, mark = read_progress(connection, source)
            last_run = find_last_run(connection, source)
        self._finished = last_run.started_at if last_run else None
        self._tenure = tenure
        self._history = History(source, mark)

    def use_rules(self, rules: Rules) -> None:
        """Decide by other rules from now on."""
        self._rules = rules

    def find_last_success(self) -> str | None:
        """Return when the last successful cycle began (ISO 8601, UTC); an incremental source continues from there."""
        with reading(self._engine) as connection:
            return find_last_success(connection, self._source)

    def apply_batch(self, batch: EntryBatch) -> list[int]:
        """Store a batch in one transaction; returns after the COMMIT.

        Returns:
            Names of its passages that the next cycle must send again with all their records.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The batch could not be stored now (disk full, lock). Nothing has changed;
                the caller may give the same batch again.
            ClusterChanged: What the writer knew of the source is over; nothing has changed.
        """
        if self._is_over(batch.started_at):
            return []
        if self._cycle and self._cycle.cycle == batch.cycle and batch.seq <= self._cycle.last_seq:
            return []
        cycle, again, result = self._commit(batch)
        cycle.mark_seen(result.seen)
        cycle.mark_seen(list(again.ids))
        unkept = self._remember(cycle, batch, again, result)
        cycle.spared_patients.update(one.patient_id for one in result.rejected if one.patient_id)
        cycle.accepted += len(result.ids) + len(again.ids) + len(batch.present)
        cycle.refused += len(result.rejected)
        cycle.unreadable += sum(one.unreadable for one in batch.rejected)
        cycle.repeats += result.repeats
        self._cycle = cycle
        tell_outcome(self._source, result)
        return unkept

    def _commit(self, batch: EntryBatch) -> tuple[CycleState, Again, Outcome]:
        """Store a batch; if that raises because of one of its records, store them one by one."""
        try:
            return self._commit_once(batch, singly=False)
        # Whatever is wrong with a record: the others are stored.
        except Exception as error:
            if is_passing(error) or not batch.records:
                raise
            logger.error("source %s: a record of a batch cannot be stored: %s\n%s",  # noqa: TRY400
                         self._source, describe_failure(error), frames_of(error))  # fmt: skip
        return self._commit_once(batch, singly=True)

    def _commit_once(self, batch: EntryBatch, *, singly: bool) -> tuple[CycleState, Again, Outcome]:
        ask = None if singly else partial(self._ask_stored, batch=batch)
        with telling_the_first_cause(), self._transaction(ask) as (connection, stored):
            cycle = self._continue_cycle(connection, batch.cycle, batch.started_at, batch.seq)
            cycle.gap |= batch.seq != cycle.last_seq + 1
            cycle.whole &= not cycle.gap
            again = self._recognise(cycle, batch.repeated)
            result = self._take_in(connection, cycle, batch, again.ids, stored)
            for name, count in result.counts.items():
                cycle.counts[name] += count
            cycle.last_seq = batch.seq
            save_progress(connection, self._source, cycle, self._history.next_mark())
        return cycle, again, result

    def _ask_stored(self, connection: Connection, batch: EntryBatch) -> Stored:
        """Ask what is stored of a batch's records, and what else its decisions need."""
        existing = ask_existing(connection, self._source, batch.records.keys, batch.records.names)
        facts = ask_facts(connection, self._rules.version) if batch.records else None
        return Stored(existing, facts)

    def finish_cycle(self, end: CycleEnd) -> CycleSummary:
        """Apply the removals and moves of a complete snapshot and close the cycle, in one transaction.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: As `apply_batch`.
        """
        if self._is_over(end.started_at):
            return self._recall_summary()
        with self._transaction() as (connection, _):
            cycle = self._continue_cycle(connection, end.cycle, end.started_at, end.seq)
            ending = conclude(
                error=end.error,
                complete=end.complete,
                frames_missing=cycle.gap or end.seq != cycle.last_seq + 1,
                whole=cycle.whole,
                accepted=cycle.accepted,
                refused=cycle.refused,
                unreadable=cycle.unreadable,
                keep_missing=self._keep_missing,
            )
            working = self._open(connection)
            events = [working.events]
            held = self._held
            if ending.settles:
                still_held = settle_snapshot(
                    working, self._source, cycle, held=held, removes=ending.removes, keep_missing=self._keep_missing,
                    today=local_day(self._clock), seldom=self._seldom,
                )  # fmt: skip
                held = held if cycle.unreadable else still_held
            if ending.error is None:
                # What was in the way may have gone by time alone, and an incremental source does not repeat itself.
                freed = self._open(connection)
                events.append(freed.events)
                freed.recheck_refused(self._source)
                freed.write()
            if ending.settles:
                self._note_refused(connection, cycle, working.now)
                remove_unseen(connection, self._source, cycle.started_at, utc_now(self._clock))
            cycle.counts["cancelled"] += len(working.events.cancelled)
            complete = ending.settles and held is None and not cycle.unreadable
            save_run(connection, self._source, cycle, complete=complete, error=ending.error, now=utc_now(self._clock))
            if ending.error is None:
                save_warnings(connection, self._source, end.warnings, working.now, snapshot=end.snapshot)
            clear_progress(connection, self._source, held, self._history.next_mark())
            entries = self._count_live(connection)
        self._cycle, self._held, self._finished = None, held, cycle.started_at
        self._passages = cycle.passages if ending.settles else Passages()
        tell_outcome(self._source, Outcome(events=events))
        if ending.error is None:
            self._tell_repeats(cycle.repeats)
        return CycleSummary(
            counts=cycle.counts, entries=entries, complete=complete, error=ending.error, forgotten=cycle.forgotten,
            unreadable=cycle.unreadable, held=held,
        )  # fmt: skip

    def _tell_repeats(self, count: int) -> None:
        """Log how many records the fetch gave again, unless the last fetch gave as many."""
        if count and count != self._told_repeats:
            logger.warning("source %s: %d exact repeats in one fetch count once", self._source, count)
        self._told_repeats = count

    def accept_removal(self, *, dry_run: bool = False) -> str:
        """Withdraw the records that are held back now, and end the hold; return what was done."""
        with self._transaction(dry_run=dry_run, durable=True) as (connection, _):
            working = self._open(connection, actor="command:accept")
            count = withdraw_held(working, self._source, self._cycle)
            end_hold(connection, self._source, self._history.next_mark())
        cancelled = len(working.events.cancelled)
        if not dry_run:
            self._held = None
            tell_outcome(self._source, Outcome(events=[working.events]))
        if not count:
            return f"{self._source}: nothing is held back"
        would = "would be " if dry_run else ""
        return f"{self._source}: {count} held records {would}withdrawn, {cancelled} items {would}cancelled"

    @contextmanager
    def _transaction(
        self, ask: Callable[[Connection], T] | None = None, *, dry_run: bool = False, durable: bool = False
    ) -> Iterator[tuple[Connection, T | None]]:
        """Begin a transaction of the source: the lease is this host's, and the database has what was committed before.

        Args:
            ask: What the caller asks together with that; the answer is given with the connection.
            dry_run: Roll everything back.
            durable: As `engine.transaction`.

        Raises:
            LeaseLost, HistoryLost: It is not so. Nothing has changed.
        """
        with transaction(self._engine, dry_run=dry_run, pipelined=True, durable=durable) as connection:
            checks = [one.ask(connection) for one in (self._tenure, self._history) if one]
            asked = ask(connection) if ask else None
            for check in checks:
                check()
            yield connection, asked
            if self._tenure:
                self._tenure.renew(connection)
        if not dry_run:
            self._history.note_commit()

    def _open(self, connection: Connection, actor: str | None = None) -> WorkingSet:
        actor = actor or f"source:{self._source}"
        return WorkingSet(connection, self._rules, actor=actor, now=utc_now(self._clock))

    def _remember(self, cycle: CycleState, batch: EntryBatch, repeated: Again, result: Outcome) -> list[int]:
        """Remember the records of the passages just committed; return the passages that are not remembered.

        A passage with a refused, repeated or pending record is not remembered: such a record is checked every cycle.
        """
        unkept: list[int] = []
        for name in repeated.names:
            self._passages.move(name, cycle.passages)
        ids = [None if key in result.unclean else result.ids.get(key) for key in batch.records.keys]
        begin = 0
        for passage, length in batch.passages:
            own = ids[begin : begin + length]
            begin += length
            if passage is None:
                continue
            if own and all(own):
                cycle.passages.remember(passage, own)  # type: ignore[arg-type]  # none of them is None
            else:
                unkept.append(passage)
        return unkept

    def _is_over(self, started_at: str) -> bool:
        """Whether a frame belongs to the last finished cycle; its acknowledgement was lost."""
        return self._cycle is None and started_at == self._finished

    def _recall_summary(self) -> CycleSummary:
        with reading(self._engine) as connection:
            run = find_last_run(connection, self._source)
            entries = self._count_live(connection)
        counts = read_counts(run) if run else {}
        return CycleSummary(
            counts=counts, entries=entries, complete=bool(run and run.complete), error=run.error if run else None,
            held=self._held,
        )  # fmt: skip

    def _continue_cycle(self, connection: Connection, name: str, started_at: str, seq: int) -> CycleState:
        """Return a copy of the cycle in progress or begin a new one; an abandoned cycle gets its row in `sync_runs`."""
        if self._cycle and self._cycle.cycle == name:
            return replace(self._cycle, counts=dict(self._cycle.counts))
        if self._cycle:
            error = "the cycle was interrupted; the next one repeats it"
            save_run(connection, self._source, self._cycle, complete=False, error=error, now=utc_now(self._clock))
            self._passages = Passages()
        return CycleState(name, started_at, whole=seq == 1)

    def _take_in(
        self, connection: Connection, cycle: CycleState, batch: EntryBatch, again: Set[int], stored: Stored | None
    ) -> Outcome:
        """Store the records of a batch, and note which records it shows; without `stored`, one by one."""
        now = utc_now(self._clock)
        intake = BatchIntake(
            connection, self._source, self._rules, cycle, again=again, snapshot=batch.snapshot, now=now
        )  # fmt: skip
        if stored is None:
            result = intake.store_singly(batch.records)
        elif stored.facts is None:
            result = Outcome()
        else:
            result = intake.store(batch.records, stored.existing(), stored.facts())
        result.rejected += batch.rejected
        present = [storable(key) for key in batch.present]
        self._bring_back(connection, present, result, now)
        # The source still has a record that became unreadable: the record keeps its item.
        shown = [*present, *(storable(one.record_key) for one in result.rejected)]
        still = ask_existing(connection, self._source, shown)()
        result.seen += [row.id for row in still.values() if row.state != WITHDRAWN]
        result.counts["fetched"] += len(again) + len(batch.records) - result.repeats + len(batch.rejected)
        result.counts["unchanged"] += len(again)
        result.counts["rejected"] += len(result.rejected)
        note_sightings(connection, self._source, [*result.refused, *present], now)
        add_rejections(connection, self._source, result.rejected, now)
        return result

    def _recognise(self, cycle: CycleState, names: Sequence[int]) -> Again:
        """Return the records of the named passages; a cycle that names an unknown passage is not complete."""
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
        """Make live again, unchanged, the withdrawn records that the source lists again."""
        existing = ask_existing(connection, self._source, present)()
        back = [row for row in existing.values() if row.state == WITHDRAWN]
        if not back:
            return
        working = self._open(connection)
        working.load(row.patient_id for row in back)
        for row in back:
            working.enter(working.records[row.id], LIVE)
        working.write()
        result.counts["fetched"] += len(back)
        result.counts["inserted"] += len(back)
        result.events.append(working.events)

    def _note_refused(self, connection: Connection, cycle: CycleState, now: str) -> None:
        """Note sightings of the records in unchanged passages that were refused since because of another source."""
        unsettled = (_ENTRIES.data_source == self._source, NOT_LIVE, _ENTRIES.state == REFUSED)
        refused = connection.execute(select(_ENTRIES.id, _ENTRIES.record_key).where(*unsettled))
        keys = [row.record_key for row in refused if cycle.has_seen(row.id)]
        missed = note_missed_sightings(connection, self._source, keys, cycle.started_at, now)
        cycle.counts["unchanged"] -= missed
        cycle.counts["rejected"] += missed

    def _count_live(self, connection: Connection) -> int:
        """Count the live records using only indexes: the table itself is far larger."""
        own = select(func.count()).where(_ENTRIES.data_source == self._source)
        everything, others = connection.execute(
            select(own.scalar_subquery(), own.where(NOT_LIVE).scalar_subquery())
        ).one()
        return int(everything - others)
