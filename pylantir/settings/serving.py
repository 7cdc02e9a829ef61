"""What scanners and browsers get, who of them gets it, and over which connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pylantir.certificates import WantedCertificate

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
