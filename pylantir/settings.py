"""The checked configuration as plain frozen values: all that crosses from the check into a process.

Nothing here reads a file or the environment: `pylantir.config` makes these values, processes read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SERVED_STATUSES = ("SCHEDULED", "IN_PROGRESS", "DISCONTINUED")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationWindow:
    """When a source may be asked: inclusive minutes after local midnight; end < start crosses midnight."""

    start_minute: int = 0
    end_minute: int = 24 * 60 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginType:
    """A source type that exists, and where its class is. Known without running any of the plugin's code.

    Attributes:
        type_name: What `type` in a source's configuration says.
        module: Importable module (built-in and entry-point plugins), or None for a file.
        path: Absolute path of a dropped-in `.py` file, or None.
        class_name: The plugin class, or None: the only subclass of DataSourcePlugin that the file defines.
        targets: Worklist fields beyond the common ones that the plugin's `field_mapping` may name.
        builtin: Comes with Pylantir.
    """

    type_name: str
    module: str | None = None
    path: str | None = None
    class_name: str | None = None
    targets: tuple[str, ...] = ()
    builtin: bool = False

    @property
    def origin(self) -> str:
        """Where the type comes from, for messages."""
        return self.path or f"{self.module}:{self.class_name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginProblem:
    """A plugin file or entry point that offers no usable type, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The source types that exist, by `type_name`, and what was found but cannot be used."""

    types: Mapping[str, PluginType]
    problems: tuple[PluginProblem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """One data source: the keys of the configuration reference with their units.

    Attributes:
        config: The plugin's own keys, as they stand in the file; one may be a secret, so they are not shown.
        secret_env: Environment variables that this source reads (every `*_env` key of `config`).
        env_values: Their values, from the environment or a `.env` file, for this source's worker alone.
    """

    name: str
    plugin: PluginType
    enabled: bool = True
    sync_interval_s: float = 60.0
    window: OperationWindow = OperationWindow()
    timezone: str | None = None
    config: Mapping[str, object] = field(default_factory=dict, repr=False)
    secret_env: tuple[str, ...] = ()
    env_values: Mapping[str, str] = field(default_factory=dict, repr=False)
    field_mapping: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    priority: float = 0.0
    missing_entries: str = "cancel"
    fetch_timeout_s: float = 300.0
    date_format: str | None = None
    time_format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSettings:
    """Which items any scanner is shown.

    Attributes:
        serve_statuses: For a query that names no status.
        expire_after_days: Items that started longer ago are not shown; None shows them for ever.
        days_ahead: Items that start later are not shown; None shows all.
    """

    serve_statuses: tuple[str, ...] = SERVED_STATUSES
    expire_after_days: int | None = None
    days_ahead: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomSettings:
    """Where, as whom and how the worklist is served."""

    ae_title: str = "PYLANTIR"
    host: str = "0.0.0.0"  # noqa: S104 - a scanner is another machine
    port: int = 4242
    allowed_aet: tuple[str, ...] = ()
    serving: ServingSettings = ServingSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class MppsSettings:
    """What scanners' reports (MPPS) have to hold (`lenient` or `strict`), and how long they wait for the writer."""

    mode: str = "lenient"
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeduplicationSettings:
    """How records of two sources are recognised as one step when no accession number or study UID says so."""

    match_on: tuple[str, ...] = ("patient_id", "scheduled_start_date", "modality")
    max_minutes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How log lines look (`text` or `json`) and from which level on they are written."""

    format: str = "text"
    level: str = "INFO"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a run needs to know.

    Attributes:
        config_path: Absolute path of the configuration file.
        base_dir: Absolute folder that relative paths in the file (and in plugins) start from.
        db_url: SQLAlchemy URL; holds a password perhaps, so it is never logged.
        runtime_dir: Absolute folder of sockets and locks.
        sources: In the order of priority, lowest number first; disabled ones included.
        warnings: What `check` says about a configuration that can be used.
    """

    config_path: str
    base_dir: str
    db_url: str = field(repr=False)
    db_echo: bool = False
    runtime_dir: str
    dicom: DicomSettings = DicomSettings()
    mpps: MppsSettings = MppsSettings()
    deduplication: DeduplicationSettings = DeduplicationSettings()
    log: LogSettings = LogSettings()
    plugin_dirs: tuple[str, ...] = ()
    sources: tuple[SourceSettings, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def enabled_sources(self) -> tuple[SourceSettings, ...]:
        """The sources that get a worker."""
        return tuple(source for source in self.sources if source.enabled)
