"""Turns a configuration file into `Settings`, or into a list of everything that is wrong with it.

Lives in the short-lived process that checks the configuration: it imports pydantic. Opens no database and no
port, runs no plugin, and changes neither the environment nor the working directory.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pylantir.config.document import read_document
from pylantir.config.environment import complete_environment
from pylantir.config.form import check_form, no_source, top_level_warnings
from pylantir.config.locate import resolve_path
from pylantir.config.messages import Finding, Place
from pylantir.config.plain import Surroundings, plain_settings
from pylantir.config.sections import legacy
from pylantir.config.sections.access import check_access
from pylantir.config.sections.database import database_url, read_url
from pylantir.config.sections.http import check_http
from pylantir.config.sections.scanners import check_scanners, open_to_everybody
from pylantir.config.sections.sources import check_sources, source_settings
from pylantir.config.sections.tls import check_tls, tls_warnings
from pylantir.config.sections.turned import turn_sources
from pylantir.errors import ConfigurationError
from pylantir.settings import Catalogue, Settings, SourceSettings

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
    warnings += top_level_warnings(original, config_path.name, old=old)

    renamed = dict(legacy.OLD_PLACES) if old else {}
    document = legacy.convert_with(original, environment) if old else dict(original)
    if not with_sources:
        document["data_sources"] = []
    _override(document, overrides or {}, renamed)
    warnings += turn_sources(document)

    configuration, form_errors = check_form(document)
    db_url, database_errors = database_url(document, base_dir, environment)
    db_read_url, read_errors = read_url(document, db_url)
    plugin_dirs, folder_warnings = _plugin_dirs(document, base_dir)
    around = Surroundings(
        path=config_path,
        base_dir=base_dir,
        environ=environ,
        environment=environment,
        plugin_dirs=plugin_dirs,
        catalogue=discover(plugin_dirs),
        db_url=db_url,
        db_read_url=db_read_url,
    )
    errors += [*form_errors, *database_errors, *read_errors]
    if with_sources:
        errors += _check_sources_are_named(original, document, old=old)
    meaning_errors, meaning_warnings = _check_meaning(document, around)
    errors += meaning_errors
    warnings += [*folder_warnings, *meaning_warnings]
    if configuration:
        warnings += tls_warnings(document, base_dir, datetime.datetime.now(datetime.UTC))
    told = [finding.line(config_path.name, renamed) for finding in warnings]
    if errors or configuration is None:
        lines = [finding.line(config_path.name, renamed) for finding in sorted(errors, key=_source_position)]
        raise ConfigurationError(list(dict.fromkeys(lines)), warnings=told)
    return plain_settings(configuration, document, around, told)


def _check_sources_are_named(
    original: Mapping[str, object], document: Mapping[str, object], *, old: bool
) -> Iterable[Finding]:
    if document.get("data_sources", []) == []:
        yield no_source(original)
    if old and "redcap2wl" not in original:
        yield Finding(place=("redcap2wl",), text="is missing, but legacy_mode needs it")


def _check_meaning(document: Mapping[str, object], around: Surroundings) -> tuple[list[Finding], list[Finding]]:
    """Find the errors, and what the user should look at, in values whose form is right or has been reported."""
    errors, warnings = check_sources(document.get("data_sources", []), around.catalogue, around.environment)
    return (
        [
            *errors,
            *check_scanners(document),
            *check_tls(document, around.base_dir),
            *check_http(document, around.base_dir, around.environment),
            *check_access(document, around.base_dir),
        ],
        [*warnings, *open_to_everybody(document)],
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
    configuration, errors = check_form(whole)
    source_errors, source_warnings = check_sources(whole["data_sources"], catalogue, environ)
    errors += source_errors
    if errors or configuration is None:
        raise ConfigurationError(list(dict.fromkeys(_line_in_source(finding) for finding in errors)))
    settings = source_settings(configuration.data_sources[0], 0, catalogue, environ)
    return settings, [_line_in_source(finding) for finding in [*warnings, *source_warnings]]


def _line_in_source(finding: Finding) -> str:
    return Finding(place=finding.place[2:], text=finding.text).line("source", {})


def _source_position(finding: Finding) -> int:
    position = finding.place[1] if finding.place[:1] == ("data_sources",) and len(finding.place) > 1 else -1
    return position if isinstance(position, int) else -1


def _override(document: dict[str, object], overrides: Mapping[str, object], renamed: dict[Place, str]) -> None:
    given = {key: value for key, value in overrides.items() if value is not None}
    section = document.get("dicom", {})
    if given and isinstance(section, dict):
        document["dicom"] = {**section, **given}
        renamed.update({("dicom", key): _OPTIONS[key] for key in given})


def _plugin_dirs(document: Mapping[str, object], base_dir: Path) -> tuple[list[str], list[Finding]]:
    configured = document.get("plugin_dirs")
    given = configured if isinstance(configured, list) else ["plugins"]
    folders, findings = [], []
    for position, folder in enumerate(given):
        if not isinstance(folder, str) or not folder:
            continue
        path = resolve_path(folder, base_dir)
        if os.path.isdir(path):  # noqa: PTH112 - unlike pathlib, it raises for no folder that is closed to us
            folders.append(str(path))
        elif isinstance(configured, list):
            findings.append(Finding(place=("plugin_dirs", position), text=f"no such folder: {path}"))
    return folders, findings
