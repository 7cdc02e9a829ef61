"""Reports a source's cycles in the log, and to the supervisor for `status`.

Lives in source workers. In: failures, results of cycles, and when the next one is due. Out: log lines and reports. The
log does not repeat what has not changed since the last cycle: a source may fail every second for a week.
"""

from __future__ import annotations

import datetime
import logging
import re
from collections import deque
from collections.abc import Mapping, Sequence

from pylantir.errors import PylantirError, frames_of, traceback_of
from pylantir.ipc.batch import LONGEST_TEXT
from pylantir.ipc.cycles import CycleResult, ValueWarning
from pylantir.ipc.tally import Tally
from pylantir.printing import make_redactor
from pylantir.settings import PluginType
from workers.child.channel import Channel

LOGGED_REJECTIONS = 20
"""How many rejections per cycle are logged one by one; all of them are in the quarantine."""

LOGGED_WARNINGS = 10
"""How many kinds of warnings one log line has."""

RECENT_CYCLES = 20
"""How many of the last cycles `status` shows, each with its seconds; one that failed has none."""

_POSITION = re.compile(r"[a-z]+ [0-9]{1,9}")

logger = logging.getLogger(__name__)


class RejectionLog:
    """Logs each rejected record once, as long as every cycle rejects it for the same reason.

    The log outlives the erasure of a patient, so a line says where the record stands, not how it is called: a record's
    own ID may be the patient's. A plugin that is not Pylantir's own may name a patient in all that it says.

    Args:
        trusts_plugin: The plugin is one of Pylantir's own: its labels are positions, and its reasons name nobody.
    """

    def __init__(self, *, trusts_plugin: bool = True) -> None:
        self._trusts_plugin = trusts_plugin
        self._told: set[str] = set()
        self._this_cycle: set[str] = set()
        self._count = self._told_count = 0

    def begin(self) -> None:
        """A new cycle begins."""
        self._told, self._this_cycle = self._this_cycle, set()
        self._count = 0

    def add(self, label: str, said: str, *, key: str, by_plugin: bool = False) -> None:
        """Log a rejected record unless the last cycle logged it.

        Args:
            label: The record's position, or what the plugin calls it.
            said: The field and the reason.
            key: The record's key in the database.
            by_plugin: The plugin has refused the record itself.
        """
        self._count += 1
        if self._count <= LOGGED_REJECTIONS:
            line = f"{self._place(label, key)} rejected: {said}"
            if by_plugin and not self._trusts_plugin:
                line = "a record rejected: the plugin refuses it; `pylantir rejects` says which and why"
            whole = f"{label} ({key}) rejected: {said}"
            self._this_cycle.add(whole)
            if whole not in self._told:
                logger.warning("%s", line)
                logger.debug("%s", whole)

    def _place(self, label: str, key: str) -> str:
        is_position = _POSITION.fullmatch(label) and key != f"id:{label.partition(' ')[2]}"
        return label if is_position and (self._trusts_plugin or label.startswith("record ")) else "a record"

    def end(self) -> None:
        """Log the number of rejected records if not all were logged."""
        if self._count > LOGGED_REJECTIONS and self._count != self._told_count:
            logger.warning("%d records rejected in all; `pylantir rejects` shows them", self._count)
        self._told_count = self._count


class CycleTelling:
    """Logs and reports the result of each cycle of a source.

    Args:
        channel: The line to the supervisor.
        source: The source's name.
        plugin: Its plugin, for messages.
        secrets: What no message may show.
    """

    def __init__(self, channel: Channel, source: str, plugin: PluginType, secrets: Sequence[str] = ()) -> None:
        self._channel = channel
        self._source = source
        self._plugin = plugin
        self._strike_out = make_redactor(secrets)
        self._tally = Tally()
        self._recent: deque[float | None] = deque(maxlen=RECENT_CYCLES)
        self._last_failure: str | None = None
        self._last_trouble: str | None = None
        self._last_watch_failure: str | None = None
        self._told_kinds: set[tuple[str, str]] = set()

    def describe_failure(self, failure: BaseException) -> str:
        """Log why a fetch failed; return the text for the database and `status`.

        The text of a plugin's exception may quote patients: only the log gets it, and only at the level DEBUG.
        """
        ours = isinstance(failure, PylantirError)
        text = f"fetch failed: {failure}" if ours else traceback_of(failure)
        if text != self._last_failure and ours:
            logger.error("%s", text)
        elif text != self._last_failure:
            logger.error("plugin %s (%s): fetch failed", self._plugin.type_name, self._plugin.origin, exc_info=failure)
        self._last_failure = text
        kind = f"plugin {self._plugin.type_name}: {type(failure).__name__}; the log has the traceback"
        return self._strike_out(str(failure) if ours else kind)[:LONGEST_TEXT]

    def tell_watch_failure(self, failure: BaseException | None) -> None:
        """Log once that the plugin cannot say whether the source has changed; None: it can."""
        said = None if failure is None else f"{type(failure).__name__}\n{frames_of(failure)}"
        if failure is not None and said != self._last_watch_failure:
            logger.error(
                "plugin %s (%s): has_changed failed; the source is fetched at each look",
                self._plugin.type_name, self._plugin.origin, exc_info=failure,
            )  # fmt: skip
        self._last_watch_failure = said

    def tell_cycle(self, started_at: str, result: CycleResult, error: str | None, elapsed_s: float) -> None:
        """Log and report the result of a cycle."""
        trouble = error or self._describe_rest(result)
        said = ", ".join(f"{result.counts.get(name, 0)} {word}" for name, word in _SUMMARY_WORDS)
        if error is None:
            self._last_failure = None
            logger.info("cycle done: %s; %.2f s", said, elapsed_s)
        elif trouble != self._last_trouble:
            logger.warning("cycle failed: %s; %.2f s; the same failure is not logged again", said, elapsed_s)
        if trouble and error is None and trouble != self._last_trouble:
            logger.warning("%s", trouble)
        self._last_trouble = trouble
        self._tally.count("pylantir_source_cycles", self._source, "ok" if error is None else "failed")
        self._tally.note("pylantir_source_cycle_duration_seconds", elapsed_s, self._source)
        self._recent.append(None if error else round(elapsed_s, 3))
        report: dict[str, object] = {
            "progress": None,
            "recent_cycles": list(self._recent),
            "tally": self._tally.take_news(),
            "last_error": trouble,
            "last_counts": dict(result.counts),
            "last_duration_s": round(elapsed_s, 3),
            "entries": result.entries,
            "rejected": result.counts.get("rejected", 0),
            "useful": error is None,
        }
        if error is None:
            report["last_sync"] = report["last_success"] = started_at
        self._channel.report(report)

    def tell_warnings(self, warnings: Sequence[ValueWarning], *, snapshot: bool) -> None:
        """Log in one line which values were left out or changed, unless the last line said the same.

        Args:
            warnings: Of this cycle.
            snapshot: The warnings cover all records of the source; otherwise only those that have changed.
        """
        kinds = {(one.field, one.reason) for one in warnings}
        if kinds - self._told_kinds:
            said = [f"{one.field} ({one.count}): {one.reason}" for one in warnings[:LOGGED_WARNINGS]]
            more = f"; and {len(warnings) - LOGGED_WARNINGS} kinds more" if len(warnings) > LOGGED_WARNINGS else ""
            logger.warning(
                "values left out or changed: %s%s; see: pylantir rejects --warnings --source %s",
                "; ".join(said), more, self._source,
            )  # fmt: skip
        elif snapshot and self._told_kinds and not kinds:
            logger.info("no value is left out or changed any more")
        self._told_kinds = kinds if snapshot else kinds | self._told_kinds

    def tell_standing(self, last_success: datetime.datetime | None, standby: str | None) -> None:
        """Report when the source was last fetched, by whatever host, and which host fetches it instead of this one."""
        report: dict[str, object] = {
            "last_success": last_success.isoformat(timespec="microseconds") if last_success else None,
            "standby": standby,
        }
        if standby:
            self._last_trouble = self._last_failure = None
            report |= {"last_error": None, "next_sync": None, "progress": None, "waits_for_window": False}
        self._channel.report(report)

    def tell_progress(self, fetched: int) -> None:
        """Report that a fetch is under way, and how many records it has given so far."""
        self._channel.report({"progress": {"fetched": fetched}})

    def tell_next(self, in_s: float, *, on_time: bool, waits_for_window: bool) -> None:
        """Report when the next cycle begins.

        Args:
            in_s: Seconds until then.
            on_time: Whether the source is on its normal timetable; after a failure it is not.
            waits_for_window: The source waits for its operation window.
        """
        moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=in_s)
        self._channel.report(
            {
                "next_sync": moment.isoformat(timespec="seconds"),
                "next_in_s": in_s,
                "on_time": on_time,
                "waits_for_window": waits_for_window,
            }
        )

    def _describe_rest(self, result: CycleResult) -> str | None:
        """Return what an operator should know about a successful cycle."""
        if result.held is not None:
            return describe_held(self._source, result.held)
        if result.unreadable:
            return (
                f"{result.unreadable} records cannot be read; nothing is cancelled until they are mended: "
                f"pylantir rejects --source {self._source}"
            )
        return None


_SUMMARY_WORDS = (
    ("fetched", "fetched"),
    ("inserted", "new"),
    ("updated", "changed"),
    ("unchanged", "unchanged"),
    ("cancelled", "cancelled"),
    ("rejected", "rejected"),
)


def describe_held(source: str, held: Mapping[str, object]) -> str:
    """Describe for an operator the removal that waits for a decision."""
    return (
        f"held back: this fetch would cancel {held.get('would_cancel')} of {held.get('of')} items; "
        f"if that is right, run: pylantir accept {source}"
    )
