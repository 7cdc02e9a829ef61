"""The one lock of all writers of a PostgreSQL database: how it is taken, kept in long work, taken from a frozen writer.

A transaction of a writer begins with it, see `engine.open_for_writing`. Its end frees it.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection, text

WRITERS_LOCK = 0x70796C616E746972
"""The key of the advisory lock: "pylantir" in ASCII."""
WRITER_TIMEOUT_MS = 2000
"""The writer tries again after this; between attempts it gives a sign of life and notices a stop."""
IDLE_S = 30.0
"""PostgreSQL ends a writing transaction after so long without a statement: its writer is frozen or cut off."""
_WAITS_MS_PER_S = 400
"""So much of the time of a lease the writer waits for a table that is locked: no other host may take it for dead."""
LIFE_SIGN_EVERY_S = 0.5
# What waits for a standby in the server's own setting goes on doing so.
_DURABLE = (
    ", set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') "
    "THEN 'on' ELSE current_setting('synchronous_commit') END, true)"
)
_LOOK_AT_HOLDER = text("""
    SELECT still_s, still_s >= :limit_s AND pg_terminate_backend(pid) AS is_ended
    FROM (
        SELECT session.pid, EXTRACT(EPOCH FROM clock_timestamp() - session.state_change)::double precision AS still_s
        FROM pg_locks AS held JOIN pg_stat_activity AS session ON session.pid = held.pid
        WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
            AND (held.classid::bigint << 32) + held.objid::bigint = :lock
            AND session.datname = current_database() AND session.usename = current_user
            AND session.wait_event IN ('ClientRead', 'ClientWrite')
    ) AS holder
""")


def lock_statements(answer_s: float, idle_s: float, *, durable: bool) -> tuple[str, str]:
    """Return the statement that sets limits for this transaction, and the one that takes the lock.

    The limits are set each time, because a pooler may give every transaction another session. They are two statements,
    because the server goes on counting its default time for a statement that has begun. Neither gives rows: in a
    pipelined transaction the first query brings their outcome.

    Args:
        answer_s: The longest time for a statement.
        idle_s: The longest time without a statement.
        durable: The COMMIT also survives a power cut.
    """
    limits = (
        f"set_config('statement_timeout', '{answer_s * 1000:.0f}', true), "
        f"set_config('lock_timeout', '{min(WRITER_TIMEOUT_MS, idle_s * _WAITS_MS_PER_S):.0f}', true), "
        f"set_config('idle_in_transaction_session_timeout', '{idle_s * 1000:.0f}', true), "
        f"set_config('extra_float_digits', '1', true){_DURABLE if durable else ''}"
    )
    return (
        f"DO $$ BEGIN PERFORM {limits}; END $$",
        f"DO $$ BEGIN PERFORM pg_advisory_xact_lock({WRITERS_LOCK}); END $$",
    )


class LifeSigns:
    """Keeps PostgreSQL from taking a long calculation within a transaction for a frozen writer.

    Args:
        connection: In a writing transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection if connection.dialect.name == "postgresql" else None
        self._due = time.monotonic() + LIFE_SIGN_EVERY_S

    def give(self) -> None:
        """Ask the server for nothing, if the last time is a while ago; call it often."""
        if self._connection is not None and time.monotonic() >= self._due:
            self._connection.exec_driver_sql("SELECT 1")
            self._due = time.monotonic() + LIFE_SIGN_EVERY_S


def look_at_holder(connection: Connection, limit_s: float) -> tuple[float, bool]:
    """Look whether the writer that has the lock lets the server wait; if so for too long, end its session.

    The server waits for the next statement, or for the writer to read an answer. Its own limit for idle transactions
    counts neither while it waits for the rest of a pipeline nor while nobody reads.

    Args:
        connection: One that does not wait for the lock (`engine.reading`).
        limit_s: After how long.

    Returns:
        For how many seconds it has let the server wait (0: it does not), and whether its session is ended.
    """
    for still_s, is_ended in connection.execute(_LOOK_AT_HOLDER, {"lock": WRITERS_LOCK, "limit_s": limit_s}):
        return still_s, is_ended
    return 0.0, False
