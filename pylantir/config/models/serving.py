"""What scanners and browsers get: the two servers, the worklist that they show, and scanners' reports."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pylantir.config.models.section import Section
from pylantir.config.values import (
    AeTitle,
    Certificates,
    Charset,
    Codes,
    Count,
    Days,
    Flag,
    Networks,
    Port,
    Seconds,
    Status,
    Text,
    expected,
)
from pylantir.settings import SERVED_STATUSES


class Tls(Section):
    """Encrypted connections, and who may make them."""

    certificate: Text = Field(description="PEM file with our certificate, intermediate ones behind it.")
    key: Text = Field(description="PEM file with its key, not encrypted; readable for nobody else, best.")
    ca: Text | None = Field(default=None, description="PEM file of the authorities whose client certificates count.")
    require_client_certificate: Flag = Field(
        default=False, description="true: refuse scanners that show no certificate signed by `ca`."
    )


class Dicom(Section):
    """The DICOM server."""

    ae_title: AeTitle = Field(default="PYLANTIR", description="Our application entity title, 1-16 characters.")
    host: Text = Field(
        default="0.0.0.0",  # noqa: S104 - a scanner is another machine
        description="Address to listen on; 0.0.0.0 is every IPv4 interface.",
    )
    port: Port = Field(default=4242, description="TCP port to listen on.")
    check_called_aet: Flag = Field(
        default=False, description="true: refuse associations that call another AE title than `ae_title`."
    )
    max_associations: Count = Field(default=100, description="Associations at one time.")
    max_associations_per_host: Count = Field(default=20, description="Associations at one time from one host.")
    idle_timeout: Seconds = Field(
        default=60, description="Seconds without any message after which an association is ended, >= 1."
    )
    tls: Tls | None = Field(default=None, description="Serve over TLS; default: unencrypted.")


class HttpTls(Section):
    """Encrypted HTTP."""

    certificate: Text = Field(description="PEM file with the certificate, intermediate ones behind it.")
    key: Text = Field(description="PEM file with its key, not encrypted; readable for nobody else, best.")


class HttpUser(Section):
    """Somebody who may log in."""

    password_env: Text = Field(
        description="Environment variable that holds the password, or its hash as `scrypt$…` (see the how-to)."
    )


class Http(Section):
    """Pages, DICOMweb and metrics; without this section there is no such process."""

    host: Text = Field(
        default="127.0.0.1", description="Address to listen on; any but this machine's own needs a login and TLS."
    )
    port: Port = Field(default=4280, description="TCP port to listen on.")
    users: dict[str, HttpUser] = Field(default={}, description="Name → where the password is.")
    tokens_env: list[Text] = Field(
        default=[], description="Environment variables that hold a bearer token each, for programs."
    )
    tls: HttpTls | None = Field(default=None, description="Serve over TLS; default: unencrypted.")
    behind_proxy: Flag = Field(
        default=False, description="true: a proxy in front of it encrypts, and says in X-Forwarded-* who asks."
    )
    pages: Flag = Field(default=True, description="Serve pages for people.")
    dicomweb: Flag = Field(default=True, description="Serve the worklist and MPPS by DICOMweb.")
    metrics: Flag = Field(default=True, description="Serve `/metrics` for Prometheus.")


class Mwl(Section):
    """What scanners get to see."""

    serve_statuses: list[Status] = Field(
        default=list(SERVED_STATUSES),
        min_length=1,
        description="Statuses of the items that a query gets which names none.",
    )
    expire_after_days: Days | None = Field(
        default=None, description="Items that started more days ago are not served; default: served for ever."
    )
    days_ahead: Days | None = Field(
        default=None, description="Items that start more days from today are not served; default: all are."
    )
    when_too_many: Annotated[Literal["truncate", "fail"], expected('"truncate" or "fail"')] = Field(
        default="truncate",
        description='A query with more matches than `max_answers`: "truncate" sends so many, "fail" reports A700.',
    )


class Scanner(Section):
    """How one scanner is served; the AE title `*` stands for all that have no entry of their own."""

    ae_title: AeTitle = Field(description="The scanner's AE title, or `*`: what holds where a scanner says nothing.")
    host: Networks | None = Field(
        default=None, description="Its address or network, or a list of them: from elsewhere it is refused."
    )
    charset: Charset | None = Field(
        default=None, description="Its character set, or a list of them; default: UTF-8 where ASCII does not do."
    )
    only_own_station: Flag | None = Field(
        default=None, description="true: it gets items that are planned for its AE title or for no station."
    )
    modality: Codes | None = Field(default=None, description="It gets items of this modality, or of these.")
    max_answers: Count | None = Field(default=None, description="The most answers that it takes to one query.")
    certificate: Certificates | None = Field(
        default=None,
        description="Its client certificate, or a list: SHA-256 fingerprint or RFC 4514 subject. Needs `dicom.tls.ca`.",
    )
    required_empty: Flag | None = Field(
        default=None, description="false: attributes without a value are left out of its answers, not sent empty."
    )
    user: Text | None = Field(default=None, description="User of `http` who asks as this scanner over DICOMweb.")


class Mpps(Section):
    """What scanners report about their work (MPPS)."""

    mode: Annotated[Literal["lenient", "strict"], expected('"lenient" or "strict"')] = Field(
        default="lenient",
        description=(
            '"lenient" forgives what is missing in a report, or odd without deciding anything, and logs it; '
            '"strict" refuses it.'
        ),
    )
    timeout: Seconds = Field(
        default=10, description="Seconds that a report waits for the database before the scanner is told to try again."
    )
    own_only: Flag = Field(
        default=False, description="true: a step is changed and retrieved only by the AE title that created it (0124)."
    )
