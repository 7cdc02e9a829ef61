"""The whole file, and what concerns the whole installation: the database, its history, its hosts and the log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from pylantir.config.models.section import Section
from pylantir.config.models.serving import Dicom, Http, Mpps, Mwl, Scanner
from pylantir.config.models.source import Source
from pylantir.config.values import (
    AeTitle,
    DatabaseUrl,
    Days,
    Flag,
    LeaseSeconds,
    Minutes,
    Name,
    Network,
    SyslogUrl,
    Text,
    TextFlag,
    WorklistField,
    expected,
)


class Deduplication(Section):
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


class Retention(Section):
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


class SyslogTls(Section):
    """Files for audit messages over TLS."""

    ca: Text | None = Field(
        default=None, description="PEM file of the authorities whose server certificates count; default: the system's."
    )
    certificate: Text | None = Field(default=None, description="PEM file with the certificate to show to the server.")
    key: Text | None = Field(default=None, description="PEM file with its key, not encrypted.")


class Access(Section):
    """Who was shown which patient."""

    log: Flag = Field(default=True, description="Record each answer that shows patients in the table `access_log`.")
    syslog: SyslogUrl | None = Field(
        default=None,
        description="Send DICOM audit messages to this syslog server: udp://HOST, tcp://HOST or tls://HOST, with :PORT "
        "where it is not 514, 601 or 6514.",
    )
    tls: SyslogTls | None = Field(default=None, description="Files for a `tls://` server.")


class Cluster(Section):
    """This host among those that share a PostgreSQL database."""

    host: Name | None = Field(
        default=None, description="This host's name, of its own in the database; default: the machine's name."
    )
    lease_s: LeaseSeconds = Field(
        default=5,
        description="After so many seconds without a sign of life, others fetch this host's sources; at most 86400.",
    )


class Log(Section):
    """The log."""

    format: Annotated[Literal["text", "json"], expected('"text" or "json"')] = Field(
        default="text", description='"text" for people, "json" for machines: one line per event either way.'
    )
    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], expected('"DEBUG", "INFO", "WARNING" or "ERROR"')
    ] = Field(default="INFO", description="The least important level that is written.")


class Configuration(Section):
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
