"""Turns a configuration file into `Settings`, or into a list of everything that is wrong with it.

Lives in the short-lived process that checks the configuration: it imports pydantic. Opens no database and no
port, runs no plugin, and changes neither the environment nor the working directory.
"""

from __future__ import annotations

import datetime
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from pylantir.config.document import read_document
from pylantir.config.environment import complete_environment, variables_named_in
from pylantir.config.locate import default_runtime_dir, resolve_path
from pylantir.config.messages import OBJECT, Finding, Place, explain, nearest, suggestion
from pylantir.config.models import Configuration, Deduplication, MappedField, NotListed, OldExtract
from pylantir.config.sections import legacy
from pylantir.config.sections.access import access_settings, check_access
from pylantir.config.sections.database import database_url, read_url
from pylantir.config.sections.http import check_http, http_settings
from pylantir.config.sections.scanners import EVERY_OTHER, check_scanners, open_to_everybody, scanner_profiles
from pylantir.config.sections.sources import check_sources, source_settings
from pylantir.config.sections.tls import check_tls, tls_settings, tls_warnings
from pylantir.config.sections.turned import turn_sources
from pylantir.errors import ConfigurationError
from pylantir.settings import (
    Catalogue,
    ClusterSettings,
    DeduplicationSettings,
    DicomSettings,
    LogSettings,
    MppsSettings,
    RetentionSettings,
    ScannerProfile,
    ServingSettings,
    Settings,
    SourceSettings,
)

_OPTIONS: Mapping[str, str] = {"ae_title": "--AEtitle", "host": "--ip", "port": "--port"}


def load_settings(
    config_path: Path,
    *,
    discover: Callable[[Sequence[str]], Catalogue],
    environ: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    with_sources: bool = True,
) -> Settings:
    """Read and check a configuration file.

    Args:
        config_path: The file, absolute.
        discover: Lists the source types, given the plugin folders.
        environ: The environment; a copy is completed by the `.env` beside the file and in the working directory.
        overrides: From the command line: `ae_title`, `host`, `port`; None stands for "not given".
        with_sources: False leaves the sources out, unchecked, so that a command which needs no source works in a
            shell where their environment variables are not set.

    Returns:
        The settings; `warnings` holds what the user should look at.

    Raises:
        ConfigurationError: Lists all problems, one per line.
    """
    original, errors = read_document(config_path)
    old = legacy.is_old(original)
    working_dir = Path.cwd()
    base_dir = working_dir if old else config_path.parent
    environment, warnings = complete_environment(environ, (config_path.parent, working_dir))
    warnings += _top_level_warnings(original, config_path.name, old=old)

    renamed = dict(legacy.OLD_PLACES) if old else {}
    document = convert_old(original, environment) if old else dict(original)
    if not with_sources:
        document["data_sources"] = []
    _override(document, overrides or {}, renamed)
    warnings += turn_sources(document)

    configuration, form_errors = _check_form(document)
    errors += form_errors
    db_url, database_errors = database_url(document, base_dir, environment)
    db_read_url, read_errors = read_url(document, db_url)
    errors += [*database_errors, *read_errors]
    plugin_dirs, folder_warnings = _plugin_dirs(document, base_dir)
    warnings += folder_warnings
    catalogue = discover(plugin_dirs)
    listed = document.get("data_sources", [])
    if listed == [] and with_sources:
        errors.append(_no_source(original))
    if old and with_sources and "redcap2wl" not in original:
        errors.append(Finding(place=("redcap2wl",), text="is missing, but legacy_mode needs it"))
    source_errors, source_warnings = check_sources(listed, catalogue, environment)
    errors += [*source_errors, *check_scanners(document), *check_tls(document, base_dir)]
    errors += check_http(document, base_dir, environment)
    errors += check_access(document, base_dir)
    warnings += [*source_warnings, *open_to_everybody(document)]
    warnings += tls_warnings(document, base_dir, datetime.datetime.now(datetime.UTC)) if configuration else ()
    if errors or configuration is None:
        lines = [finding.line(config_path.name, renamed) for finding in sorted(errors, key=_source_position)]
        raise ConfigurationError(
            list(dict.fromkeys(lines)), warnings=[finding.line(config_path.name, renamed) for finding in warnings]
        )

    runtime_dir = default_runtime_dir(config_path, environ)
    if configuration.runtime_dir is not None:
        runtime_dir = resolve_path(configuration.runtime_dir, base_dir)
    sources = [
        source_settings(source, position, catalogue, environment)
        for position, source in enumerate(configuration.data_sources)
    ]
    return Settings(
        config_path=str(config_path),
        base_dir=str(base_dir),
        db_url=db_url,
        db_read_url=db_read_url,
        db_echo=configuration.db_echo,
        runtime_dir=str(runtime_dir),
        secret_env=frozenset(_secret_variables(document, sources)),
        dicom=_dicom_settings(configuration, base_dir),
        http=http_settings(configuration.http, configuration.modalities, base_dir, environment),
        mpps=MppsSettings(
            mode=configuration.mpps.mode,
            timeout_s=configuration.mpps.timeout,
            own_only=configuration.mpps.own_only,
        ),
        deduplication=_deduplication_settings(configuration.deduplication),
        retention=RetentionSettings(**configuration.retention.model_dump()),
        access=access_settings(configuration.access, base_dir),
        cluster=ClusterSettings(
            host=configuration.cluster.host or socket.gethostname(), lease_s=configuration.cluster.lease_s
        ),
        log=LogSettings(format=configuration.log.format, level=configuration.log.level),
        plugin_dirs=tuple(plugin_dirs),
        sources=tuple(sorted(sources, key=lambda source: source.priority)),
        warnings=tuple(finding.line(config_path.name, renamed) for finding in warnings),
    )


def check_source_alone(
    document: Mapping[str, object], catalogue: Catalogue, environ: Mapping[str, str]
) -> tuple[SourceSettings, list[str]]:
    """Check one source outside a configuration file, as the tests of plugins do.

    Args:
        document: The source, with its keys as a file has them.
        catalogue: The source types that exist.
        environ: The environment.

    Returns:
        Its settings, and what the user should look at.

    Raises:
        ConfigurationError: Lists all problems, one per line.
    """
    whole: dict[str, object] = {"data_sources": [dict(document)]}
    warnings = turn_sources(whole)
    configuration, errors = _check_form(whole)
    source_errors, source_warnings = check_sources(whole["data_sources"], catalogue, environ)
    errors += source_errors
    if errors or configuration is None:
        raise ConfigurationError(list(dict.fromkeys(_line_in_source(finding) for finding in errors)))
    settings = source_settings(configuration.data_sources[0], 0, catalogue, environ)
    return settings, [_line_in_source(finding) for finding in [*warnings, *source_warnings]]


def _line_in_source(finding: Finding) -> str:
    return Finding(place=finding.place[2:], text=finding.text).line("source", {})


def _secret_variables(document: Mapping[str, object], sources: Iterable[SourceSettings]) -> Iterator[str]:
    """Yield every variable that the configuration names: no plugin may see another source's, or any other one's."""
    for source in sources:
        yield from source.secret_env
    # Of the document, because a section may be switched off, and a disabled source's variable be set all the same.
    yield from (name for _, name in variables_named_in(document, ()) if isinstance(name, str))


def _deduplication_settings(section: Deduplication) -> DeduplicationSettings:
    match_on = tuple(section.match_on)
    if "max_minutes" not in section.model_fields_set:
        return DeduplicationSettings(match_on=match_on)
    bound = section.max_minutes
    return DeduplicationSettings(match_on=match_on, max_minutes=bound, max_minutes_touched=bound)


def _dicom_settings(configuration: Configuration, base_dir: Path) -> DicomSettings:
    profiles = scanner_profiles(configuration.modalities)
    return DicomSettings(
        ae_title=configuration.dicom.ae_title,
        host=configuration.dicom.host,
        port=configuration.dicom.port,
        allowed_aet=tuple(configuration.allowed_aet),
        allowed_hosts=tuple(configuration.allowed_hosts),
        check_called_aet=configuration.dicom.check_called_aet,
        max_associations=configuration.dicom.max_associations,
        max_associations_per_host=configuration.dicom.max_associations_per_host,
        idle_timeout_s=float(configuration.dicom.idle_timeout),
        tls=tls_settings(configuration.dicom.tls, base_dir),
        profiles={title: profile for title, profile in profiles.items() if title != EVERY_OTHER},
        default_profile=profiles.get(EVERY_OTHER, ScannerProfile()),
        serving=ServingSettings(
            serve_statuses=tuple(configuration.mwl.serve_statuses),
            expire_after_days=configuration.mwl.expire_after_days,
            days_ahead=configuration.mwl.days_ahead,
            when_too_many=configuration.mwl.when_too_many,
        ),
    )


def _source_position(finding: Finding) -> int:
    position = finding.place[1] if finding.place[:1] == ("data_sources",) and len(finding.place) > 1 else -1
    return position if isinstance(position, int) else -1


def convert_old(document: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, object]:
    """Convert an old configuration and the environment variables that could replace its keys; see `legacy.convert`."""
    completed = dict(document)
    if not completed.keys() & {"db_path", "db_url", "db_url_env"} and environment.get("DB_PATH"):
        completed["db_path"] = environment["DB_PATH"]
    if environment.get("DB_ECHO"):
        completed.setdefault("db_echo", environment["DB_ECHO"])
    if environment.get("DEBUG", "").lower() in {"1", "true"}:
        completed.setdefault("log", {"level": "DEBUG"})
    return legacy.convert(completed)


def _override(document: dict[str, object], overrides: Mapping[str, object], renamed: dict[Place, str]) -> None:
    given = {key: value for key, value in overrides.items() if value is not None}
    section = document.get("dicom", {})
    if given and isinstance(section, dict):
        document["dicom"] = {**section, **given}
        renamed.update({("dicom", key): _OPTIONS[key] for key in given})


def _check_form(document: Mapping[str, object]) -> tuple[Configuration | None, list[Finding]]:
    checked = {key: value for key, value in document.items() if key not in legacy.OLD_KEYS}
    try:
        return Configuration.model_validate(checked), []
    except ValidationError as error:
        entries = error.errors(include_url=False)
        return None, [explain(entry, _keys_around(entry["loc"])) for entry in entries]


def _keys_around(place: Place) -> list[str]:
    """List the keys of the innermost section that a place is in."""
    section: type[BaseModel] = Configuration
    for part in place:
        field = section.model_fields.get(part) if isinstance(part, str) else None
        inner = () if field is None else (field.annotation, *getattr(field.annotation, "__args__", ()))
        for annotation in inner:
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                section = annotation
    if OBJECT in place:
        section = NotListed if "where" in place else OldExtract if "_extract" in place else MappedField
    return [field.alias or name for name, field in section.model_fields.items()]


def _unknown_keys(document: Mapping[str, object]) -> list[str]:
    known = {field.alias or name for name, field in Configuration.model_fields.items()}
    return [key for key in document if key not in known]


def _top_level_warnings(document: Mapping[str, object], file: str, *, old: bool) -> list[Finding]:
    findings = []
    for key in _unknown_keys(document):
        text = f'unknown key "{key}" is ignored{suggestion(key, Configuration.model_fields)}'
        findings.append(Finding(place=(), text=text))
    used = [f'"{key}"' for key in legacy.OLD_KEYS if key in document]
    if old:
        text = f"{', '.join(used) or 'legacy_mode'}: this is the form for REDCap alone, which still works"
        if "data_sources" in document:
            text += '; "data_sources" is ignored' if document["data_sources"] else '; "data_sources" is empty'
        text += f"; `pylantir init --from {file}` writes the new form with data_sources"
        findings.append(Finding(place=(), text=text))
    elif used and document.get("data_sources"):
        text = f"{', '.join(used)}: ignored, as data_sources is given; set legacy_mode to use the old keys"
        findings.append(Finding(place=(), text=text))
    return findings


def _no_source(document: Mapping[str, object]) -> Finding:
    known_as = "is empty" if "data_sources" in document else "is missing"
    near = nearest("data_sources", _unknown_keys(document))
    example = '{"name": "bookings", "type": "csv", "config": {"file_path": …}}'
    advice = f'is "{near}" meant?' if near else f"add a source, such as {example}"
    return Finding(place=("data_sources",), text=f"{known_as}: {advice}")


def _plugin_dirs(document: Mapping[str, object], base_dir: Path) -> tuple[list[str], list[Finding]]:
    configured = document.get("plugin_dirs")
    given = configured if isinstance(configured, list) else ["plugins"]
    folders, findings = [], []
    for position, folder in enumerate(given):
        if not isinstance(folder, str) or not folder:
            continue
        path = resolve_path(folder, base_dir)
        if path.is_dir():
            folders.append(str(path))
        elif isinstance(configured, list):
            findings.append(Finding(place=("plugin_dirs", position), text=f"no such folder: {path}"))
    return folders, findings
