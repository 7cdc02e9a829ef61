"""Behind pgbouncer, which gives a session or a transaction one of its own connections, everything is the same."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from ports import free_port
from sqlalchemy import insert, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from worklist_store import Feed, record

from pylantir.query import WorklistQuery
from pylantir.store.read.worklist import read_values
from pylantir.store.schema.engine import open_for_reading, open_for_writing, reading, transaction
from pylantir.store.schema.tables import mpps_requests, worklist_items
from pylantir.store.schema.upgrade import prepare_database


@pytest.fixture(params=["session", "transaction"])
def pooled_url(request: pytest.FixtureRequest, tmp_path: Path, postgresql_url: str) -> Iterator[str]:
    """The database behind a pooler with a single connection of its own for each pair of user and database."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        reason = "pgbouncer is not installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    url, port = make_url(postgresql_url), free_port()
    size = 4 if request.param == "session" else 1
    configuration = tmp_path / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\nwl = host={url.query['host']} dbname={url.database} user=pylantir\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = {request.param}\ndefault_pool_size = {size}\n"
    )
    command = [program, str(configuration)]
    if os.geteuid() == 0:
        # It refuses root, and its user has to read the file.
        configuration.chmod(0o644)
        command = [program, "-u", next(name for name in ("postgres", "nobody") if _exists(name)), "/dev/stdin"]
    with configuration.open() as file, (tmp_path / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=file, stdout=log, stderr=log)
    try:
        for _ in range(600):
            with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), 1)):
                break
            assert process.poll() is None, (tmp_path / "pgbouncer.log").read_text()
            time.sleep(0.05)
        yield f"postgresql+psycopg://pylantir@127.0.0.1:{port}/wl?target_session_attrs=read-write"
    finally:
        process.terminate()
        process.wait(30)


def _exists(user: str) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwnam(user))
    return False


def test_a_pooler_in_between_changes_nothing(pooled_url: str) -> None:
    writer, reader = open_for_writing(pooled_url, host="host-a"), open_for_reading(pooled_url, host="host-a")
    prepare_database(writer)
    feed = Feed(writer, "ris")
    for _ in range(7):
        # More often than psycopg waits before it prepares a statement.
        feed.sync(*(record(f"r{n}", f"P{n}") for n in range(20)))
        found = [row[0] for rows in read_values(reader, WorklistQuery(), ["patient_id"]) for row in rows]
        assert sorted(found) == sorted(f"P{n}" for n in range(20))
    with reader.connect() as connection, pytest.raises(SQLAlchemyError, match="read-only"):
        connection.execute(insert(worklist_items), {"patient_id": "P1"})
    with transaction(writer, pipelined=True) as connection:
        connection.execute(insert(mpps_requests), {"request_id": "1", "answer": "{}", "at": "x"})
        assert connection.scalar(text("SHOW synchronous_commit")) == "on"
    # Nothing of these settings stays behind for whoever gets the pooler's connection next.
    with reading(writer) as connection:
        assert connection.scalar(text("SHOW default_transaction_read_only")) == "off"
        assert connection.scalar(text("SHOW statement_timeout")) == "0"
    writer.dispose()
    reader.dispose()
