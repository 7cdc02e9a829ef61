"""The triggers that make the audit log append-only, for SQLite and PostgreSQL."""

from __future__ import annotations

from sqlalchemy import Connection, text

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
_ALLOW = {"sqlite": "DROP TRIGGER audit_log_delete", "postgresql": "DROP TRIGGER audit_log_delete ON audit_log"}


def forbid_changes(connection: Connection) -> None:
    """Make the database refuse every change or deletion of a row of the audit log."""
    for event in ("update", "delete"):
        for statement in _FORBID[connection.dialect.name]:
            connection.execute(text(statement.format(event=event)))


def allow_deletion(connection: Connection) -> None:
    """Let this transaction delete rows that the configuration does not keep; call `forbid_changes` afterwards."""
    connection.execute(text(_ALLOW[connection.dialect.name]))
