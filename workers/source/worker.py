"""A source worker: asks one plugin on its timetable and streams what it gives to the writer.

In: a source's settings; the plugin's records. Out: numbered batches on the entry queue, and for `status` what became of
them. It knows no database: the writer's welcome tells it where the source stands. Whatever the plugin does to this
process, only this process suffers.
"""

from __future__ import annotations

import datetime
import logging
import os
import selectors
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pylantir.data_sources.base import ComparesWhenAsked, DataSourcePlugin, ReportsRecordIds, WatchesForChanges
from pylantir.data_sources.registry import load_plugin
from pylantir.errors import ConfigurationError, PluginError, PylantirError
from pylantir.ipc.batch import write_end, write_frame
from pylantir.ipc.frames import Frame
from pylantir.mapping import EntryMapper
from pylantir.schedule import look_back_s, next_start, seconds_until_open
from pylantir.settings import SourceSettings
from workers.child.bootstrap import Context
from workers.child.producer import WriterConnection
from workers.source.batches import LONGEST_TEXT, Batches
from workers.source.passages import PassageNames

BEAT_EVERY_S = 10.0
HANG_AFTER_S = 60.0
WATCH_EVERY_S = 1.0
RETRY_FAILED_AFTER_S = 10.0
_WINDOW_CHECK_S = 30.0
_SERVICE_EVERY_S = 0.002

logger = logging.getLogger(__name__)


class _Stopped(Exception):
    """The worker was told to stop."""


def run(context: Context, settings: SourceSettings, base_dir: str, queue_address: str) -> None:
    """The body of a source worker; returns when it was told to stop."""
    os.environ.update(settings.env_values)
    os.chdir(base_dir)
    plugin = _prepare_plugin(context, settings)
    try:
        SourceWorker(context, settings, plugin, Path(queue_address)).run()
    except _Stopped:
        pass
    finally:
        try:
            plugin.cleanup()
        except Exception:
            logger.exception("plugin %s: cleanup failed", settings.plugin.type_name)


def _prepare_plugin(context: Context, settings: SourceSettings) -> DataSourcePlugin:
    context.channel.beat(settings.fetch_timeout_s)
    plugin = load_plugin(settings.plugin)
    try:
        is_valid, message = plugin.validate_config(dict(settings.config))
    except (Exception, SystemExit) as error:
        kind = settings.plugin
        msg = f'plugin "{kind.type_name}" ({kind.origin}): its check of the configuration raised {type(error).__name__}'
        raise PluginError(msg) from error
    if not is_valid:
        raise ConfigurationError([f"source {settings.name}: config: {message}"])
    return plugin


@dataclass(slots=True)
class _Cycle:
    """One fetch on its way to the writer."""

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
        self._plugin = plugin
        self._mapper = EntryMapper(settings.defaults, settings.date_format, settings.time_format)
        self._writer = WriterConnection(queue_address, hello)
        self._last_success: datetime.datetime | None = None
        self._standing: Frame | None = None
        self._last_trace = ""
        self._sync_now = self._was_asked = self._fetch_again = False
        self._known = PassageNames()
        self._watches = bool(settings.config.get("watch_for_changes")) and isinstance(plugin, WatchesForChanges)

    def run(self) -> None:
        """Run cycles until told to stop: from start to start, without drift, inside the operation window."""
        while self._writer.standing is None:
            self._wait(1.0)
        self._take_standing()
        self._context.channel.ready()
        due = self._context.spec.first_due or time.monotonic()
        while True:
            due = self._wait_until(due)
            succeeded = self._run_cycle()
            now = time.monotonic()
            due = next_start(due, self._settings.sync_interval_s, now)
            if not succeeded:
                # A file that is being written or a server that restarts should not cost a long interval.
                due = min(due, now + RETRY_FAILED_AFTER_S)
            elif self._fetch_again:
                due, self._fetch_again = now, False
            self._report_next(due, succeeded=succeeded)

    def _take_standing(self) -> None:
        """Believe the writer where this source stands: the database may be another one than before."""
        if self._writer.standing is self._standing:
            return
        self._standing = self._writer.standing
        self._known = PassageNames()
        last_success = (self._standing or {}).get("last_success")
        self._last_success = datetime.datetime.fromisoformat(last_success) if isinstance(last_success, str) else None
        self._context.channel.report({"last_success": last_success})

    def _wait_until(self, due: float) -> float:
        """Wait until a cycle is due, its window is open, somebody asks for it, or the source has changed."""
        while True:
            now = time.monotonic()
            closed_for_s = self._closed_for_s()
            if self._sync_now or (now >= due and not closed_for_s):
                self._was_asked, self._sync_now = self._sync_now, False
                return min(due, now)
            pause = min(max(due - now, closed_for_s), _WINDOW_CHECK_S)
            if self._watches and not closed_for_s:
                if self._source_has_changed():
                    return now
                pause = min(pause, WATCH_EVERY_S)
            self._wait(pause)

    def _closed_for_s(self) -> float:
        zone = None
        if self._settings.timezone:
            from zoneinfo import ZoneInfo

            zone = ZoneInfo(self._settings.timezone)
        return seconds_until_open(self._settings.window, datetime.datetime.now(zone))

    def _source_has_changed(self) -> bool:
        self._context.channel.beat(HANG_AFTER_S, at_most_every_s=BEAT_EVERY_S)
        return isinstance(self._plugin, WatchesForChanges) and self._plugin.has_changed()

    def _wait(self, timeout_s: float) -> None:
        """Wait for the writer, the supervisor or a signal; a sign of life every now and then.

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
            self._sync_now |= message.get("kind") == "sync"
        writer.service()
        if stop.is_set or channel.supervisor_gone:
            raise _Stopped

    def _run_cycle(self) -> bool:
        """Fetch once and see it committed; tells whether that worked."""
        self._take_standing()
        started = datetime.datetime.now(datetime.UTC)
        began = time.monotonic()
        snapshot = not self._plugin.supports_incremental_sync()
        cycle = _Cycle(os.urandom(8).hex(), started.isoformat(timespec="microseconds"), snapshot)
        logger.debug("cycle %s begins", cycle.name)
        error, complete = None, False
        try:
            batches = Batches(self._mapper, snapshot=snapshot, known=self._known, first=self._last_success is None)
            self._known = PassageNames()
            self._writer.unkept.clear()
            for body in batches.of_entries(self._fetch(started)):
                self._send_frame(cycle, "batch", body)
            complete = snapshot or self._send_record_ids(cycle, batches)
        except _Stopped:
            raise
        # SystemExit and the like too: a plugin may not end its worker in this way.
        except BaseException as failure:  # noqa: BLE001
            error = self._describe_failure(failure)
        self._send_frame(cycle, "end", write_end(complete=complete and error is None, error=error))
        while not self._writer.is_idle:
            self._wait(BEAT_EVERY_S)
        summary = self._writer.take_summary(cycle.name) or {}
        if error is None and isinstance(summary.get("error"), str):
            error = str(summary["error"])
        if error is None:
            self._last_success = started
            if snapshot:
                self._know_again(batches, forgotten=summary.get("forgotten") is True)
        self._report_cycle(cycle, summary, error, time.monotonic() - began)
        return error is None

    def _know_again(self, batches: Batches, *, forgotten: bool) -> None:
        """After a cycle that this very writer has committed: what it has shown need not be shown again."""
        if forgotten or self._writer.standing is not self._standing:
            logger.info("the writer has changed during the fetch; everything is fetched once more")
            self._fetch_again = True
        else:
            self._known = batches.shown.without(self._writer.unkept)

    def _fetch(self, started: datetime.datetime) -> Iterator[object]:
        """The plugin's records; each time it gets control, the supervisor hears how long it may keep it."""
        interval = look_back_s(self._last_success, started, self._settings.sync_interval_s)
        self._context.channel.beat(self._settings.fetch_timeout_s)
        yield from self._with_beats(self._plugin.fetch_entries(dict(self._settings.field_mapping), interval))

    def _with_beats(self, given: Iterable[object]) -> Iterator[object]:
        """Whatever a plugin yields; between two of them the supervisor hears that it goes on.

        The writer gets what it takes, too: a frame is larger than a socket's buffer, and would wait for the next one.
        """
        beat, timeout_s = self._context.channel.beat, self._settings.fetch_timeout_s
        due = 0.0
        for one in given:
            yield one
            now = time.monotonic()
            if now >= due:
                due = now + _SERVICE_EVERY_S
                self._writer.service()
            # At every record: to wait for the writer was another promise, which the plugin is not to be held to.
            beat(timeout_s, at_most_every_s=0.5)

    def _send_record_ids(self, cycle: _Cycle, batches: Batches) -> bool:
        """Name every record that exists, where an incremental source can; tells whether that was all of them."""
        if not isinstance(self._plugin, ReportsRecordIds):
            return False
        self._context.channel.beat(self._settings.fetch_timeout_s)
        if self._was_asked and isinstance(self._plugin, ComparesWhenAsked):
            self._plugin.compare_now()
        record_ids = self._plugin.current_record_ids()
        if record_ids is None:
            return False
        for body in batches.of_record_ids(self._with_beats(record_ids)):
            self._send_frame(cycle, "batch", body)
        return True

    def _send_frame(self, cycle: _Cycle, kind: str, body: str) -> None:
        """Send, and wait while the window is full: the writer sets the pace."""
        frame = cycle.next_frame(kind, body)
        self._writer.send(cycle.name, cycle.seq, frame)
        self._writer.service()
        while self._writer.is_full:
            self._wait(BEAT_EVERY_S)
        if self._context.stop.is_set:
            raise _Stopped

    def _describe_failure(self, failure: BaseException) -> str:
        """Log why a fetch failed; a foreign exception's text may quote patients, so the database gets its type only."""
        plugin = self._settings.plugin
        if isinstance(failure, PylantirError):
            logger.error("fetch failed: %s", failure)
            return str(failure)[:LONGEST_TEXT]
        trace = "".join(traceback.format_exception(failure)).rstrip()
        if trace == self._last_trace:
            logger.error("plugin %s (%s): fetch failed as before", plugin.type_name, plugin.origin)
        else:
            logger.error("plugin %s (%s): fetch failed:\n%s", plugin.type_name, plugin.origin, trace)
        self._last_trace = trace
        return f"plugin {plugin.type_name}: {type(failure).__name__}; the log has the traceback"

    def _report_cycle(self, cycle: _Cycle, summary: Mapping[str, object], error: str | None, elapsed_s: float) -> None:
        counts = summary.get("counts")
        numbers: dict[str, int] = counts if isinstance(counts, dict) else {}
        held = summary.get("held")
        said = ", ".join(f"{numbers.get(name, 0)} {word}" for name, word in _SUMMARY_WORDS)
        level = logging.INFO if error is None else logging.WARNING
        logger.log(level, "cycle %s: %s; %.2f s", "done" if error is None else "failed", said, elapsed_s)
        trouble = error
        if isinstance(held, dict):
            trouble = describe_held(self._settings.name, held)
        elif summary.get("unreadable"):
            trouble = (
                f"{summary['unreadable']} records cannot be read; nothing is cancelled until they are mended: "
                f"pylantir rejects --source {self._settings.name}"
            )
        if trouble and error is None:
            logger.warning("%s", trouble)
        report: dict[str, object] = {
            "last_error": trouble,
            "last_counts": numbers,
            "last_duration_s": round(elapsed_s, 3),
            "entries": summary.get("entries"),
            "rejected": numbers.get("rejected", 0),
            "useful": error is None,
        }
        if error is None:
            report["last_sync"] = report["last_success"] = cycle.started_at
        self._context.channel.report(report)

    def _report_next(self, due: float, *, succeeded: bool) -> None:
        in_s = max(due - time.monotonic(), self._closed_for_s())
        moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=in_s)
        report = {"next_sync": moment.isoformat(timespec="seconds"), "next_in_s": in_s, "on_time": succeeded}
        self._context.channel.report(report)


_SUMMARY_WORDS = (
    ("fetched", "fetched"),
    ("inserted", "new"),
    ("updated", "changed"),
    ("unchanged", "unchanged"),
    ("cancelled", "cancelled"),
    ("rejected", "rejected"),
)


def describe_held(source: str, held: Mapping[str, object]) -> str:
    """Tell an operator what waits for a decision."""
    return (
        f"held back: this fetch would cancel {held.get('would_cancel')} of {held.get('of')} items; "
        f"if that is right, run: pylantir accept {source}"
    )
