"""The checked configuration as plain frozen values: all that crosses from the check into a process.

Nothing here reads a file or the environment: `pylantir.config` makes these values, processes read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pylantir.certificates import WantedCertificate
from pylantir.printing import inline_secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EMPTY_VALUES = ("", "NULL", "null", "NaN", "nan", "N/A", "#N/A")
"""What means nothing, where a source's `empty_values` does not say otherwise."""

SERVED_STATUSES = ("SCHEDULED", "IN_PROGRESS", "DISCONTINUED")

_PARTS = ("6", "13", "58", "87", "100", "101", "109", "110", "126", "127", "138", "144", "148", "149", "159", "166")
CHARACTER_SETS = (
    *(f"ISO_IR {number}" for number in _PARTS if number not in {"58", "87", "149", "159"}),
    "ISO_IR 192",
    "GB18030",
    "GBK",
    *(f"ISO 2022 IR {number}" for number in _PARTS),
)
"""Defined terms of Specific Character Set that answers can be written in (DICOM PS3.3 C.12.1.1.2)."""


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
        digest: Of the file's content: another one is another plugin.
    """

    type_name: str
    module: str | None = None
    path: str | None = None
    class_name: str | None = None
    targets: tuple[str, ...] = ()
    builtin: bool = False
    digest: str = ""

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
        field_mapping: In all its forms, as it stands in the file.
        empty_values: Words that mean nothing.
        unusable_values: `omit` or `reject`: what becomes of a value outside the strict fields that cannot be used.
        where: Column -> the texts of which a record has to have one, or {"not": [...]}.
        patient_id_prefix: Stands before each of its patient IDs.
        issuer_of_patient_id: Who gave its patient IDs, where the records do not say.
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
    field_mapping: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    priority: float = 0.0
    missing_entries: str = "cancel"
    fetch_timeout_s: float = 300.0
    max_memory_mb: int | None = None
    max_restarts: int | None = None
    date_formats: tuple[str, ...] = ()
    time_formats: tuple[str, ...] = ()
    empty_values: tuple[str, ...] = EMPTY_VALUES
    unusable_values: str = "omit"
    where: Mapping[str, Any] = field(default_factory=dict)
    patient_id_prefix: str = ""
    issuer_of_patient_id: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nothing that is printed may show: its variables' values, and those that stand in `config` itself."""
        return (*self.env_values.values(), *inline_secrets(self.config))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSettings:
    """Which items any scanner is shown.

    Attributes:
        serve_statuses: For a query that names no status.
        expire_after_days: Items that started longer ago are not shown; None shows them for ever.
        days_ahead: Items that start later are not shown; None shows all.
        when_too_many: `truncate` or `fail`: what a query gets that matches more than the scanner's `max_answers`.
    """

    serve_statuses: tuple[str, ...] = SERVED_STATUSES
    expire_after_days: int | None = None
    days_ahead: int | None = None
    when_too_many: str = "truncate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerProfile:
    """What one scanner gets, and how.

    Attributes:
        hosts: Networks or addresses that it may come from; none: any.
        charset: Values of Specific Character Set for its answers; none: UTF-8 where needed.
        only_own_station: It gets items that are planned for it or for no station in particular.
        modalities: It gets items of these; none: all.
        max_answers: At most so many answers to a query; None: any number.
        required_empty: Attributes that were asked for and have no value are sent empty, else left out.
        certificates: It has to show one of these; none: any.
    """

    hosts: tuple[str, ...] = ()
    charset: tuple[str, ...] = ()
    only_own_station: bool = False
    modalities: tuple[str, ...] = ()
    max_answers: int | None = None
    required_empty: bool = True
    certificates: tuple[WantedCertificate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """Absolute paths of PEM files, and whether scanners have to show a certificate that `ca` has signed."""

    certificate: str
    key: str
    ca: str | None = None
    require_client_certificate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomSettings:
    """Where, as whom and how the worklist is served, and whom.

    Attributes:
        allowed_aet: Calling AE titles; none: any.
        allowed_hosts: Networks or addresses that may connect; none: any. This machine always may.
        check_called_aet: Refuse those who call another AE title than ours.
        idle_timeout_s: An association on which nothing happens ends after so long.
        tls: With it, connections are encrypted; without, they are not.
        profiles: AE title -> its profile.
        default_profile: For every other AE title.
    """

    ae_title: str = "PYLANTIR"
    host: str = "0.0.0.0"  # noqa: S104 - a scanner is another machine
    port: int = 4242
    allowed_aet: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    check_called_aet: bool = False
    max_associations: int = 100
    max_associations_per_host: int = 20
    idle_timeout_s: float = 60.0
    serving: ServingSettings = ServingSettings()
    tls: TlsSettings | None = None
    profiles: Mapping[str, ScannerProfile] = field(default_factory=dict)
    default_profile: ScannerProfile = ScannerProfile()

    def profile_of(self, ae_title: str) -> ScannerProfile:
        """How the scanner with this AE title is served."""
        return self.profiles.get(ae_title, self.default_profile)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Where and to whom pages, DICOMweb and metrics are served.

    Attributes:
        users: Name -> password, or its scrypt hash (see `pylantir.web.passwords`).
        tokens: Bearer tokens.
        secret_env: The variables that the passwords and tokens were read from.
        tls: With it, connections are encrypted.
        behind_proxy: Somebody else encrypts, and says in X-Forwarded-* who asks.
        stations: User -> AE title of the scanner whose profile applies.
        pages, dicomweb, metrics: What is served.
    """

    host: str = "127.0.0.1"
    port: int = 4280
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    tokens: tuple[str, ...] = field(default=(), repr=False)
    secret_env: tuple[str, ...] = ()
    tls: TlsSettings | None = None
    behind_proxy: bool = False
    stations: Mapping[str, str] = field(default_factory=dict)
    pages: bool = True
    dicomweb: bool = True
    metrics: bool = True

    @property
    def needs_login(self) -> bool:
        """Whether somebody who asks has to say who he is."""
        return bool(self.users or self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class MppsSettings:
    """What scanners' reports (MPPS) have to hold (`lenient` or `strict`), and how long they wait for the writer.

    Attributes:
        own_only: A step is changed and retrieved by the AE title alone that created it.
    """

    mode: str = "lenient"
    timeout_s: float = 10.0
    own_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeduplicationSettings:
    """How records of two sources are recognised as one step when no accession number or study UID says so."""

    match_on: tuple[str, ...] = ("patient_id", "scheduled_start_date", "modality")
    max_minutes: float | None = 240
    max_minutes_touched: float | None = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """How many days of the audit log and of `sync_runs` are kept; None keeps all."""

    audit_days: int | None = None
    runs_days: int | None = 400


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
        http: None: nothing is served over HTTP.
        sources: In the order of priority, lowest number first; disabled ones included.
        warnings: What `check` says about a configuration that can be used.
    """

    config_path: str
    base_dir: str
    db_url: str = field(repr=False)
    db_echo: bool = False
    runtime_dir: str
    dicom: DicomSettings = DicomSettings()
    http: HttpSettings | None = None
    mpps: MppsSettings = MppsSettings()
    deduplication: DeduplicationSettings = DeduplicationSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()
    plugin_dirs: tuple[str, ...] = ()
    sources: tuple[SourceSettings, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def enabled_sources(self) -> tuple[SourceSettings, ...]:
        """The sources that get a worker."""
        return tuple(source for source in self.sources if source.enabled)
