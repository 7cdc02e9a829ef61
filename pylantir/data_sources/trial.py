"""Fetches once with a plugin, in the calling process, and maps each record as a source worker would.

Lives in `pylantir preview` and in the tests of plugins. In: a plugin and its source's settings; out: entries and
refused records, one by one. Writes nothing.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pylantir.columns import SOURCE_VALUES, without_left_out
from pylantir.data_sources.base import RECORD_LABEL, BadRecord, DataSourcePlugin
from pylantir.data_sources.registry import ask_validity
from pylantir.entry import WorklistEntry
from pylantir.errors import ConfigurationError, RecordRejected
from pylantir.mapping import EntryMapper
from pylantir.schedule import look_back_s
from pylantir.settings import SourceSettings
from pylantir.values.known import Warned


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedRecord:
    """A record that can become a worklist entry.

    Attributes:
        record: Where it stands in the source, for messages.
        given: Worklist field -> value as the plugin gave it.
        source: Worklist field -> what the source itself has, if `map_record` did more than pass it on, and tells.
        entry: The entry, in DICOM form.
    """

    record: str
    given: Mapping[str, object]
    source: Mapping[str, object]
    entry: WorklistEntry


def validate(plugin: DataSourcePlugin, source: SourceSettings) -> None:
    """Let the plugin check its source's `config`.

    Raises:
        ConfigurationError: It refuses; the message is the plugin's.
        PluginError: Its answer has another form.
    """
    is_valid, message = ask_validity(plugin, source)
    if not is_valid:
        raise ConfigurationError([f"source {source.name}: config: {message}"])


def map_records(plugin: DataSourcePlugin, source: SourceSettings, warned: Warned) -> Iterator[MappedRecord | BadRecord]:
    """Fetch as in a first cycle, and map each record by itself.

    Args:
        plugin: The plugin, after `validate`.
        source: The source's settings.
        warned: Collects the values that were left out or changed in the mapped records.
    """
    mapper = EntryMapper.of_source(source)
    interval = look_back_s(None, datetime.datetime.now(datetime.UTC), source.sync_interval_s)
    fetched = without_left_out(plugin.fetch_entries(dict(source.field_mapping), interval))
    for number, given in enumerate(fetched, 1):
        yield _map_record(mapper, given, f"record {number}", warned)


def _map_record(mapper: EntryMapper, given: object, label: str, warned: Warned) -> MappedRecord | BadRecord:
    if isinstance(given, BadRecord):
        return given
    if not isinstance(given, Mapping):
        return BadRecord(record=label, field="", reason=f"a {type(given).__name__} instead of a dictionary")
    label = str(given.get(RECORD_LABEL) or label)
    try:
        entry = mapper.to_entry(given, warned)
    except RecordRejected as error:
        return BadRecord(record=label, field=error.field, reason=error.reason)
    shown = {name: value for name, value in given.items() if not str(name).startswith("_")}
    source = given.get(SOURCE_VALUES)
    return MappedRecord(record=label, given=shown, source=source if isinstance(source, Mapping) else {}, entry=entry)
