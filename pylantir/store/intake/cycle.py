"""Stores one source's cycles: their batches in order, then their end, each in one transaction. Lives in the writer.

Every step may be repeated: a committed frame that arrives again changes nothing. The writer keeps only in memory which
records a cycle has shown, so a cycle that began under another writer never removes anything. `batch` stores a batch's
records, `conclusion` decides what the writer may do at the end of a cycle, and `snapshot` does it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import tzinfo
from functools import partial

from sqlalchemy import Connection, Engine

from pylantir.errors import frames_of
from pylantir.ipc.cycles import CycleEnd, EntryBatch
from pylantir.store.clock import Clock, local_day, system_time, utc_now
from pylantir.store.decide.claims import Rules
from pylantir.store.decide.conclusion import Conclusion, conclude
from pylantir.store.decide.removal import HeldRemoval
from pylantir.store.failures import describe_failure, is_passing, telling_the_first_cause
from pylantir.store.hosts.leases import Tenure
from pylantir.store.hosts.transactions import SourceTransactions
from pylantir.store.intake.batch import BatchIntake
from pylantir.store.intake.outcome import Outcome, tell_outcome
from pylantir.store.intake.progress import (
    clear_progress,
    count_live,
    end_hold,
    find_last_run,
    find_last_success,
    read_counts,
    read_progress,
    save_progress,
    save_run,
)
from pylantir.store.intake.quarantine import note_missed_sightings, remove_unseen
from pylantir.store.intake.records import ask_stored
from pylantir.store.intake.remembered import Again, Passages
from pylantir.store.intake.snapshot import settle_snapshot, withdraw_held
from pylantir.store.intake.state import CycleState, CycleSummary
from pylantir.store.intake.warnings import save_warnings
from pylantir.store.intake.working.items import Events
from pylantir.store.intake.working_set import WorkingSet
from pylantir.store.schema.engine import reading

logger = logging.getLogger(__name__)


class SourceIngest:
    """Stores the cycles of one source.

    Args:
        engine: The database, opened for writing.
        source: The source's name.
        rules: Priorities and the matching rule.
        keep_missing: Records that a snapshot no longer shows stay (`missing_entries: "keep"`).
        seldom: The source is fetched less often than once per `removal.SELDOM_S` seconds.
        tenure: This host's right to fetch the source; None where no other host can.
        zone: The zone of the source's wall clock; None: this machine's.
        clock: Returns the time.
        day_clock: Returns the time by which a booking is of a past day; None: `clock`. Today's bookings must not pass
            for past ones, which nothing guards, because one clock is ahead.
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
        zone: tzinfo | None = None,
        clock: Clock = system_time,
        day_clock: Clock | None = None,
    ) -> None:
        self._engine = engine
        self._source = source
        self._rules = rules
        self._keep_missing = keep_missing
        self._seldom = seldom
        self._zone = zone
        self._clock = clock
        self._day_clock = day_clock or clock
        self._passages = Passages()
        self._told_repeats = 0
        with reading(engine) as connection:
            self._cycle, self._held, mark = read_progress(connection, source)
            last_run = find_last_run(connection, source)
        self._finished = last_run.started_at if last_run else None
        self._transactions = SourceTransactions(engine, source, mark, tenure)

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
        self._passages.move(again.names, cycle.passages)
        # A refused, repeated or pending record is checked in every cycle.
        ids = [None if key in result.unclean else result.ids.get(key) for key in batch.records.keys]
        unkept = cycle.passages.remember(batch.passages, ids)
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
        ask = None
        if batch.records and not singly:
            ask = partial(ask_stored, source=self._source, records=batch.records, version=self._rules.version)
        with telling_the_first_cause(), self._transactions.begin(ask) as (connection, stored):
            cycle = self._continue_cycle(connection, batch.cycle, batch.started_at, batch.seq)
            cycle.gap |= batch.seq != cycle.last_seq + 1
            cycle.whole &= not cycle.gap
            again = self._passages.recognise(batch.repeated, cycle.has_seen_any)
            if again.has_unknown:
                cycle.whole, cycle.forgotten = False, True
            intake = BatchIntake(
                connection, self._source, self._rules, cycle, again=again.ids, snapshot=batch.snapshot,
                now=utc_now(self._clock),
            )  # fmt: skip
            result = intake.take_in(batch, stored)
            for name, count in result.counts.items():
                cycle.counts[name] += count
            cycle.last_seq = batch.seq
            save_progress(connection, self._source, cycle, self._transactions.next_mark())
        return cycle, again, result

    def finish_cycle(self, end: CycleEnd) -> CycleSummary:
        """Apply the removals and moves of a complete snapshot and close the cycle, in one transaction.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: As `apply_batch`.
        """
        if self._is_over(end.started_at):
            return self._recall_summary()
        with self._transactions.begin() as (connection, _):
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
            held, events = self._settle(connection, cycle, ending)
            complete = ending.settles and held is None and not cycle.unreadable
            now = utc_now(self._clock)
            save_run(connection, self._source, cycle, complete=complete, error=ending.error, now=now)
            if ending.error is None:
                save_warnings(connection, self._source, end.warnings, now, snapshot=end.snapshot)
            clear_progress(connection, self._source, held, self._transactions.next_mark())
            entries = count_live(connection, self._source)
        self._cycle, self._held, self._finished = None, held, cycle.started_at
        self._passages = cycle.passages if ending.settles else Passages()
        tell_outcome(self._source, Outcome(events=events))
        if ending.error is None:
            self._tell_repeats(cycle.repeats)
        return CycleSummary(
            counts=cycle.counts, entries=entries, complete=complete, error=ending.error, forgotten=cycle.forgotten,
            unreadable=cycle.unreadable, held=held,
        )  # fmt: skip

    def _settle(
        self, connection: Connection, cycle: CycleState, ending: Conclusion
    ) -> tuple[HeldRemoval | None, list[Events]]:
        """Do what the end of a cycle allows; return the removal that is held back now, and what was done to items."""
        working = self._open(connection)
        held, events = self._held, [working.events]
        if ending.settles:
            still_held = settle_snapshot(
                working, self._source, cycle, held=held, removes=ending.removes, keep_missing=self._keep_missing,
                today=local_day(self._day_clock, self._zone), seldom=self._seldom,
            )  # fmt: skip
            held = held if cycle.unreadable else still_held
        if ending.error is None:
            # What was in the way may have gone by time alone, and an incremental source does not repeat itself.
            freed = self._open(connection)
            events.append(freed.events)
            freed.recheck_refused(self._source)
            freed.write()
        if ending.settles:
            now = utc_now(self._clock)
            missed = note_missed_sightings(connection, self._source, cycle.has_seen, cycle.started_at, now)
            cycle.counts["unchanged"] -= missed
            cycle.counts["rejected"] += missed
            remove_unseen(connection, self._source, cycle.started_at, now)
        cycle.counts["cancelled"] += len(working.events.cancelled)
        return held, events

    def _tell_repeats(self, count: int) -> None:
        """Log how many records the fetch gave again, unless the last fetch gave as many."""
        if count and count != self._told_repeats:
            logger.warning("source %s: %d exact repeats in one fetch count once", self._source, count)
        self._told_repeats = count

    def accept_removal(self, *, dry_run: bool = False) -> str:
        """Withdraw the records that are held back now, and end the hold; return what was done."""
        with self._transactions.begin(dry_run=dry_run, durable=True) as (connection, _):
            working = self._open(connection, actor="command:accept")
            count = withdraw_held(working, self._source, self._cycle)
            end_hold(connection, self._source, self._transactions.next_mark())
        cancelled = len(working.events.cancelled)
        if not dry_run:
            self._held = None
            tell_outcome(self._source, Outcome(events=[working.events]))
        if not count:
            return f"{self._source}: nothing is held back"
        would = "would be " if dry_run else ""
        return f"{self._source}: {count} held records {would}withdrawn, {cancelled} items {would}cancelled"

    def _open(self, connection: Connection, actor: str | None = None) -> WorkingSet:
        actor = actor or f"source:{self._source}"
        return WorkingSet(connection, self._rules, actor=actor, now=utc_now(self._clock))

    def _is_over(self, started_at: str) -> bool:
        """Whether a frame belongs to the last finished cycle; its acknowledgement was lost."""
        return self._cycle is None and started_at == self._finished

    def _recall_summary(self) -> CycleSummary:
        with reading(self._engine) as connection:
            run = find_last_run(connection, self._source)
            entries = count_live(connection, self._source)
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
