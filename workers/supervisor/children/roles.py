"""Decides which children a configuration needs. Pure: settings and sockets in, roles out."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import json
import socket
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pylantir.settings import DeduplicationSettings, DicomSettings, HttpSettings, Settings, SourceSettings
from pylantir.store.decide.removal import SELDOM_S
from pylantir.store.hosts.decision import HostSource
from workers.supervisor.probe import probe_title
from workers.writer.settings import WriterSettings

QUEUE_SOCKET_NAME = "entries.sock"
_SERVICE_RETRY_CAP_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a child runs, and how. If the new role equals the old one, the child needs no restart.

    Attributes:
        role: `writer`, `mwl-scp`, `web` or `source`.
        source: The source's name.
        body: `module:function` to run.
        arguments: The body's arguments: frozen values and sockets.
        secrets: Values that its log must not show.
        retry_cap_s: Longest delay before a restart.
        sync_interval_s: Of a source: how often it fetches.
        max_memory_mb: Above this the supervisor restarts it.
        max_restarts: After so many restarts the supervisor logs a remark.
        plugin: The plugin whose code runs in it, and the plugin's file, for the log.
    """

    role: str
    source: str | None = None
    body: str
    arguments: tuple[object, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)
    retry_cap_s: float = 60.0
    sync_interval_s: float = 0.0
    max_memory_mb: int | None = None
    max_restarts: int | None = None
    plugin: str | None = None

    @property
    def name(self) -> str:
        """The name that operators use."""
        return self.source or self.role


def plan_roles(
    settings: Settings, key: bytes, queue: socket.socket, dicom: socket.socket, http: socket.socket | None = None
) -> dict[str, Role]:
    """List the children by name: writer, server, the web process if there is one, and one worker per enabled source.

    Args:
        settings: The checked configuration.
        key: This run's key for the producers' tokens.
        queue: The entry queue's listening socket.
        dicom: The worklist's listening socket.
        http: The web process's listening socket, with `settings.http` only.
    """
    roles = [
        Role(
            role="writer",
            body="workers.writer.worker:run",
            arguments=(_writer_settings(settings, key), queue),
            secrets=_addresses(settings),
            retry_cap_s=_SERVICE_RETRY_CAP_S,
        ),
        Role(
            role="mwl-scp",
            body="workers.server.worker:run",
            arguments=(
                _admit_probe(settings.dicom, probe_title(key)), settings.mpps, settings.access, settings.database,
                _queue_address(settings), dicom,
            ),
            secrets=_addresses(settings),
            retry_cap_s=_SERVICE_RETRY_CAP_S,
        ),
    ]  # fmt: skip
    if settings.http and http:
        roles.append(_plan_web(settings, settings.http, http))
    roles += [_plan_source(settings, source) for source in settings.enabled_sources]
    return {role.name: role for role in roles}


def _writer_settings(settings: Settings, key: bytes) -> WriterSettings:
    return WriterSettings(
        db_url=settings.db_url,
        db_echo=settings.db_echo,
        host=settings.cluster.host,
        lease_s=settings.cluster.lease_s,
        sources=tuple(_describe(source, settings.deduplication) for source in settings.sources),
        match_on=settings.deduplication.match_on,
        max_minutes=settings.deduplication.max_minutes,
        max_minutes_touched=settings.deduplication.max_minutes_touched,
        keep_missing=frozenset(source.name for source in settings.sources if source.missing_entries == "keep"),
        seldom=frozenset(source.name for source in settings.sources if source.sync_interval_s > SELDOM_S),
        zones={source.name: source.timezone for source in settings.sources if source.timezone},
        retention=settings.retention,
        access=settings.access,
        ae_title=settings.dicom.ae_title,
        mpps_strict=settings.mpps.mode == "strict",
        key=key,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a reload changes, by the names of the processes."""

    restarted: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def plan_changes(
    present: Mapping[str, Role],
    wanted: Mapping[str, Role],
    *,
    failed: Collection[str] = (),
    log_changed: bool = False,
    restart_sources: bool = False,
) -> Changes:
    """Decide which processes a reload starts, ends and replaces; the others do not notice it.

    Args:
        present: The roles of the children, by name.
        wanted: The roles that the new configuration needs.
        failed: Children that their last configuration kept from running.
        log_changed: The form or the level of the log changes.
        restart_sources: Replace all sources.
    """

    def is_to_restart(name: str, role: Role) -> bool:
        return present[name] != role or name in failed or log_changed or (restart_sources and role.source is not None)

    return Changes(
        removed=tuple(name for name in present if name not in wanted),
        added=tuple(name for name in wanted if name not in present),
        restarted=tuple(name for name, role in wanted.items() if name in present and is_to_restart(name, role)),
    )


def _describe(source: SourceSettings, matching: DeduplicationSettings) -> HostSource:
    """Describe a source for the other hosts; the digest covers how it is read and understood, but no secrets."""
    said = asdict(source)
    for other in ("name", "priority", "enabled", "env_values", "max_memory_mb", "max_restarts", "plugin"):
        del said[other]
    zone = source.timezone or _zone_of_machine()
    text = json.dumps(
        [source.plugin.type_name, source.plugin.digest, said, zone, asdict(matching)], sort_keys=True, default=str
    )
    for secret in source.secrets:
        text = text.replace(json.dumps(secret)[1:-1], "***")
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return HostSource(name=source.name, priority=source.priority, enabled=source.enabled, digest=digest)


def _zone_of_machine() -> list[str]:
    """Return how far this machine's wall clock is ahead of UTC in winter and in summer."""
    days = (datetime.datetime(2026, month, 1, tzinfo=datetime.UTC) for month in (1, 7))
    return [str(day.astimezone().utcoffset()) for day in days]


def digests_in(writer: Role) -> dict[str, str]:
    """Return the digests that the writer's role has: source -> digest."""
    settings = writer.arguments[0]
    return {one.name: one.digest for one in settings.sources} if isinstance(settings, WriterSettings) else {}


def _admit_probe(dicom: DicomSettings, title: str) -> DicomSettings:
    """Admit the supervisor's own probe, whichever scanners are admitted."""
    titles = (*dicom.allowed_aet, title) if dicom.allowed_aet else ()
    hosts = dicom.allowed_hosts
    if hosts:
        with contextlib.suppress(ValueError):
            # A server that is bound to one address of this machine sees our connection come from that address.
            hosts = (*hosts, str(ipaddress.ip_address(dicom.host)))
    return replace(dicom, allowed_aet=titles, allowed_hosts=hosts)


def _plan_web(settings: Settings, http: HttpSettings, listener: socket.socket) -> Role:
    return Role(
        role="web",
        body="workers.web.worker:run",
        arguments=(
            http, settings.dicom, settings.mpps, settings.access, settings.database, _queue_address(settings),
            settings.runtime_dir, listener,
        ),
        secrets=(*_addresses(settings), *http.secrets),
        retry_cap_s=_SERVICE_RETRY_CAP_S,
    )  # fmt: skip


def _plan_source(settings: Settings, source: SourceSettings) -> Role:
    return Role(
        role="source",
        source=source.name,
        body="workers.source.worker:run",
        arguments=(source, settings.base_dir, _queue_address(settings)),
        sync_interval_s=source.sync_interval_s,
        max_memory_mb=source.max_memory_mb,
        max_restarts=source.max_restarts,
        secrets=source.secrets,
        plugin=f"plugin {source.plugin.type_name} ({source.plugin.origin})",
    )


def _addresses(settings: Settings) -> tuple[str, ...]:
    """The database's addresses, which may hold a password."""
    return tuple(address for address in (settings.db_url, settings.db_read_url) if address)


def _queue_address(settings: Settings) -> str:
    return str(Path(settings.runtime_dir) / QUEUE_SOCKET_NAME)
