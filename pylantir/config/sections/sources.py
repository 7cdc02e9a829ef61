"""Checks of sources beyond their form: type, variables and worklist fields have to exist and fit each other.

Lives in the configuration check. Works on the document rather than on the models, so that these problems are
reported together with the problems of form. Of disabled sources only the names are checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pylantir.config.environment import check_variable, variables_named_in
from pylantir.config.messages import Finding, Place, suggestion
from pylantir.config.models.source import Source, plain_conditions, plain_mapping
from pylantir.config.sections.fields import check_defaults, check_issuer, check_mapping, missing_fields, slow_patterns
from pylantir.settings import Catalogue, OperationWindow, PluginProblem, PluginType, SourceSettings

IMPLIED_VARIABLES = {"redcap": {"api_url": "REDCAP_API_URL", "api_token": "REDCAP_API_TOKEN"}}
"""Source type -> a key that may be left out, and the environment variable that is read in its place."""

PROCESS_NAMES = ("supervisor", "writer", "mwl-scp", "web", "check")
"""Names that `status` and `restart` already use for something else."""


_NOT_BUILT_IN = {
    "calpendo": ": it is an example now; copy etc/examples/plugins/booking_system.py to plugins/calpendo.py and fit it"
}


def check_sources(
    listed: object, catalogue: Catalogue, environment: Mapping[str, str]
) -> tuple[list[Finding], list[Finding]]:
    """Check all sources of a document.

    Args:
        listed: `data_sources` as it stands in the document; the models report values of a wrong form.
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
        warnings += [*field_warnings, *missing_fields(source, place), *slow_patterns(source, place)]
    if sources and not enabled:
        warnings.append(Finding(place=("data_sources",), text="no source is enabled: the worklist gets no entries"))
    warnings += _plugin_problems(enabled, catalogue)
    return errors, warnings


def source_settings(
    source: Source, position: int, catalogue: Catalogue, environment: Mapping[str, str]
) -> SourceSettings:
    """Turn a checked source into the settings that its worker gets.

    Args:
        source: The source, checked.
        position: Its place in the list, from 0.
        catalogue: The source types that exist; a disabled source may have an unknown type.
        environment: The environment from which its variables are read.
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
        field_mapping=plain_mapping(source.field_mapping),
        defaults={field: str(value) for field, value in source.defaults.items()},
        priority=float(position if source.priority is None else source.priority),
        missing_entries=source.missing_entries,
        fetch_timeout_s=float(source.fetch_timeout),
        max_memory_mb=source.max_memory_mb,
        max_restarts=source.max_restarts,
        date_formats=_several(source.date_format),
        time_formats=_several(source.time_format),
        empty_values=tuple(map(str, source.empty_values)),
        unusable_values=source.unusable_values,
        where=plain_conditions(source.where),
        patient_id_prefix=source.patient_id_prefix,
        issuer_of_patient_id=source.issuer_of_patient_id,
    )


def _several(given: str | list[str] | None) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())


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
        near += _NOT_BUILT_IN.get(name, "")
        text = f'unknown source type "{name}"{near} (types that exist: {known})'
        yield Finding(place=(*place, "type"), text=text)


def _broken_file(type_name: str, catalogue: Catalogue) -> PluginProblem | None:
    """Find the broken file that should offer a type: its source is retried, and the other sources run."""
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
    """Check `field_mapping` and `defaults`; in an old configuration a wrong mapping is only a warning."""
    plugin, config = catalogue.types.get(str(source.get("type"))), source.get("config")
    own = plugin.targets if plugin else ()
    mapping_findings = list(check_mapping(source, place, own)) if plugin else []
    errors = list(check_defaults(source, place, own)) if plugin else []
    errors += check_issuer(source, place)
    if isinstance(config, dict) and config.get("legacy") is True and plugin and plugin.builtin:
        return errors, mapping_findings
    return mapping_findings + errors, []
