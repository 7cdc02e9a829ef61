"""What a configuration file may say: its keys, their form, their defaults and what each of them means.

Lives in the configuration check and in `pylantir schema`, never in a process that stays: pydantic is big.
Only form is decided here; what depends on other keys, on plugins or on the environment is in `sources`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from pylantir.config.messages import MANY, OBJECT, ONE
from pylantir.config.values import (
    AeTitle,
    Certificates,
    Charset,
    Codes,
    Constant,
    Count,
    DatabaseUrl,
    DateFormats,
    Days,
    Flag,
    LeaseSeconds,
    Meanings,
    Minutes,
    Name,
    Network,
    Networks,
    Number,
    Pattern,
    Port,
    Prefix,
    Seconds,
    Status,
    SyslogUrl,
    Text,
    TextFlag,
    Texts,
    TimeFormats,
    TimeOfDay,
    TimeZone,
    ValueFormats,
    Words,
    WorklistField,
    expected,
)
from pylantir.settings import EMPTY_VALUES, SERVED_STATUSES


class _Section(BaseModel):
    """An object of the file: strict about types, and keys that start with `_` are comments."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        json_schema_extra={"patternProperties": {"^_": {"description": "A comment."}}},
    )


class OperationInterval(_Section):
    """When a source may be asked, local time, both minutes included."""

    start_time: TimeOfDay = Field(default=[0, 0], description="First minute, as [hour, minute].")
    end_time: TimeOfDay = Field(
        default=[23, 59], description="Last minute, as [hour, minute]; one before the start crosses midnight."
    )


class OldExtract(_Section):
    """A regular expression as earlier versions wrote it."""

    pattern: Pattern = Field(description="Searched in the value.")
    group: Annotated[int, Field(ge=0, le=99), expected("a whole number >= 0")] = Field(
        default=1, description="Number of the group that counts; 0 is the whole match."
    )


class MappedField(_Section):
    """How one worklist field is made of a source's fields; `from` is needed, the rest is not."""

    from_: Texts | None = Field(
        default=None, alias="from", description="Source field, or a list of them; dotted paths reach into records."
    )
    join: Annotated[str, expected("text")] = Field(
        default=" ", description="Stands between the values of several fields; default: `^` for names, else a space."
    )
    extract: Pattern | None = Field(
        default=None, description="Regular expression; its first group is the value, else all that it finds."
    )
    values: Meanings | None = Field(
        default=None, description='Text → what it means, `null` for nothing; "*" is every text that is not listed.'
    )
    format: ValueFormats | None = Field(
        default=None, description='strptime format, or a list; "excel", "epoch", "epoch_ms" for numbers.'
    )
    empty: Words = Field(default=[], description="Texts that mean nothing here, besides `empty_values`.")
    labels: Flag = Field(default=False, description="true: coded answers (REDCap) are taken by their labels.")
    source_field: Texts | None = Field(default=None, description="The same as `from`.")
    extract_: OldExtract | None = Field(
        default=None, alias="_extract", description="The same as `extract`, with the number of the group."
    )


class NotListed(_Section):
    """A condition turned round."""

    not_: Words = Field(alias="not", description="Texts that the field may not have.")


def kind_of_value(value: object) -> str:
    """Tell the forms of a value apart, for messages that speak of the one that was meant."""
    if isinstance(value, dict | BaseModel):
        return OBJECT
    return MANY if isinstance(value, list) else ONE


Mapped = Annotated[
    Annotated[Text, Tag(ONE)]
    | Annotated[list[Text], Field(min_length=1), Tag(MANY)]
    | Annotated[MappedField, Tag(OBJECT)],
    Discriminator(kind_of_value),
]
Condition = Annotated[
    Annotated[Constant, Tag(ONE)] | Annotated[list[Constant], Tag(MANY)] | Annotated[NotListed, Tag(OBJECT)],
    Discriminator(kind_of_value),
]


def plain_mapping(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Give a `field_mapping` as it stands in the file."""
    return {
        name: said.model_dump(by_alias=True, exclude_unset=True) if isinstance(said, MappedField) else said
        for name, said in mapping.items()
    }


def plain_conditions(where: Mapping[str, Any]) -> dict[str, Any]:
    """Give the conditions of `where` as they stand in the file."""
    return {name: {"not": said.not_} if isinstance(said, NotListed) else said for name, said in where.items()}


class Source(_Section):
    """One data source."""

    name: Name = Field(description="What the source is called everywhere; unique, 1-255 characters.")
    type: Text = Field(
        description="`csv`, `json`, `redcap`, `sql`, or the type of a plugin; `pylantir plugins` lists them."
    )
    enabled: Flag = Field(default=True, description="false: the source gets no process and only its form is checked.")
    sync_interval: Seconds = Field(default=60, description="Seconds from the start of one fetch to the next, >= 1.")
    operation_interval: OperationInterval = Field(
        default=OperationInterval(), description="When the source may be asked."
    )
    timezone: TimeZone | None = Field(
        default=None,
        description="IANA time zone of `operation_interval`, and of the worklist: values with another offset are "
        "converted to it; default: the machine's.",
    )
    config: dict[str, Any] = Field(default={}, description="What the source type itself needs: files, URLs, variables.")
    field_mapping: dict[str, Mapped] = Field(
        default={},
        description="Source field → worklist field, or a list of them; or worklist field → how it is made.",
    )
    defaults: dict[str, Constant] = Field(
        default={}, description="Worklist field → constant, used where a record has no value."
    )
    priority: Number | None = Field(
        default=None,
        description="The lower number wins where sources differ; default: the position in the list, from 0.",
    )
    missing_entries: Annotated[Literal["cancel", "keep"], expected('"cancel" or "keep"')] = Field(
        default="cancel",
        description='What becomes of an entry that the source no longer gives: "cancel" or "keep".',
    )
    fetch_timeout: Seconds = Field(
        default=300,
        description="Seconds that a plugin may work without giving an entry before it counts as hung.",
    )
    max_memory_mb: Count | None = Field(
        default=None,
        description="MiB of memory over which the process is replaced after its fetch, and killed at twice as much.",
    )
    max_restarts: Count | None = Field(
        default=None,
        description="Restarts after which `status` and the log remark on them; the source is never given up.",
    )
    date_format: DateFormats | None = Field(
        default=None,
        description='strptime format of the source\'s dates, or a list, beside ISO and DICOM: "%d.%m.%Y".',
    )
    time_format: TimeFormats | None = Field(
        default=None,
        description='strptime format of the source\'s times, or a list, beside ISO and DICOM: "%I:%M %p".',
    )
    empty_values: Words = Field(
        default=list(EMPTY_VALUES), description="Texts that mean nothing, in every field of the source."
    )
    unusable_values: Annotated[Literal["omit", "reject"], expected('"omit" or "reject"')] = Field(
        default="omit",
        description='What becomes of an unusable value that neither identity nor date depend on: "omit" leaves it out '
        'with a warning, "reject" refuses the record.',
    )
    where: dict[str, Condition] = Field(
        default={},
        description='Source field → text, or list of texts, that a record has to have there; {"not": […]} turns it '
        "round. Other records are left out.",
    )
    patient_id_prefix: Prefix = Field(default="", description="Stands before each patient ID of the source.")
    issuer_of_patient_id: Annotated[str, StringConstraints(max_length=64), expected("1-64 characters")] = Field(
        default="", description="Who gave the source's patient IDs, where its records do not say."
    )


class Tls(_Section):
    """Encrypted connections, and who may make them."""

    certificate: Text = Field(description="PEM file with our certificate, intermediate ones behind it.")
    key: Text = Field(description="PEM file with its key, not encrypted; readable for nobody else, best.")
    ca: Text | None = Field(default=None, description="PEM file of the authorities whose client certificates count.")
    require_client_certificate: Flag = Field(
        default=False, description="true: refuse scanners that show no certificate signed by `ca`."
    )


class Dicom(_Section):
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


class HttpTls(_Section):
    """Encrypted HTTP."""

    certificate: Text = Field(description="PEM file with the certificate, intermediate ones behind it.")
    key: Text = Field(description="PEM file with its key, not encrypted; readable for nobody else, best.")


class HttpUser(_Section):
    """Somebody who may log in."""

    password_env: Text = Field(
        description="Environment variable that holds the password, or its hash as `scrypt$…` (see the how-to)."
    )


class Http(_Section):
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


class Mwl(_Section):
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


class Scanner(_Section):
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


class Deduplication(_Section):
    """When two sources' records are one step though neither accession number nor study UID says so."""

    match_on: list[WorklistField] = Field(
        default=["patient_id", "scheduled_start_date", "modality"],
        min_length=1,
        description="Worklist fields that have to be equal.",
    )
    max_minutes: Minutes | None = Field(
        default=240,
        description="Largest difference of the start times in minutes; null for any. Without it 240, and 120 from an "
        "exam that a scanner has started or done.",
    )


class Mpps(_Section):
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


class Retention(_Section):
    """After how many days history is forgotten."""

    audit_days: Days | None = Field(default=None, description="Days that the audit log is kept; default: for ever.")
    runs_days: Days | None = Field(
        default=400, description="Days that `sync_runs` is kept, besides each source's last run; null: for ever."
    )
    items_days: Days | None = Field(
        default=None,
        description="Days that an item is kept which no source gives, from its scheduled date; default: for ever.",
    )
    mpps_days: Days | None = Field(
        default=None,
        description="Days that a report is kept, from its last change, without changing items; default: for ever.",
    )
    access_days: Days | None = Field(default=90, description="Days that the access log is kept; null: for ever.")


class SyslogTls(_Section):
    """Files for audit messages over TLS."""

    ca: Text | None = Field(
        default=None, description="PEM file of the authorities whose server certificates count; default: the system's."
    )
    certificate: Text | None = Field(default=None, description="PEM file with the certificate to show to the server.")
    key: Text | None = Field(default=None, description="PEM file with its key, not encrypted.")


class Access(_Section):
    """Who was shown which patient."""

    log: Flag = Field(default=True, description="Record each answer that shows patients in the table `access_log`.")
    syslog: SyslogUrl | None = Field(
        default=None,
        description="Send DICOM audit messages to this syslog server: udp://HOST, tcp://HOST or tls://HOST, with :PORT "
        "where it is not 514, 601 or 6514.",
    )
    tls: SyslogTls | None = Field(default=None, description="Files for a `tls://` server.")


class Cluster(_Section):
    """This host among those that share a PostgreSQL database."""

    host: Name | None = Field(
        default=None, description="This host's name, of its own in the database; default: the machine's name."
    )
    lease_s: LeaseSeconds = Field(
        default=5, description="After so many seconds without a sign of life, other hosts fetch this host's sources."
    )


class Log(_Section):
    """The log."""

    format: Annotated[Literal["text", "json"], expected('"text" or "json"')] = Field(
        default="text", description='"text" for people, "json" for machines: one line per event either way.'
    )
    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], expected('"DEBUG", "INFO", "WARNING" or "ERROR"')
    ] = Field(default="INFO", description="The least important level that is written.")


class Configuration(_Section):
    """The configuration of Pylantir."""

    model_config = ConfigDict(extra="ignore")

    schema_: Any = Field(default=None, alias="$schema", description="Where an editor finds the schema of this file.")
    db_path: Text | None = Field(
        default=None,
        description="SQLite file; default `worklist.db` in `$STATE_DIRECTORY`, else beside this file.",
    )
    db_url: DatabaseUrl | None = Field(
        default=None, description="SQLAlchemy URL of the database, instead of `db_path`."
    )
    db_url_env: Text | None = Field(
        default=None,
        description="Environment variable that holds the URL, so that its password stays out of the file.",
    )
    db_read_url: DatabaseUrl | None = Field(
        default=None,
        description="SQLAlchemy URL that the database is read from first, such as a standby's, with `db_url`.",
    )
    db_echo: TextFlag = Field(
        default=False, description="true: log every SQL statement, without its values; for tests."
    )
    runtime_dir: Text | None = Field(
        default=None,
        description="Folder of sockets and locks, this user's alone; default: a folder of the login session.",
    )
    dicom: Dicom = Field(default=Dicom(), description="Where and as whom the worklist is served.")
    http: Http | None = Field(default=None, description="Pages, DICOMweb and metrics over HTTP; default: none.")
    allowed_aet: list[AeTitle] = Field(
        default=[], description="AE titles of the scanners that are served; an empty list serves everybody."
    )
    allowed_hosts: list[Network] = Field(
        default=[], description="Addresses and networks that may connect; an empty list lets everybody."
    )
    modalities: list[Scanner] = Field(default=[], description="How single scanners are served.")
    mwl: Mwl = Field(default=Mwl(), description="Which items of the worklist are served.")
    plugin_dirs: list[Text] = Field(default=["plugins"], description="Folders that are searched for plugin files.")
    data_sources: list[Source] = Field(default=[], description="The sources of the worklist; at least one.")
    mpps: Mpps = Field(default=Mpps(), description="What scanners' reports (MPPS) have to hold.")
    deduplication: Deduplication = Field(
        default=Deduplication(), description="When records of two sources are the same scheduled step."
    )
    retention: Retention = Field(default=Retention(), description="How long history is kept.")
    access: Access = Field(default=Access(), description="What is recorded of who was shown which patient.")
    cluster: Cluster = Field(default=Cluster(), description="This host among those that share the database.")
    log: Log = Field(default=Log(), description="How log lines look.")
    legacy_mode: Flag = Field(default=False, description="true: use the old keys below and ignore `data_sources`.")
    redcap2wl: Any = Field(default=None, description="Old: REDCap field → worklist field; now `field_mapping`.")
    site: Any = Field(default=None, description="Old: the site's number; now `config.site_id`.")
    protocol: Any = Field(default=None, description="Old: protocol name by site; now `config.protocol`.")
    db_update_interval: Any = Field(default=None, description="Old: seconds between fetches; now `sync_interval`.")
    operation_interval: Any = Field(default=None, description="Old: when REDCap may be asked; now in the source.")
    mri_visit_session_mapping: Any = Field(default=None, description="Old: accepted, without effect.")
    users_db_path: Any = Field(default=None, description="Old: accepted, without effect.")
    api: Any = Field(default=None, description="Old: accepted, without effect.")


def configuration_schema() -> dict[str, Any]:
    """Describe the configuration file as a JSON Schema (draft 2020-12), for editors and `pylantir schema`."""
    schema = Configuration.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
