"""The source worker: fetches one source on its timetable and streams the records to the writer.

In: a source's settings; the plugin's records. Out: numbered batches on the entry queue, and results for `status`. It
does not use the database: the writer's welcome tells when the source was last fetched. A faulty plugin harms only this
process.
"""

from __future__ import annotations

import datetime
import logging
import os
import selectors
import time
from dataclasses import dataclass
from pathlib import Path

from pylantir.data_sources.base import DataSourcePlugin
from pylantir.errors import SourceUnavailable
from pylantir.ipc.batch import read_result, write_end, write_frame
from pylantir.ipc.cycles import CycleResult, ValueWarning
from pylantir.ipc.frames import Frame
from pylantir.mapping import EntryMapper
from pylantir.printing import make_redactor
from pylantir.schedule import is_ahead
from pylantir.settings import SourceSettings
from workers.child.bootstrap import Context
from workers.child.producer import WriterConnection
from workers.source.batches import Batches
from workers.source.calling import BEAT_EVERY_S, HANG_AFTER_S, PluginCalls, prepare_plugin
from workers.source.passages import KnownPassages
from workers.source.telling import CycleTelling, RejectionLog
from workers.source.timetable import WATCH_EVERY_S, Timetable

_CLOCK_CHECK_S = 30.0
"""How often a waiting source looks at the clock, because somebody may have set it."""

_CLOCK_SET_S = 2.0
"""Whoever sets a clock by more than this is heeded: the next fetch is told anew."""

logger = logging.getLogger(__name__)


class _Stopped(Exception):
    """The worker was told to stop."""


class _CycleVoid(Exception):
    """The writer has told that nothing of the present cycle counts: another host fetches the source, say."""


def run(context: Context, settings: SourceSettings, base_dir: str, queue_address: str) -> None:
    """Run a source worker; return after an order to stop."""
    os.environ.update(settings.env_values)
    os.chdir(base_dir)
    plugin = prepare_plugin(context.channel, settings)
    try:
        SourceWorker(context, settings, plugin, Path(queue_address)).run()
    except _Stopped:
        pass
    finally:
        try:
            plugin.cleanup()
        except BaseException:
            logger.exception("plugin %s: cleanup failed", settings.plugin.type_name)


@dataclass(slots=True)
class _Cycle:
    """One cycle whose frames are being sent to the writer."""

    name: str
    started_at: str
    snapshot: bool
    seq: int = 0

    def next_frame(self, kind: str, body: str) -> bytes:
        """Number a frame of the cycle, and write it."""
        self.seq += 1
        return write_frame(kind, cycle=self.name, seq=self.seq, started_at=self.started_at, body=body)


class SourceWorker:
    """Runs the cycles of one source."""

    def __init__(
        self, context: Context, settings: SourceSettings, plugin: DataSourcePlugin, queue_address: Path
    ) -> None:
        spec = context.spec
        hello = {"role": spec.role, "source": spec.source, "generation": spec.generation, "token": spec.token}
        self._context = context
        self._settings = settings
        self._mapper = EntryMapper.of_source(settings)
        self._writer = WriterConnection(queue_address, hello)
        self._telling = CycleTelling(context.channel, settings.name, settings.plugin, settings.secrets)
        self._plugin = PluginCalls(context.channel, settings, plugin, self._telling, self._while_fetching)
        self._rejections = RejectionLog(trusts_plugin=settings.plugin.builtin)
        self._strike_out = make_redactor(settings.secrets)
        self._timetable = Timetable(settings.sync_interval_s, settings.window, due=spec.first_due)
        self._known = KnownPassages()
        self._told_clock = 0.0
        self._told_trouble: str | None = None
        self._standing: Frame | None = None
        self._last_success: datetime.datetime | None = None

    def run(self) -> None:
        """Run cycles until told to stop."""
        while self._writer.standing is None:
            self._wait(1.0)
        self._take_standing()
        self._context.channel.ready()
        if self._writer.standby is None:
            self._tell_next(on_time=False)
        while True:
            self._wait_for_cycle()
            asked = self._timetable.begin(time.monotonic())
            try:
                succeeded, again = self._run_cycle(asked=asked)
            except _CycleVoid:
                continue
            self._timetable.end(time.monotonic(), succeeded=succeeded, again=again)
            self._tell_next(on_time=succeeded)

    def _take_standing(self) -> None:
        """Take over the source's standing from the writer: it may use another database than before."""
        if self._writer.standing is self._standing:
            return
        stood_by = (self._standing or {}).get("standby")
        self._standing = self._writer.standing
        known, text = self._last_success, (self._standing or {}).get("last_success")
        self._last_success = datetime.datetime.fromisoformat(text) if isinstance(text, str) else None
        self._telling.tell_standing(self._last_success, self._writer.standby)
        is_lost = known is not None and (self._last_success is None or self._last_success < known)
        if stood_by or is_lost or (self._standing or {}).get("anew"):
            self._timetable.begin_anew(time.monotonic())

    def _stand_by(self) -> None:
        """Wait while another host fetches the source; requests to fetch it here count for nothing."""
        self._take_standing()
        if self._writer.standby is None:
            return
        while self._writer.standby is not None:
            self._wait(BEAT_EVERY_S)
            self._timetable.drop_request()
            self._take_standing()
        self._tell_next(on_time=False)

    def _wait_for_cycle(self) -> None:
        """Wait until a cycle is due, somebody asks for one, or a watched source has changed."""
        while True:
            self._stand_by()
            now, local_now = time.monotonic(), self._local_now()
            if self._timetable.is_due(now, local_now):
                return
            if abs(local_now.timestamp() - now - self._told_clock) > _CLOCK_SET_S:
                self._tell_next(on_time=False)
            if self._plugin.watches and self._timetable.may_watch(now, local_now) and self._plugin.has_changed():
                return
            pause = min(self._timetable.next_start(now, local_now) - now, _CLOCK_CHECK_S)
            self._wait(min(pause, WATCH_EVERY_S) if self._plugin.watches else pause)

    def _local_now(self) -> datetime.datetime:
        zone = None
        if self._settings.timezone:
            from zoneinfo import ZoneInfo

            zone = ZoneInfo(self._settings.timezone)
        return datetime.datetime.now(zone)

    def _tell_next(self, *, on_time: bool) -> None:
        now, local_now = time.monotonic(), self._local_now()
        waits = self._timetable.waits_for_window(now, local_now)
        in_s = self._timetable.next_start(now, local_now) - now
        self._telling.tell_next(in_s, on_time=on_time or waits, waits_for_window=waits)
        self._told_clock = local_now.timestamp() - now

    def _wait(self, timeout_s: float) -> None:
        """Wait for the writer, the supervisor or a signal, and give signs of life meanwhile.

        Raises:
            _Stopped: The worker was told to stop.
        """
        channel, stop, writer = self._context.channel, self._context.stop, self._writer
        channel.beat(HANG_AFTER_S, at_most_every_s=BEAT_EVERY_S)
        if stop.is_set or channel.supervisor_gone:
            raise _Stopped
        with selectors.DefaultSelector() as selector:
            selector.register(stop, selectors.EVENT_READ)
            selector.register(channel, selectors.EVENT_READ)
            if writer.sock:
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writer.sock.wants_to_write else 0)
                selector.register(writer.sock, events)
            limits = [timeout_s, BEAT_EVERY_S]
            if writer.retry_in_s is not None:
                limits.append(writer.retry_in_s)
            selector.select(max(0.0, min(limits)))
        stop.drain()
        for message in channel.receive():
            if message.get("kind") == "sync":
                self._timetable.ask()
        writer.service()
        if writer.trouble != self._told_trouble:
            self._told_trouble = writer.trouble
            channel.report({"last_error": writer.trouble})
        if stop.is_set or channel.supervisor_gone:
            raise _Stopped

    def _run_cycle(self, *, asked: bool) -> tuple[bool, bool]:
        """Fetch once and wait for the commit; return whether that worked, and whether to repeat it at once."""
        self._take_standing()
        started, began = datetime.datetime.now(datetime.UTC), time.monotonic()
        snapshot = self._plugin.gives_snapshots()
        cycle = _Cycle(os.urandom(8).hex(), started.isoformat(timespec="microseconds"), snapshot)
        logger.debug("cycle %s begins", cycle.name)
        self._check_clock(started)
        known, first = self._known.begin(self._standing), self._last_success is None
        batches = Batches(
            self._mapper, self._rejections, snapshot=snapshot, known=known, first=first, strike_out=self._strike_out
        )
        self._writer.unkept.clear()
        self._writer.failed.clear()
        error, complete = self._send_records(cycle, batches, started, asked=asked)
        warnings = [ValueWarning(name, reason, count) for (name, reason), count in sorted(batches.warned.items())]
        end = write_end(complete=complete and error is None, error=error, warnings=warnings, snapshot=snapshot)
        self._send_frame(cycle, "end", end)
        result = self._wait_for_result(cycle)
        error = error or result.error
        again = False
        if error is None:
            self._last_success = started
            again = snapshot and not self._know_again(batches, forgotten=result.forgotten)
            self._telling.tell_warnings(warnings, snapshot=snapshot)
        self._telling.tell_cycle(cycle.started_at, result, error, time.monotonic() - began)
        return error is None, again

    def _check_clock(self, now: datetime.datetime) -> None:
        """Forget what depends on the day if it is another one, and a last fetch that a wrong clock has dated."""
        if self._mapper.notice_new_day():
            self._known = KnownPassages()
        if self._last_success and is_ahead(self._last_success, now):
            logger.warning(
                "the last fetch is dated %s, later than this machine's time: a clock is wrong, or was; everything is "
                "fetched again", self._last_success.isoformat(timespec="seconds"),
            )  # fmt: skip
            self._last_success = None

    def _send_records(
        self, cycle: _Cycle, batches: Batches, started: datetime.datetime, *, asked: bool
    ) -> tuple[str | None, bool]:
        """Send what the plugin gives; return what went wrong, and whether these are all existing records."""
        try:
            for body in batches.of_entries(self._plugin.fetch(started, self._last_success)):
                self._send_frame(cycle, "batch", body)
            return None, cycle.snapshot or self._send_record_ids(cycle, batches, asked=asked)
        except (_Stopped, _CycleVoid):
            raise
        # Also SystemExit and the like: a plugin must not end its worker in this way.
        except BaseException as failure:  # noqa: BLE001
            return self._telling.describe_failure(failure), False

    def _wait_for_result(self, cycle: _Cycle) -> CycleResult:
        """Wait until the writer has committed the cycle's last frame."""
        while not self._writer.is_idle:
            self._wait(BEAT_EVERY_S)
            self._check_standing()
        self._check_standing()
        return read_result(self._writer.take_summary(cycle.name))

    def _while_fetching(self) -> None:
        """Send to the writer what the socket takes: a frame larger than the socket's buffer would wait otherwise."""
        self._writer.service()
        self._check_standing()

    def _check_standing(self) -> None:
        """Give up the present cycle if nothing of it counts.

        Raises:
            _CycleVoid: The writer has said so since the cycle began.
        """
        standing = self._writer.standing
        if standing is not None and standing is not self._standing and (self._writer.standby or standing.get("anew")):
            self._writer.abandon()
            raise _CycleVoid

    def _know_again(self, batches: Batches, *, forgotten: bool) -> bool:
        """Remember the passages of a committed cycle, so that unchanged ones are not sent again to the same writer."""
        writer, unkept = self._writer.standing, self._writer.unkept
        if not forgotten and self._known.commit(batches.shown, writer=writer, unkept=unkept):
            return True
        logger.info("the writer has changed during the fetch; everything is fetched once more")
        return False

    def _send_record_ids(self, cycle: _Cycle, batches: Batches, *, asked: bool) -> bool:
        """Send the keys of all existing records if the source can list them; return whether it listed all."""
        record_ids = self._plugin.record_ids(asked=asked)
        if record_ids is None:
            return False
        for body in batches.of_record_ids(record_ids):
            self._send_frame(cycle, "batch", body)
        return True

    def _send_frame(self, cycle: _Cycle, kind: str, body: str) -> None:
        """Send a frame, and wait while the window is full, so that the writer sets the pace.

        Raises:
            SourceUnavailable: The writer has said that it cannot store this cycle.
            ProtocolError: The frame is too long.
        """
        if kind == "batch" and cycle.name in self._writer.failed:
            raise SourceUnavailable(self._writer.failed[cycle.name])
        frame = cycle.next_frame(kind, body)
        self._writer.send(cycle.name, cycle.seq, frame)
        self._writer.service()
        while self._writer.is_full:
            self._wait(BEAT_EVERY_S)
            self._check_standing()
        if self._context.stop.is_set:
            raise _Stopped
