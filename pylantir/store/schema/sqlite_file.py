"""A SQLite file: its name, the files beside it, and how it is opened.

Somebody may replace the file while Pylantir runs, to restore a backup: a reader notices it at its next query.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from pylantir.store.schema.writers_lock import WRITER_TIMEOUT_MS

BUSY_TIMEOUT_MS = 5000
_ARGUMENTS = {"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False}


def sqlite_path(db_url: str) -> Path | None:
    """Return the file of a SQLite URL; None for another database."""
    url = make_url(db_url)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def sqlite_file(engine: Engine) -> Path | None:
    """Return the file of an engine that was opened for writing; None if the database is not SQLite."""
    return Path(engine.url.database) if engine.dialect.name == "sqlite" and engine.url.database else None


def side_files(path: Path) -> tuple[Path, Path]:
    """Return the write-ahead log of a SQLite file, and the log's index, which processes share."""
    return path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return device and inode, which tell a file from another of the same name; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def sqlite_uri(path: Path, mode: str) -> str:
    """Return the URI of an existing SQLite file, for `mode` "ro" or "rw"."""
    return f"file:{quote(str(path))}?mode={mode}"


def open_file_for_writing(db_url: str, **options: Any) -> Engine:
    """Open a file for the writer: WAL, `synchronous=NORMAL` (a commit survives any process's death, not a power cut).

    Args:
        db_url: The file's URL.
        options: More options for `create_engine`.
    """
    engine = create_engine(db_url, poolclass=QueuePool, pool_size=1, max_overflow=0, connect_args=_ARGUMENTS, **options)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for pragma in (
            # Takes effect in a new file only. Rows of a worklist are long.
            "page_size=8192",
            "journal_mode=WAL",
            "synchronous=NORMAL",
            f"busy_timeout={WRITER_TIMEOUT_MS}",
            # Overwrite what is deleted: nobody may read a purged patient in the file.
            "secure_delete=ON",
            "cache_size=-16384",
            # 256 MB: see `workers.writer.checkpoints`. Once it is in the file, the log's own file shrinks to 64 MB.
            "wal_autocheckpoint=32768",
            "journal_size_limit=67108864",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin_immediate(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def open_file_for_reading(path: Path, **options: Any) -> Engine:
    """Open a file read-only, with further options for `create_engine`; the first use fails if there is no such file."""
    # A plain `mode=rw` would create side files, `immutable=1` would miss what the writer has just committed.
    # Not as text: SQLAlchemy would decode the path of a URL a second time.
    engine = create_engine(
        URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"}),
        **options,
        poolclass=QueuePool,
        max_overflow=-1,
        connect_args=_ARGUMENTS,
    )

    @event.listens_for(engine, "do_connect")
    def remember_file(_dialect: object, record: ConnectionPoolEntry, _args: object, _keywords: object) -> None:
        record.info["file"], record.info["sides"] = identity_of(path), None

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "checkout")
    def notice_another_file(_connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        sides, known = tuple(map(identity_of, side_files(path))), record.info["sides"]
        # Where one is only missing, the writer still uses it, as we do, until it makes another one. If we made the
        # log's index anew, the two of us would no longer agree about what the log has.
        are_others = known is not None and any(now not in {None, then} for now, then in zip(sides, known, strict=True))
        if record.info["file"] != identity_of(path) or are_others:
            # Close all: the connections of one process share the log's index as long as one of them has it open.
            engine.dispose()
            raise DisconnectionError("the database file, or its write-ahead log, is another one")
        # SQLite makes the side files at the first transaction.
        record.info["sides"] = known or (sides if all(sides) else None)

    return engine
