"""Calls a source's plugin, a stranger's code, and gives signs of life meanwhile.

Lives in source workers. In: a plugin, and when the source was last fetched. Out: what the plugin yields. Before each
call the supervisor is told how long it may take; a call that takes longer counts as hanging.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Iterator

from pylantir.columns import without_left_out
from pylantir.data_sources.base import ComparesWhenAsked, DataSourcePlugin, ReportsRecordIds, WatchesForChanges
from pylantir.data_sources.registry import ask_validity, load_source
from pylantir.errors import ConfigurationError, PluginError, SourceUnavailable
from pylantir.schedule import look_back_s
from pylantir.settings import SourceSettings
from workers.child.channel import Channel
from workers.source.telling import CycleTelling

BEAT_EVERY_S = 5.0
PROGRESS_EVERY_S = 0.5
HANG_AFTER_S = 60.0
_SERVICE_EVERY_S = 0.002
MOST_RECORDS = 5_000_000
"""How many records one fetch may give: a generator that never ends, or a join without a condition, fills the disk."""


def prepare_plugin(channel: Channel, settings: SourceSettings) -> DataSourcePlugin:
    """Load a source's plugin, and let it check its configuration.

    Raises:
        ConfigurationError: The plugin finds the configuration invalid.
        PluginError: It cannot be loaded, or its check raised something.
    """
    channel.beat(settings.fetch_timeout_s)
    plugin = load_source(settings)
    try:
        is_valid, message = ask_validity(plugin, settings)
    except PluginError:
        raise
    except BaseException as error:
        kind = settings.plugin
        msg = f'plugin "{kind.type_name}" ({kind.origin}): its check of the configuration raised {type(error).__name__}'
        raise PluginError(msg) from error
    if not is_valid:
        raise ConfigurationError([f"source {settings.name}: config: {message}"])
    return plugin


class PluginCalls:
    """The calls of one plugin.

    Args:
        channel: The line to the supervisor.
        settings: The source's settings.
        plugin: Its plugin, prepared.
        telling: Hears of the progress, and of a source that cannot be watched.
        meanwhile: Called every few milliseconds while the plugin yields.

    Attributes:
        watches: The source can be asked whether it has changed, and is to be asked.
    """

    def __init__(
        self,
        channel: Channel,
        settings: SourceSettings,
        plugin: DataSourcePlugin,
        telling: CycleTelling,
        meanwhile: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._settings = settings
        self._plugin = plugin
        self._telling = telling
        self._meanwhile = meanwhile
        self._failure: BaseException | None = None
        self.watches = bool(settings.config.get("watch_for_changes")) and isinstance(plugin, WatchesForChanges)

    def gives_snapshots(self) -> bool:
        """Whether each fetch gives everything that the source has; what the plugin raises, the next fetch raises."""
        try:
            return not self._plugin.supports_incremental_sync()
        except BaseException as failure:  # noqa: BLE001 - a plugin's code
            self._failure = failure
            return False

    def has_changed(self) -> bool:
        """Ask whether the source has changed since the last fetch."""
        self._channel.beat(HANG_AFTER_S, at_most_every_s=BEAT_EVERY_S)
        try:
            has_changed = isinstance(self._plugin, WatchesForChanges) and bool(self._plugin.has_changed())
        # A plugin's code; the fetch shows whether the source can be read.
        except BaseException as failure:  # noqa: BLE001
            self._telling.tell_watch_failure(failure)
            return True
        self._telling.tell_watch_failure(None)
        return has_changed

    def fetch(self, started: datetime.datetime, last_success: datetime.datetime | None) -> Iterator[object]:
        """Yield the records of a fetch that starts now."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        settings = self._settings
        interval = look_back_s(last_success, started, settings.sync_interval_s)
        self._telling.tell_progress(0)
        self._channel.beat(settings.fetch_timeout_s)
        fetched = self._with_beats(self._plugin.fetch_entries(dict(settings.field_mapping), interval))
        yield from without_left_out(fetched) if settings.where else fetched

    def record_ids(self, *, asked: bool) -> Iterator[object] | None:
        """Give the keys of all existing records; None if the source cannot list them now.

        Args:
            asked: Somebody has asked for this cycle: the plugin is to compare everything.
        """
        if not isinstance(self._plugin, ReportsRecordIds):
            return None
        self._channel.beat(self._settings.fetch_timeout_s)
        if asked and isinstance(self._plugin, ComparesWhenAsked):
            self._plugin.compare_now()
        record_ids = self._plugin.current_record_ids()
        return None if record_ids is None else self._with_beats(record_ids)

    def _with_beats(self, given: Iterable[object]) -> Iterator[object]:
        """Pass on what a plugin yields, with signs of life in between.

        Raises:
            SourceUnavailable: It yields more than any source has.
        """
        beat, timeout_s = self._channel.beat, self._settings.fetch_timeout_s
        due, progress_at = 0.0, time.monotonic() + PROGRESS_EVERY_S
        for count, one in enumerate(given, 1):
            yield one
            now = time.monotonic()
            if now >= progress_at:
                progress_at = now + PROGRESS_EVERY_S
                self._telling.tell_progress(count)
                if count > MOST_RECORDS:
                    raise SourceUnavailable(f"gave more than {MOST_RECORDS:,} records; does what it gives ever end?")
            if now >= due:
                due = now + _SERVICE_EVERY_S
                self._meanwhile()
            # Restart the plugin's timeout at every record: time spent waiting for the writer does not count against it.
            beat(timeout_s, at_most_every_s=0.5)
