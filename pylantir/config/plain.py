"""Makes the plain values that the processes get of a checked configuration.

Lives in the configuration check. Whatever could be wrong has been reported before.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pylantir.config.environment import variables_named_in
from pylantir.config.locate import default_runtime_dir, resolve_path
from pylantir.config.models.configuration import Configuration, Deduplication
from pylantir.config.sections.access import access_settings
from pylantir.config.sections.http import http_settings
from pylantir.config.sections.scanners import EVERY_OTHER, scanner_profiles
from pylantir.config.sections.sources import source_settings
from pylantir.config.sections.tls import tls_settings
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the meaning of a configuration depends on besides its own text.

    Attributes:
        path: The file, absolute.
        base_dir: Where relative paths start.
        environ: The real environment.
        environment: The same, completed by `.env` files.
        plugin_dirs: The folders of plugins that exist.
        catalogue: The source types that exist.
        db_url: The database's URL.
        db_read_url: The URL that it is read from first.
    """

    path: Path
    base_dir: Path
    environ: Mapping[str, str]
    environment: Mapping[str, str]
    plugin_dirs: Sequence[str]
    catalogue: Catalogue
    db_url: str
    db_read_url: str | None


def plain_settings(
    configuration: Configuration, document: Mapping[str, object], around: Surroundings, warnings: Sequence[str]
) -> Settings:
    """Make the settings of a configuration that has been found right.

    Args:
        configuration: The checked form.
        document: The same as plain JSON, with all its sections.
        around: What else decides.
        warnings: What the user should look at.
    """
    runtime_dir = default_runtime_dir(around.path, around.environ)
    if configuration.runtime_dir is not None:
        runtime_dir = resolve_path(configuration.runtime_dir, around.base_dir)
    sources = [
        source_settings(source, position, around.catalogue, around.environment)
        for position, source in enumerate(configuration.data_sources)
    ]
    mpps, cluster, log = configuration.mpps, configuration.cluster, configuration.log
    return Settings(
        config_path=str(around.path),
        base_dir=str(around.base_dir),
        db_url=around.db_url,
        db_read_url=around.db_read_url,
        db_echo=configuration.db_echo,
        runtime_dir=str(runtime_dir),
        secret_env=frozenset(_secret_variables(document, sources)),
        dicom=_dicom_settings(configuration, around.base_dir),
        http=http_settings(configuration.http, configuration.modalities, around.base_dir, around.environment),
        mpps=MppsSettings(mode=mpps.mode, timeout_s=mpps.timeout, own_only=mpps.own_only),
        deduplication=_deduplication_settings(configuration.deduplication),
        retention=RetentionSettings(**configuration.retention.model_dump()),
        access=access_settings(configuration.access, around.base_dir),
        cluster=ClusterSettings(host=cluster.host or socket.gethostname(), lease_s=cluster.lease_s),
        log=LogSettings(format=log.format, level=log.level),
        plugin_dirs=tuple(around.plugin_dirs),
        sources=tuple(sorted(sources, key=lambda source: source.priority)),
        warnings=tuple(warnings),
    )


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
