"""What a source's form cannot tell: whether its type, variables and worklist fields exist and fit each other.

Lives in the configuration check. Works on the document rather than on the models, so that these problems are
told together with the problems of form. Disabled sources are left out, but for their names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pylantir.config.environment import check_variable, variables_named_in
from pylantir.config.messages import Finding, Place, suggestion
from pylantir.config.models import Source
from pylantir.entry import MAPPING_TARGETS, START_FIELD, normalise_value
from pylantir.errors import RecordRejected
from pylantir.settings import Catalogue, OperationWindow, PluginProblem, PluginType, SourceSettings

IMPLIED_VARIABLES = {"redcap": {"api_url": "REDCAP_API_URL", "api_token": "REDCAP_API_TOKEN"}}
"""Source type -> key that may be left out, with the variable which is read then."""

PROCESS_NAMES = ("supervisor", "writer", "mwl-scp", "check")
"""What `status` and `restart` already call something else."""

_REFERENCE = "; the configuration reference lists them"
# A constant here would make one record, or one step, of all of them.
_NO_CONSTANTS = ("source_record_id", "accession_number", "study_instance_uid")
_TYPES_WITHOUT_OWN_FIELDS = ("csv", "json", "sql")


def check_sources(
    listed: object, catalogue: Catalogue, environment: Mapping[str, str]
) -> tuple[list[Finding], list[Finding]]:
    """Check all sources of a document.

    Args:
        listed: `data_sources` as it stands in the document; what has a wrong form is left to the models.
        catalogue: The source types that exist.
        environment: The environment, completed by `.env` files.

    Returns:
        Errors, and warnings.
    """
    sources = {
        position: source
        for position, source in enumerate(listed if isinstance(listed, list) else ())
        if isinstance(source, dict)
    }
    enabled = {position: source for position, source in sources.items() if source.get("enabled") is not False}
    errors, warnings = [*_repeated_names(sources), *_reserved_names(sources)], []
    for position, source in enabled.items():
        place: Place = ("data_sources", position)
        errors += _check_type(source, place, catalogue)
        errors += _check_variables(source, place, environment)
        field_errors, field_warnings = _check_fields(source, place, catalogue)
        errors += field_errors
        warnings += [*field_warnings, *_missing_fields(source, place)]
    if sources and not enabled:
        warnings.append(Finding(place=("data_sources",), text="no source is enabled: the worklist gets no entries"))
    warnings += _plugin_problems(enabled, catalogue)
    return errors, warnings


def source_settings(
    source: Source, position: int, catalogue: Catalogue, environment: Mapping[str, str]
) -> SourceSettings:
    """Turn a checked source into the value that its worker gets.

    Args:
        source: The source, checked.
        position: Its place in the list, from 0.
        catalogue: The source types that exist; a disabled source may have another.
        environment: Where its variables are read.
    """
    named = [str(name) for _, name in _variables(source.type, source.config, ())]
    values = {name: environment[name] for name in named if environment.get(name)}
    start, end = source.operation_interval.start_time, source.operation_interval.end_time
    broken = _broken_file(source.type, catalogue)
    unusable = PluginType(type_name=source.type, path=broken.path if broken else None)
    return SourceSettings(
        name=source.name,
        plugin=catalogue.types.get(source.type) or unusable,
        enabled=source.enabled,
        sync_interval_s=float(source.sync_interval),
        window=OperationWindow(start_minute=start[0] * 60 + start[1], end_minute=end[0] * 60 + end[1]),
        timezone=source.timezone,
        config=source.config,
        secret_env=tuple(values),
        env_values=values if source.enabled else {},
        field_mapping=source.field_mapping,
        defaults={field: str(value) for field, value in source.defaults.items()},
        priority=float(position if source.priority is None else source.priority),
        missing_entries=source.missing_entries,
        fetch_timeout_s=float(source.fetch_timeout),
        max_memory_mb=source.max_memory_mb,
        max_restarts=source.max_restarts,
        date_format=source.date_format,
        time_format=source.time_format,
    )


def _repeated_names(sources: Mapping[int, Mapping[str, object]]) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for position, source in sources.items():
        name = source.get("name")
        if isinstance(name, str) and first.setdefault(name, position) != position:
            text = f'"{name}" is also the name of data_sources[{first[name]}]; each needs its own'
            yield Finding(place=("data_sources", position, "name"), text=text)


def _reserved_names(sources: Mapping[int, Mapping[str, object]]) -> Iterator[Finding]:
    for position, source in sources.items():
        if source.get("name") in PROCESS_NAMES:
            text = f'"{source["name"]}" is the name of one of Pylantir\'s own processes; choose another'
            yield Finding(place=("data_sources", position, "name"), text=text)


def _check_type(source: Mapping[str, object], place: Place, catalogue: Catalogue) -> Iterator[Finding]:
    name = source.get("type")
    if not isinstance(name, str) or not name or name in catalogue.types:
        return
    if _broken_file(name, catalogue) is None:
        known = ", ".join(sorted(catalogue.types))
        near = suggestion(name, catalogue.types)
        text = f'unknown source type "{name}"{near} (types that exist: {known})'
        yield Finding(place=(*place, "type"), text=text)


def _broken_file(type_name: str, catalogue: Catalogue) -> PluginProblem | None:
    """Find the file that should offer a type but cannot: its source is tried again and again, the others run."""
    if type_name in catalogue.types:
        return None
    return next((problem for problem in catalogue.problems if _offers(problem, type_name)), None)


def _offers(problem: PluginProblem, type_name: str) -> bool:
    return Path(problem.path).stem == type_name or f'"{type_name}"' in problem.reason


def _plugin_problems(enabled: Mapping[int, Mapping[str, object]], catalogue: Catalogue) -> Iterator[Finding]:
    used = {}
    for position, source in enabled.items():
        problem = _broken_file(str(source.get("type")), catalogue)
        if problem:
            used[problem.path] = problem
            text = f"plugin {problem.path} cannot be used: {problem.reason}; this source fails until it is mended"
            yield Finding(place=("data_sources", position, "type"), text=text)
    for problem in catalogue.problems:
        if problem.path not in used:
            yield Finding(place=(), text=f"plugin {problem.path} is not used: {problem.reason}")


def _variables(source_type: object, config: object, place: Place) -> list[tuple[Place, object]]:
    named = [(where, name) for where, name in variables_named_in(config, place) if name is not None]
    for key, name in IMPLIED_VARIABLES.get(str(source_type), {}).items():
        if isinstance(config, Mapping) and config.get(key) is None and config.get(f"{key}_env") is None:
            named.append(((*place, f"{key}_env"), name))
    return named


def _check_variables(source: Mapping[str, object], place: Place, environment: Mapping[str, str]) -> Iterator[Finding]:
    for where, name in _variables(source.get("type"), source.get("config", {}), (*place, "config")):
        problem = check_variable(name, environment)
        if problem:
            yield Finding(place=where, text=problem)


def _check_fields(
    source: Mapping[str, object], place: Place, catalogue: Catalogue
) -> tuple[list[Finding], list[Finding]]:
    """Check `field_mapping` and `defaults`; a wrong mapping of an old configuration is a warning."""
    plugin, config = catalogue.types.get(str(source.get("type"))), source.get("config")
    own = plugin.targets if plugin else ()
    mapping_findings = list(_check_mapping(source, place, own)) if plugin else []
    errors = list(_check_defaults(source, place, own)) if plugin else []
    if isinstance(config, dict) and config.get("legacy") is True and plugin and plugin.builtin:
        return errors, mapping_findings
    return mapping_findings + errors, []


def _check_mapping(source: Mapping[str, object], place: Place, own: Sequence[str]) -> Iterator[Finding]:
    mapping = source.get("field_mapping")
    place = (*place, "field_mapping")
    sources_of: dict[str, list[str]] = {}
    for name, target in mapping.items() if isinstance(mapping, dict) else ():
        if not isinstance(target, str) or not target:
            continue
        sources_of.setdefault(target, []).append(name)
        if target not in MAPPING_TARGETS and target not in own:
            yield Finding(place=(*place, name), text=_unknown_field(target, own))
    for target, names in sources_of.items():
        if len(names) > 1:
            several = " and ".join(json.dumps(name, ensure_ascii=False) for name in names)
            yield Finding(place=place, text=f'{several} are mapped to the same field "{target}": keep one')


def _check_defaults(source: Mapping[str, object], place: Place, own: Sequence[str]) -> Iterator[Finding]:
    defaults = source.get("defaults")
    for field, value in defaults.items() if isinstance(defaults, dict) else ():
        here = (*place, "defaults", field)
        if field in own:
            continue
        if field not in MAPPING_TARGETS:
            yield Finding(place=here[:-1], text=_unknown_field(field, own))
        elif field in _NO_CONSTANTS:
            yield Finding(place=here, text="identifies one record, so it cannot be the same for all")
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                normalise_value(field, value)
            except RecordRejected as error:
                yield Finding(place=here, text=error.reason)


def _unknown_field(name: str, own: Sequence[str]) -> str:
    return f'unknown worklist field "{name}"' + (suggestion(name, sorted({*MAPPING_TARGETS, *own})) or _REFERENCE)


def _missing_fields(source: Mapping[str, object], place: Place) -> Iterator[Finding]:
    """Warn of fields that nobody gives. A plugin with an empty mapping may give them by itself."""
    mapping, defaults, config = (source.get(key, {}) for key in ("field_mapping", "defaults", "config"))
    if not isinstance(mapping, dict) or not isinstance(defaults, dict) or not mapping:
        return
    given = {target for target in mapping.values() if isinstance(target, str)} | defaults.keys()
    if isinstance(config, dict) and config.get("legacy") is True:
        return
    if source.get("type") in _TYPES_WITHOUT_OWN_FIELDS:
        for field in ("patient_id", "scheduled_start_date"):
            if field not in given and not (field == "scheduled_start_date" and START_FIELD in given):
                text = f'nothing is mapped to "{field}", without which every record is refused'
                yield Finding(place=(*place, "field_mapping"), text=text)
    if "modality" not in given:
        text = 'no modality is mapped or given in "defaults": MR is assumed'
        yield Finding(place=place, text=text)
