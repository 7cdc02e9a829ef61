"""The checked configuration as plain frozen values; a process gets nothing else from the check.

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
"""The words that mean "no value" unless a source's `empty_values` says otherwise."""

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
    """A source type that exists, and where its class is; found without running the plugin's code.

    Attributes:
        type_name: What `type` in a source's configuration says.
        module: Importable module (built-in and entry-point plugins), or None for a file.
        path: Absolute path of a dropped-in `.py` file, or None.
        class_name: The plugin class, or None: the only subclass of DataSourcePlugin that the file defines.
        targets: Worklist fields beyond the common ones that the plugin's `field_mapping` may name.
        builtin: Comes with Pylantir.
        digest: Digest of the file's content; a different digest means a different plugin.
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
        """Say where the type comes from, for messages."""
        return self.path or f"{self.module}:{self.class_name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginProblem:
    """A plugin file or entry point that offers no usable type, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The source types that exist, by `type_name`, and the plugins that were found but cannot be used."""

    types: Mapping[str, PluginType]
    problems: tuple[PluginProblem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """One data source: the keys of the configuration reference with their units.

    Attributes:
        config: The plugin's own keys, as written in the file; one may be a secret, so they are not shown.
        secret_env: Environment variables that this source reads (every `*_env` key of `config`).
        env_values: Their values, from the environment or a `.env` file, for this source's worker alone.
        field_mapping: In all its forms, as written in the file.
        empty_values: Words that mean "no value".
        unusable_values: `omit` or `reject`: how to treat an unusable value outside the strict fields.
        where: Column -> the texts of which a record must have one, or {"not": [...]}.
        patient_id_prefix: Put before each of its patient IDs.
        issuer_of_patient_id: The issuer of its patient IDs, for records that do not name it.
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
        """The values that no output may show: those of its variables, and secrets in `config` itself."""
        return (*self.env_values.values(), *inline_secrets(self.config))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSettings:
    """Which items any scanner is shown.

    Attributes:
        serve_statuses: For a query that names no status.
        expire_after_days: Items that started longer ago are not shown; None shows them for ever.
        days_ahead: Items that start later are not shown; None shows all.
        when_too_many: `truncate` or `fail`: the answer to a query that matches more than the scanner's `max_answers`.
    """

    serve_statuses: tuple[str, ...] = SERVED_STATUSES
    expire_after_days: int | None = None
    days_ahead: int | None = None
    when_too_many: str = "truncate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerProfile:
    """Which items and answers one scanner gets.

    Attributes:
        hosts: Networks or addresses that it may come from; none: any.
        charset: Values of Specific Character Set for its answers; none: UTF-8 where needed.
        only_own_station: It gets only items that are planned for it or for no station in particular.
        modalities: It gets only items of these; none: all.
        max_answers: The most answers to a query; None: any number.
        required_empty: Requested attributes without a value are sent empty; otherwise they are left out.
        certificates: It must show one of these; none: any.
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
    """Absolute paths of PEM files, and whether scanners must show a certificate that `ca` has signed."""

    certificate: str
    key: str
    ca: str | None = None
    require_client_certificate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomSettings:
    """Where and how the worklist is served, under which AE title, and to which scanners.

    Attributes:
        allowed_aet: Calling AE titles; none: any.
        allowed_hosts: Networks or addresses that may connect; none: any. This machine always may.
        check_called_aet: Refuse scanners that call another AE title than ours.
        idle_timeout_s: An association without activity ends after this time.
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
        behind_proxy: A proxy encrypts, and names the client in X-Forwarded-* headers.
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
    def secrets(self) -> tuple[str, ...]:
        """The values that no output may show."""
        return (*self.users.values(), *self.tokens)

    @property
    def needs_login(self) -> bool:
        """Whether clients must log in."""
        return bool(self.users or self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class MppsSettings:
    """How complete scanners' reports (MPPS) must be (`lenient` or `strict`), and how long they wait for the writer.

    Attributes:
        own_only: Only the AE title that created a step may change and retrieve it.
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
    """For how many days what is kept; None keeps all.

    Attributes:
        audit_days: The audit log.
        runs_days: `sync_runs`.
        items_days: Items that no source gives, from their scheduled date.
        mpps_days: Scanners' reports, from their last change.
        access_days: The access log.
    """

    audit_days: int | None = None
    runs_days: int | None = 400
    items_days: int | None = None
    mpps_days: int | None = None
    access_days: int | None = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogServer:
    """Where audit messages are sent.

    Attributes:
        transport: `udp`, `tcp` or `tls`.
        ca: PEM file of the authorities whose server certificates count; None: those of the system. With `tls` only.
        certificate, key: PEM files of the certificate that is shown to the server; None: none is.
    """

    transport: str
    host: str
    port: int
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """This host among those that share a PostgreSQL database.

    Attributes:
        host: Its name.
        lease_s: A host without a sign of life for so long counts as dead, and others fetch its sources.
    """

    host: str = "localhost"
    lease_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """What is recorded of who was shown which patient.

    Attributes:
        log: Answers that show patients are stored in `access_log`.
        syslog: Audit messages go there; None: there are none.
    """

    log: bool = True
    syslog: SyslogServer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How log lines look (`text` or `json`) and from which level on they are written."""

    format: str = "text"
    level: str = "INFO"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where the database is read.

    Attributes:
        url: As `Settings.db_url`.
        read_url: As `Settings.db_read_url`.
        host: This host's name, which the server's administrator sees.
    """

    url: str = field(repr=False)
    read_url: str | None = field(default=None, repr=False)
    host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a run needs to know.

    Attributes:
        config_path: Absolute path of the configuration file.
        base_dir: Absolute folder that relative paths in the file (and in plugins) start from.
        db_url: SQLAlchemy URL; it may contain a password, so it is never logged.
        db_read_url: A URL that the database is read from first, likewise.
        runtime_dir: Absolute folder of sockets and locks.
        secret_env: The environment variables that hold a secret of any source or of anything else.
        http: None: nothing is served over HTTP.
        sources: In the order of priority, lowest number first; disabled ones included.
        warnings: What `check` says about a configuration that can be used.
    """

    config_path: str
    base_dir: str
    db_url: str = field(repr=False)
    db_read_url: str | None = field(default=None, repr=False)
    db_echo: bool = False
    runtime_dir: str
    secret_env: frozenset[str] = frozenset()
    dicom: DicomSettings = DicomSettings()
    http: HttpSettings | None = None
    mpps: MppsSettings = MppsSettings()
    deduplication: DeduplicationSettings = DeduplicationSettings()
    retention: RetentionSettings = RetentionSettings()
    access: AccessSettings = AccessSettings()
    cluster: ClusterSettings = ClusterSettings()
    log: LogSettings = LogSettings()
    plugin_dirs: tuple[str, ...] = ()
    sources: tuple[SourceSettings, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that no output may show."""
        of_sources = [secret for source in self.sources for secret in source.secrets]
        return (self.db_url, *(self.http.secrets if self.http else ()), *of_sources)

    @property
    def database(self) -> DatabaseSettings:
        """Where the database is read."""
        return DatabaseSettings(url=self.db_url, read_url=self.db_read_url, host=self.cluster.host)

    @property
    def enabled_sources(self) -> tuple[SourceSettings, ...]:
        """The sources that get a worker."""
        return tuple(source for source in self.sources if source.enabled)
