"""Adds lines to the audit log, and has the triggers that make it append-only, for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

from pylantir.store.schema.bulk import insert_rows
from pylantir.store.schema.engine import host_of
from pylantir.store.schema.tables import audit_log

_FORBID = {
    "sqlite": (
        """CREATE TRIGGER IF NOT EXISTS audit_log_{event} BEFORE {event} ON audit_log
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    ),
    "postgresql": (
        """CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$""",
        """CREATE OR REPLACE TRIGGER audit_log_{event} BEFORE {event} ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()""",
    ),
}
_ALLOW = {"sqlite": "DROP TRIGGER audit_log_{event}", "postgresql": "DROP TRIGGER audit_log_{event} ON audit_log"}


def add_lines(connection: Connection, lines: Sequence[Mapping[str, object]]) -> None:
    """Add lines to the audit log; each names the host that writes it."""
    host = host_of(connection)
    insert_rows(connection, audit_log, [{**line, "host": host} for line in lines])


def forbid_changes(connection: Connection) -> None:
    """Make the database refuse every change or deletion of a row of the audit log."""
    for event in ("update", "delete"):
        for statement in _FORBID[connection.dialect.name]:
            connection.execute(text(statement.format(event=event)))


def allow_deletion(connection: Connection) -> None:
    """Let this transaction delete rows that the configuration does not keep; call `forbid_changes` afterwards."""
    connection.execute(text(_ALLOW[connection.dialect.name].format(event="delete")))


def allow_changes(connection: Connection) -> None:
    """Let this transaction delete and change rows about a patient who is erased; call `forbid_changes` afterwards."""
    for event in ("update", "delete"):
        connection.execute(text(_ALLOW[connection.dialect.name].format(event=event)))
