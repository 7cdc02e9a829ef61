"""Everything that a run needs to know: the database, its history, its hosts, the log, the servers and the sources."""

from __future__ import annotations

from dataclasses import dataclass, field

from pylantir.settings.serving import DicomSettings, HttpSettings, MppsSettings
from pylantir.settings.source import SourceSettings


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
    dicom: DicomSettings = field(default_factory=DicomSettings)
    http: HttpSettings | None = None
    mpps: MppsSettings = field(default_factory=MppsSettings)
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
        return (self.db_url, self.db_read_url or "", *(self.http.secrets if self.http else ()), *of_sources)

    @property
    def database(self) -> DatabaseSettings:
        """Where the database is read."""
        return DatabaseSettings(url=self.db_url, read_url=self.db_read_url, host=self.cluster.host)

    @property
    def enabled_sources(self) -> tuple[SourceSettings, ...]:
        """The sources that get a worker."""
        return tuple(source for source in self.sources if source.enabled)
