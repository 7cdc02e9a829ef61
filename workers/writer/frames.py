"""Commits frames one at a time and makes their acknowledgements.

Lives in the writer. In: frames from the entry queue. Out: committed transactions and acknowledgements. If a frame
itself causes a failure, its cycle fails: the cycle's row in `sync_runs` says why, and the source continues.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

from pylantir.errors import ProtocolError, frames_of
from pylantir.ipc.accesses import KIND
from pylantir.ipc.batch import read_batch, read_end, write_acknowledgement
from pylantir.ipc.cycles import CycleEnd, CycleResult
from pylantir.ipc.frames import Frame
from pylantir.store.decide.claims import Rules
from pylantir.store.failures import describe_failure, is_passing
from pylantir.store.intake.cycle import SourceIngest
from pylantir.store.intake.state import CycleSummary
from workers.writer.accesses import AccessIntake
from workers.writer.membership import Membership
from workers.writer.queue import Producer
from workers.writer.reports import commit_report
from workers.writer.settings import WriterSettings

MAX_TRIES = 3
"""How often the writer tries a frame that itself causes a failure."""

logger = logging.getLogger(__name__)


class FrameIntake:
    """Commits the frames of all producers.

    Args:
        engine: The database, opened for writing.
        settings: The writer's settings.
        membership: Has the rules, and the sources that this host fetches.
        accesses: Takes in who was shown what.
    """

    def __init__(
        self, engine: Engine, settings: WriterSettings, membership: Membership, accesses: AccessIntake
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._membership = membership
        self._ingests: dict[str, SourceIngest] = {}
        self.accesses = accesses
        self._failed: dict[str, tuple[str, str]] = {}

    def commit(self, producer: Producer, frame: Frame) -> Frame:
        """Commit a frame; returns its acknowledgement.

        Raises:
            ProtocolError: This producer may not send such a frame.
            ClusterChanged: What this writer knew is over; nothing has changed.
            Exception: The frame could not be stored; `pylantir.store.failures` classifies why. Nothing has changed.
        """
        if producer.role in {"mwl-scp", "web"}:
            if frame.get("kind") == KIND:
                return self.accesses.commit(frame)
            acknowledgement = commit_report(
                self._engine, frame, self._membership.rules, strict=self._settings.mpps_strict
            )
            self.accesses.note_report(frame, acknowledgement.get("summary"))
            return acknowledgement
        if producer.role != "source" or producer.source is None:
            msg = f"{producer.role} has nothing to send"
            raise ProtocolError(msg)
        ingest = self.ingest_of(producer.source)
        reason = self._reason_of_failure(producer.source, frame)
        if frame.get("kind") == "batch":
            batch = read_batch(frame)
            if reason is not None:
                return write_acknowledgement(frame, failed=reason)
            return write_acknowledgement(frame, unkept=ingest.apply_batch(batch))
        if frame.get("kind") == "end":
            end = read_end(frame)
            if reason is not None:
                end = replace(end, complete=False, error=reason)
            return write_acknowledgement(frame, summary=_finish(ingest, end))
        raise ProtocolError("a frame of unknown kind")

    def give_up(self, producer: Producer, frame: Frame, error: Exception) -> Frame:
        """Let the cycle of a frame that cannot be stored fail; returns the frame's acknowledgement.

        The row in `sync_runs` follows with the cycle's end. If the end itself cannot be stored, the log has the reason.
        """
        reason = f"it cannot be stored ({describe_failure(error)}); the writer's log says why"
        logger.error("source %s: the cycle fails: %s", producer.source, reason)
        if frame.get("kind") == "end":
            return write_acknowledgement(frame, summary=CycleResult(error=reason))
        self._failed[str(producer.source)] = (str(frame.get("cycle")), reason)
        return write_acknowledgement(frame, failed=reason)

    def find_last_success(self, source: str) -> str | None:
        """Return when the source's last successful cycle began (ISO 8601, UTC)."""
        return self.ingest_of(source).find_last_success()

    def ingest_of(self, source: str) -> SourceIngest:
        """Return what stores one source's cycles."""
        if source not in self._ingests:
            keep = source in self._settings.keep_missing
            seldom = source in self._settings.seldom
            zone = self._settings.zones.get(source)
            self._ingests[source] = SourceIngest(
                self._engine, source, self._membership.rules, keep_missing=keep, seldom=seldom,
                tenure=self._membership.tenure_of(source), zone=ZoneInfo(zone) if zone else None,
                day_clock=self._membership.clocks.earlier,
            )  # fmt: skip
        return self._ingests[source]

    def forget(self, source: str) -> None:
        """Forget what is in memory about a source."""
        self._ingests.pop(source, None)

    def forget_all(self) -> list[str]:
        """Forget what is in memory about every source; return their names."""
        names = list(self._ingests)
        self._ingests.clear()
        return names

    def use_rules(self, rules: Rules) -> None:
        """Decide by other rules from now on."""
        for ingest in self._ingests.values():
            ingest.use_rules(rules)

    def _reason_of_failure(self, source: str, frame: Frame) -> str | None:
        cycle, reason = self._failed.get(source, (None, None))
        return reason if cycle == frame.get("cycle") else None


def _finish(ingest: SourceIngest, end: CycleEnd) -> CycleResult:
    """Close a cycle; one whose end cannot be worked out is closed as failed."""
    try:
        return _result_of(ingest.finish_cycle(end), end.error)
    # The calculation depends on the fetched records, so only this cycle fails.
    except Exception as failure:
        if is_passing(failure):
            raise
        logger.error("the end of a cycle cannot be worked out; it counts as failed: %s\n%s",  # noqa: TRY400
                     describe_failure(failure), frames_of(failure))  # fmt: skip
        error = f"the snapshot could not be worked out ({type(failure).__name__}); the writer's log says why"
        return _result_of(ingest.finish_cycle(replace(end, complete=False, error=error)), error)


def _result_of(summary: CycleSummary, error: str | None) -> CycleResult:
    return CycleResult(
        error=error or summary.error, counts=dict(summary.counts), entries=summary.entries, complete=summary.complete,
        unreadable=summary.unreadable, forgotten=summary.forgotten,
        held=summary.held.as_json() if summary.held else None,
    )  # fmt: skip
