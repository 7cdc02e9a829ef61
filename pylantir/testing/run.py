"""Runs a plugin once, as Pylantir would in its first cycle. Lives in the tests of plugins.

In: a plugin class and the keys of a source. Out: the worklist entries that its records become, and the refused records.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pylantir.config.loading import check_source_alone
from pylantir.data_sources.base import BadRecord, DataSourcePlugin
from pylantir.data_sources.registry import BUILTIN_TYPES, ask_validity, pass_settings
from pylantir.data_sources.trial import MappedRecord, map_records
from pylantir.entry import RECORD_ID_FIELD
from pylantir.errors import ConfigurationError
from pylantir.ipc.cycles import ValueWarning
from pylantir.settings import Catalogue, PluginType, SourceSettings
from pylantir.store.decide.classify import why_same_key
from pylantir.values.known import Warned


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a plugin's records.

    Attributes:
        entries: Worklist field -> value in DICOM form, one dictionary per entry; exact repeats count once.
        rejected: The refused records: `record` (where it stands in the source), `field`, `reason`.
        warnings: What was left out or changed in the entries: `field`, `reason`, `count`.
        remarks: What `pylantir-supervisor check` would remark about the source's keys.
    """

    entries: list[dict[str, str]]
    rejected: list[BadRecord]
    warnings: list[ValueWarning]
    remarks: list[str]


def run_plugin(
    plugin_class: type[DataSourcePlugin],
    *,
    config: Mapping[str, object],
    field_mapping: Mapping[str, object],
    defaults: Mapping[str, object] | None = None,
    **source_keys: object,
) -> Result:
    """Check a source's keys, fetch once, and bring each record into DICOM form.

    Args:
        plugin_class: The plugin.
        config: As in the configuration; variables that it names (`token_env`) have to be set.
        field_mapping: As in the configuration, in any of its forms.
        defaults: As in the configuration.
        source_keys: The source's other keys: `timezone`, `date_format`, `where`, `empty_values` and so on.

    Raises:
        ConfigurationError: A key is wrong, or the plugin refuses `config`; the text is the plugin's message.
        Exception: Whatever the plugin raises.
    """
    source, remarks = _settings(plugin_class, config, field_mapping, defaults, source_keys)
    plugin = plugin_class()
    pass_settings(plugin, source)
    warned: Warned = Counter()
    try:
        is_valid, message = ask_validity(plugin, source)
        if not is_valid:
            raise ConfigurationError([message])
        name = plugin.get_source_name()
        if not isinstance(name, str):
            raise TypeError(f"get_source_name() returns a {type(name).__name__} instead of text")
        incremental = plugin.supports_incremental_sync()
        entries, rejected = _sort(map_records(plugin, source, warned), incremental=incremental)
    finally:
        plugin.cleanup()
    warnings = [ValueWarning(name, reason, count) for (name, reason), count in sorted(warned.items())]
    return Result(entries=entries, rejected=rejected, warnings=warnings, remarks=remarks)


def _settings(
    plugin_class: type[DataSourcePlugin],
    config: Mapping[str, object],
    field_mapping: Mapping[str, object],
    defaults: Mapping[str, object] | None,
    source_keys: Mapping[str, object],
) -> tuple[SourceSettings, list[str]]:
    builtin = {f"{one.module}:{one.class_name}": one for one in BUILTIN_TYPES}
    module, class_name = plugin_class.__module__, plugin_class.__qualname__
    plugin = builtin.get(f"{module}:{class_name}") or PluginType(
        type_name=plugin_class.type_name or module.rpartition(".")[2],
        module=module,
        class_name=class_name,
        targets=tuple(plugin_class.targets),
    )
    document = {
        "name": "tested",
        "config": dict(config),
        "field_mapping": dict(field_mapping),
        "defaults": dict(defaults or {}),
        **source_keys,
        "type": plugin.type_name,
    }
    return check_source_alone(document, Catalogue(types={plugin.type_name: plugin}), os.environ)


def _sort(
    records: Iterable[MappedRecord | BadRecord], *, incremental: bool
) -> tuple[list[dict[str, str]], list[BadRecord]]:
    """Separate the entries from the refused records, and treat repeated record keys as the writer does."""
    entries: dict[str, dict[str, str]] = {}
    rejected: list[BadRecord] = []
    for one in records:
        if isinstance(one, BadRecord):
            rejected.append(one)
            continue
        fields = dict(one.entry.fields)
        known = entries.setdefault(one.entry.record_key, fields)
        if incremental:
            # The later record of a key counts.
            entries[one.entry.record_key] = fields
        elif known != fields:
            rejected.append(
                BadRecord(record=one.record, field=RECORD_ID_FIELD, reason=why_same_key(one.entry.record_key))
            )
    return list(entries.values()), rejected
