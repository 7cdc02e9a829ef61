"""A private PostgreSQL server for the tests: in a temporary folder, reached through a socket there, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_FOLDERS = ["/usr/local/bin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]
# Nothing here has to survive a crash.
_FAST = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=50 -c shared_buffers=16MB"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """Give the folder of a running server's socket."""
    path = search_path()
    missing = [name for name in ("initdb", "pg_ctl") if shutil.which(name, path=path) is None]
    if missing:
        reason = f"PostgreSQL is not installed: {', '.join(missing)} not found"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with run_server(path) as folder:
        yield folder


@pytest.fixture
def postgresql_url(postgresql_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the SQLAlchemy URL of an empty database of the test's own."""
    import psycopg

    name = f"test_{abs(hash(request.node.nodeid)):x}"
    with psycopg.connect(host=postgresql_server, user="pylantir", dbname="postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield f"postgresql+psycopg://pylantir@/{name}?host={postgresql_server}"
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextlib.contextmanager
def run_server(path: str, *, replica_of: str | None = None, options: str = "") -> Iterator[str]:
    """Run a server until the end; give the folder of its socket.

    Args:
        path: Where the server's programs are looked for.
        replica_of: The folder of a running server whose commits this one follows, until it is promoted.
        options: Further options of the server.
    """
    folder = Path(tempfile.mkdtemp(prefix="pylantir-postgresql-"))
    data, owner = folder / "data", _owner()
    if owner is not None:
        os.chown(folder, owner.pw_uid, owner.pw_gid)

    def run(program: str, *arguments: str) -> None:
        _run(folder, path, program, "--pgdata", str(data), *arguments)

    try:
        if replica_of is None:
            run("initdb", "--no-sync", "--auth=trust", "--username=pylantir", "--locale=C", "--encoding=UTF8")
        else:
            how = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync")
            run("pg_basebackup", f"--host={replica_of}", "--username=pylantir", *how)
        where = f"-c listen_addresses='' -c unix_socket_directories={folder}"
        run("pg_ctl", "start", "--wait", "--log", str(folder / "log"), "--options", f"{where} {_FAST} {options}")
        try:
            yield str(folder)
        finally:
            with contextlib.suppress(AssertionError):
                # A test may have ended it.
                run("pg_ctl", "stop", "--mode=immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def restart_server(folder: str, path: str, mode: str) -> None:
    """Restart a server of `run_server`, also one that has ended; with mode "immediate" it ends as in a crash."""
    log = f"{folder}/log"
    _run(Path(folder), path, "pg_ctl", "restart", "--wait", "--mode", mode, "--pgdata", f"{folder}/data", "--log", log)


def crash_server(folder: str, path: str) -> None:
    """End a server of `run_server` as a crash does."""
    _run(Path(folder), path, "pg_ctl", "stop", "--mode=immediate", "--pgdata", f"{folder}/data")


def promote_server(folder: str, path: str) -> None:
    """Let a replica take writes."""
    _run(Path(folder), path, "pg_ctl", "promote", "--wait", "--pgdata", f"{folder}/data")


def _run(folder: Path, path: str, program: str, *arguments: str) -> None:
    owner = _owner()
    user = {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    command = [shutil.which(program, path=path) or program, *arguments]
    # Into a file: a pipe would be inherited by the server, and never end.
    with (folder / "output").open("wb") as output:
        done = subprocess.run(command, stdout=output, stderr=output, cwd=folder, check=False, timeout=90, **user)  # type: ignore[call-overload]
    assert done.returncode == 0, (folder / "output").read_text(errors="replace")


def search_path() -> str:
    """Where the server's programs are looked for."""
    return os.pathsep.join([os.environ.get("PATH", ""), *_FOLDERS])


def _owner() -> pwd.struct_passwd | None:
    """Whom the server runs as: it refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    pytest.skip("PostgreSQL refuses to run as root, and there is no user to run it as")
