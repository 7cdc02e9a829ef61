"""The tables of the worklist database, for SQLite and PostgreSQL alike.

`worklist_items` keeps the columns of earlier versions, so that their files open; what came later is nullable or has a
default. Times of events are ISO 8601 text in UTC with microseconds; clinical dates and times are in DICOM form.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    column,
    event,
    text,
)  # fmt: skip
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from pylantir.entry import ATTRIBUTES_FIELD, RECORD_FIELDS, WORKLIST_FIELDS

_COUNTED = BigInteger().with_variant(Integer, "sqlite")
"""Numbers of rows that come with each fetch or answer, for ever: PostgreSQL's INTEGER may end after some years."""
NOT_LIVE = text("state <> 'live'")
"""The condition of the index of claims that are not settled; a query must use exactly this text."""

SPECIAL_NAME = "(instr(patient_name, '=') > 0 OR length(CAST(patient_name AS BLOB)) <> length(patient_name))"
"""Names with several groups, or whose letter case SQL cannot compare; a query must use exactly this text."""
SPECIAL_NAME_POSTGRESQL = "(strpos(patient_name, '=') > 0 OR octet_length(patient_name) <> length(patient_name))"

metadata = MetaData()


class lower_ascii(FunctionElement[str]):  # noqa: N801 - used as `func.lower` is
    """The text with its ASCII letters in lower case, whatever the database's language: in Turkish I is no capital i."""

    inherit_cache = True
    name = "lower"
    type = Text()


@compiles(lower_ascii)
def _write_lower(element: lower_ascii, compiler: SQLCompiler, **options: Any) -> str:
    return f"lower({compiler.process(element.clauses, **options)})"


@compiles(lower_ascii, "postgresql")
def _write_lower_postgresql(element: lower_ascii, compiler: SQLCompiler, **options: Any) -> str:
    return f'lower({compiler.process(element.clauses, **options)} COLLATE "C")'


def _partial_index(name: str, *columns: str, where: ColumnElement[bool] | TextClause) -> Index:
    """An index of some rows. Named for SQLite only: SQLAlchemy loads whatever dialect is named, in every process."""
    return Index(name, *columns, sqlite_where=where)


@event.listens_for(metadata, "before_create")
def _limit_indexes(_target: MetaData, connection: Connection, **_options: object) -> None:
    """Let indexes that are partial in SQLite be partial in PostgreSQL, and one of names find their beginnings there."""
    if connection.dialect.name == "postgresql":
        for table in metadata.tables.values():
            for index in table.indexes:
                where = index.dialect_options["sqlite"]["where"]
                is_special = index.name == "ix_worklist_items_special_name"
                options = index.dialect_options["postgresql"]
                options["where"] = text(SPECIAL_NAME_POSTGRESQL) if is_special else where
                if index.name == "ix_worklist_items_name":
                    options["ops"] = {"folded": "text_pattern_ops"}


worklist_items = Table(
    "worklist_items",
    metadata,
    Column("id", Integer, primary_key=True),
    *(Column(name, Text) for name in WORKLIST_FIELDS),
    Column("data_source", Text, comment="the source that owns the item"),
    Column("source_record_id", Text),
    Column(ATTRIBUTES_FIELD, Text),
    # The UID that Pylantir made; it still links a scanner's report after a source supplied another one.
    Column("generated_study_uid", Text),
    # 1 once a scanner has reported on the item: from then on its status and its fields are the scanner's.
    Column("scanner_touched", Integer, nullable=False, server_default=text("0")),
    Column("exam_ended_on", Text, comment="when the exam was done, YYYYMMDD, as the scanner reported"),
    # UIDs that sources supplied earlier and no longer do, as JSON: a scanner may have read them. Also the generated one
    # of an item that has moved to another patient ID.
    Column("former_study_uids", Text),
    Column("created_at", Text),
    Column("updated_at", Text),
    Index("ix_worklist_items_patient", "patient_id"),
    # The station is there so that of one day only one scanner's rows need be read.
    Index("ix_worklist_items_start", "scheduled_start_date", "scheduled_start_time", "scheduled_station_aetitle"),
    # Generated UIDs have no order, so an index of them would cost as much as all others together. A query for a
    # generated UID also gives the patient; see `has_study_uid`.
    _partial_index(
        "ix_worklist_items_supplied_uid",
        "study_instance_uid",
        where=column("study_instance_uid").is_distinct_from(column("generated_study_uid")),
    ),
    _partial_index("ix_worklist_items_started", "study_instance_uid", where=text("scanner_touched = 1")),
    _partial_index("ix_worklist_items_moved", "generated_study_uid", where=text("former_study_uids IS NOT NULL")),
    _partial_index("ix_worklist_items_accession", "accession_number", where=text("accession_number IS NOT NULL")),
    # Scanners search for the beginning of a name and ignore letter case.
    Index("ix_worklist_items_name", lower_ascii(column("patient_name")).label("folded")),
    _partial_index("ix_worklist_items_special_name", "id", where=text(SPECIAL_NAME)),
)
"""One row per scheduled procedure step: what a scanner sees."""

source_entries = Table(
    "source_entries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("data_source", Text, nullable=False),
    Column("record_key", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("item_id", Integer),
    Column("first_seen_at", Text, nullable=False),
    Column("changed_at", Text, nullable=False),
    Column("withdrawn_at", Text),
    # Since when, and in how many complete snapshots, a live record has been missing while it was held back.
    Column("held_since", Text),
    Column("held_times", Integer, nullable=False, server_default=text("0")),
    *(Column(name, Text, nullable=name != "patient_id") for name in RECORD_FIELDS),
    UniqueConstraint("data_source", "record_key"),
    # Few rows are in it, and those that are have to be found among very many.
    _partial_index("ix_source_entries_unsettled", "data_source", "state", where=NOT_LIVE),
    _partial_index("ix_source_entries_held", "data_source", where=text("held_since IS NOT NULL")),
    Index("ix_source_entries_patient", "patient_id"),
    # An item that is done keeps its patient ID when its records get another one.
    Index("ix_source_entries_item", "item_id"),
    _partial_index("ix_source_entries_accession", "accession_number", where=text("accession_number IS NOT NULL")),
    _partial_index("ix_source_entries_study", "study_instance_uid", where=text("study_instance_uid IS NOT NULL")),
)
"""One row per record of a source. A withdrawn record keeps its row, so that it finds its item when it returns."""

rejected_entries = Table(
    "rejected_entries",
    metadata,
    Column("id", _COUNTED, primary_key=True),
    Column("data_source", Text, nullable=False),
    Column("record_key", Text, nullable=False),
    Column("field", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("first_seen_at", Text, nullable=False),
    Column("last_seen_at", Text, nullable=False),
    Column("times_seen", Integer, nullable=False),
    Column("patient_id", Text),
    Column("other_item", Integer, comment="the item of another patient that is in the way"),
    Column("other_patient_id", Text),
    Column("other_source", Text),
    UniqueConstraint("data_source", "record_key"),
)
"""Quarantine: records that could not become a worklist item, and why; a row goes when its record is corrected."""

source_warnings = Table(
    "source_warnings",
    metadata,
    Column("id", _COUNTED, primary_key=True),
    Column("data_source", Text, nullable=False),
    Column("field", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("last_seen_at", Text, nullable=False),
    UniqueConstraint("data_source", "field", "reason"),
)
"""Warnings about left-out or changed values of accepted records: one row per source, field and reason."""

sync_runs = Table(
    "sync_runs",
    metadata,
    Column("id", _COUNTED, primary_key=True),
    Column("data_source", Text, nullable=False),
    Column("started_at", Text, nullable=False),
    Column("finished_at", Text, nullable=False, comment="the moment of the last COMMIT"),
    Column("fetched", Integer, nullable=False),
    Column("inserted", Integer, nullable=False),
    Column("updated", Integer, nullable=False),
    Column("unchanged", Integer, nullable=False),
    Column("cancelled", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    Column("complete", Integer, nullable=False, comment="1: a whole snapshot, whose removals were applied"),
    Column("error", Text),
    Index("ix_sync_runs_source", "data_source", "id"),
)
"""One row per finished cycle of a source."""

conflicts = Table(
    "conflicts",
    metadata,
    Column("id", _COUNTED, primary_key=True),
    Column("patient_id", Text, nullable=False),
    Column("kind", Text, nullable=False, comment="kept_apart, differs or wish"),
    Column("items", Text, nullable=False, comment="JSON: numbers of the items"),
    Column("sources", Text, nullable=False, comment="JSON: who disagrees, the one that counts first"),
    Column("records", Text, nullable=False, comment="JSON: the keys of their records"),
    Column("fields", Text, nullable=False, comment="JSON: field -> the value that does not count"),
    Column("since", Text, nullable=False),
    Column("other_patient_id", Text, comment="the other item's, if a source has corrected the patient ID"),
    Index("ix_conflicts_patient", "patient_id"),
    _partial_index("ix_conflicts_other_patient", "other_patient_id", where=text("other_patient_id IS NOT NULL")),
)
"""What the sources do not agree about now; a row goes when the difference is gone."""

source_states = Table(
    "source_states",
    metadata,
    Column("data_source", Text, primary_key=True),
    Column("cycle", Text, comment="the cycle in progress, NULL between cycles"),
    Column("started_at", Text),
    Column("last_seq", Integer, nullable=False, comment="number of the last committed frame of the cycle"),
    Column("counts", Text, nullable=False, comment="JSON: what the committed frames of the cycle did"),
    Column(
        "held",
        Text,
        comment="JSON: how many removals wait for an operator's word, or for their time",
    ),
    Column("mark", Text, comment="a new random text with each commit of the source"),
)
"""The progress of each source's cycle, so that a new writer continues where its predecessor ended."""

cluster_hosts = Table(
    "cluster_hosts",
    metadata,
    Column("host", Text, primary_key=True),
    Column("instance", Text, nullable=False, comment="the run of the program there"),
    Column("alive_at", Float, comment="the last sign of life, seconds by the server's clock; NULL: ended in order"),
    Column("lease_s", Float, nullable=False, comment="how long that sign lasts"),
    Column("session", Integer, comment="the server's process for its writer; NULL behind a pooler"),
    Column("server", Text, comment="when that server was started"),
    Column("mark", Text, nullable=False, comment="a new random text with each sign of life"),
    Column("matching", Text, comment="of the rules by which it recognises records of one exam"),
)
"""The hosts that share the database, with PostgreSQL only."""

cluster_sources = Table(
    "cluster_sources",
    metadata,
    Column("host", Text, primary_key=True),
    Column("data_source", Text, primary_key=True),
    Column("priority", Float, nullable=False),
    Column("enabled", Integer, nullable=False),
    Column("digest", Text, nullable=False, comment="of what decides how the source is read"),
)
"""What each host's configuration says about its sources."""

source_leases = Table(
    "source_leases",
    metadata,
    Column("data_source", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("instance", Text, nullable=False),
    Column("epoch", Integer, nullable=False, comment="grows each time that the lease is taken"),
)
"""Which host fetches which source, with PostgreSQL only."""

store_facts = Table(
    "store_facts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""The priorities and the matching rule by which the stored items were decided, and the version of `cluster_sources`."""

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", _COUNTED, primary_key=True),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False, comment="source:NAME, scanner:AE or command:NAME"),
    Column("action", Text, nullable=False),
    Column("item_id", Integer),
    Column("patient_id", Text),
    Column("changes", Text, nullable=False, comment="JSON: field -> [from, to]"),
    Column("host", Text, comment="the host that wrote it"),
    Index("ix_audit_log_item", "item_id"),
)
"""Append-only: who did what to which item, when, from what to what."""

done_exams = Table(
    "done_exams",
    metadata,
    Column("item_id", Integer, primary_key=True, autoincrement=False),
    Column("patient_hash", Text, primary_key=True, comment="keyed hash of the patient ID"),
    Column("study_instance_uid", Text, nullable=False),
    Column("accession_number", Text),
    Column("ended_on", Text, nullable=False, comment="YYYYMMDD"),
    Column("at", Text, nullable=False, comment="when the item was deleted"),
    Column("issuer_of_patient_id", Text),
    Index("ix_done_exams_patient", "patient_hash"),
)
"""Completed items that were deleted, under each patient ID that they had: an exam that is listed again is not open."""

mpps_instances = Table(
    "mpps_instances",
    metadata,
    Column("sop_instance_uid", Text, primary_key=True),
    Column("status", Text, nullable=False, comment="IN PROGRESS, COMPLETED or DISCONTINUED"),
    Column("scanner", Text, nullable=False, comment="AE title that created it"),
    Column("patient_id", Text),
    Column("item_ids", Text, nullable=False, comment="JSON: the worklist items that it was done for"),
    Column("attributes", Text, nullable=False, comment="JSON: the DICOM JSON model"),
    Column("created_at", Text, nullable=False),
    Column("updated_at", Text, nullable=False),
    Index("ix_mpps_instances_patient", "patient_id"),
)
"""One row per performed procedure step that a scanner has reported."""

mpps_requests = Table(
    "mpps_requests",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("answer", Text, nullable=False, comment="JSON"),
    Column("at", Text, nullable=False),
)
"""The answers to recent reports, so that a repeat after a lost acknowledgement gets the same answer."""

access_log = Table(
    "access_log",
    metadata,
    Column("id", _COUNTED, primary_key=True),
    Column("at", Text, nullable=False),
    Column("last_at", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("service", Text, nullable=False, comment="C-FIND, N-GET, page, DICOMweb or command NAME"),
    Column("address", Text),
    Column("peer", Text, comment="AE title, web user or the machine's user"),
    Column("certificate", Text, comment="subject of the certificate that the peer showed"),
    Column("asked", Text, nullable=False, comment="keys of the question, never values"),
    Column("status", Text, nullable=False),
    Column("matches", Integer, nullable=False),
    Column("item_ids", Text, nullable=False, comment="JSON: the items that were shown"),
)
"""Who was shown which items: one row per answer; the same answer again within an hour is counted in its row."""
