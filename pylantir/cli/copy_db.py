"""`pylantir copy-db`: moves the worklist into another database. No supervisor is needed, and none should run."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from pylantir.cli.supervisor import find_instance
from pylantir.config.sections.database import URL_FORM
from pylantir.config.sections.server_url import find_fault
from pylantir.errors import ControlError, ExitStatus, NotRunning, StoreError, WrongUsage
from pylantir.settings import Settings
from pylantir.store.change.copying import Copy, copy_database
from pylantir.store.failures import describe_failure
from pylantir.store.schema.engine import open_for_reading, open_for_writing
from pylantir.store.schema.sqlite_file import sqlite_path
from pylantir.store.schema.upgrade import create_private_file, refuse_encoding

_MAY_TAKE_S = 3600.0


def copy_worklist(settings: Settings, options: argparse.Namespace) -> int:
    """Copy the configured database, compare the copy, and print what was copied."""
    target_url = _checked(options.to)
    origin = sqlite_path(settings.db_url)
    if origin is not None and not origin.is_file():
        msg = f"{origin}: there is no database to copy"
        raise StoreError(msg)
    is_running = _runs(Path(settings.config_path))
    source = open_for_reading(settings.db_url, read_url=None, process="copy-db", statement_s=_MAY_TAKE_S)
    try:
        with _target(target_url) as target, source.connect() as connection:
            copy = copy_database(connection, target, _tell_progress)
    except SQLAlchemyError as error:
        msg = f"nothing is copied: {describe_failure(error)}"
        raise StoreError(msg) from None
    finally:
        source.dispose()
    _print(copy)
    if is_running:
        print(
            "warning: Pylantir runs with this configuration; what it stores from now on, scanners' reports too, "
            "is not in the copy: to change over, stop it and copy into an empty database once more",
            file=sys.stderr,
        )
    return ExitStatus.OK


def _runs(config_path: Path) -> bool:
    try:
        find_instance(config_path)
    except NotRunning:
        return False
    except ControlError:
        # It is there, whatever else it is.
        return True
    return True


def _checked(url: str) -> str:
    """Return where to copy to; never quote it, because it may hold a password."""
    fault = 'expected "postgresql://…" or "sqlite:////ABSOLUTE/PATH"' if not re.match(URL_FORM, url) else None
    if fault is None and not url.startswith("sqlite"):
        fault = find_fault(url)
    elif fault is None and (not url.startswith("sqlite:///") or not make_url(url).database):
        fault = 'expected "sqlite:////ABSOLUTE/PATH"'
    if fault:
        msg = f"--to: {fault}"
        raise WrongUsage(msg)
    return url


@contextlib.contextmanager
def _target(url: str) -> Iterator[Engine]:
    """Open the target, make it if it does not exist, and take away a file that was made in vain."""
    path = sqlite_path(url)
    is_new = path is not None and not path.exists()
    if path:
        try:
            create_private_file(path)
        except OSError as error:
            msg = f"{path}: {error.strerror}"
            raise StoreError(msg) from None
    else:
        _make_database(url)
    engine = open_for_writing(url, process="copy-db")
    try:
        with engine.connect() as connection:
            refuse_encoding(connection)
        yield engine
    except BaseException:
        engine.dispose()
        if path and is_new:
            for name in (path, *(Path(f"{path}{end}") for end in ("-wal", "-shm"))):
                name.unlink(missing_ok=True)
        raise
    finally:
        engine.dispose()


def _make_database(url: str) -> None:
    """Make a PostgreSQL database that does not exist; say nothing if that cannot be found out."""
    import psycopg

    from pylantir.store.schema.server import read_arguments

    arguments: dict[str, Any] = read_arguments(
        re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url), "pylantir copy-db"
    )
    name = arguments.get("dbname")
    if not name:
        return
    elsewhere = {**arguments, "dbname": "postgres", "autocommit": True, "connect_timeout": 5}
    with contextlib.suppress(psycopg.Error), psycopg.connect(**elsewhere) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            made = psycopg.sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0")
            connection.execute(made.format(psycopg.sql.Identifier(name)))


def _tell_progress(table: str, done: int, total: int) -> None:
    end = "\n" if done >= total else ""
    if sys.stderr.isatty():
        print(f"\r{table}: {done} of {total} rows", end=end, file=sys.stderr, flush=True)
    elif end or done % 100_000 == 0:
        print(f"{table}: {done} of {total} rows", file=sys.stderr, flush=True)


def _print(copy: Copy) -> None:
    for table in copy.tables:
        print(f"{table.name}: {table.rows} rows, checksum {table.checksum} on both sides")
    for column in copy.left_out:
        print(f"{column}: not copied, because this version does not know it", file=sys.stderr)
    print("the copy is complete; put its address into the configuration as db_url (or db_path), then start")
