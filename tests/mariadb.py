"""A private MariaDB server for the tests: in a temporary folder, reached through a socket there, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_FOLDERS = ["/usr/sbin", "/usr/local/sbin", "/usr/libexec"]
# Nothing here has to survive a crash. --no-defaults: the machine's own server is none of our business.
_FAST = ("--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M", "--skip-log-bin", "--skip-networking")


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Path]:
    """Give the socket of a running server."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_FOLDERS])
    missing = [name for name in ("mariadb-install-db", "mariadbd") if shutil.which(name, path=path) is None]
    if missing:
        reason = f"MariaDB is not installed: {', '.join(missing)} not found"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with run_server(path) as socket:
        yield socket


@pytest.fixture
def mariadb_url(mariadb_server: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the SQLAlchemy URL of an empty database of the test's own."""
    import pymysql

    name = f"test_{abs(hash(request.node.nodeid)):x}"
    with pymysql.connect(unix_socket=str(mariadb_server), user="root") as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}`")
        yield f"mysql+pymysql://root@localhost/{name}?unix_socket={mariadb_server}"
        cursor.execute(f"DROP DATABASE `{name}`")


@contextlib.contextmanager
def run_server(path: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pylantir-mariadb-"))
    owner = _owner()
    # Each server has its own folder for temporary tables: one that starts deletes those of the others.
    user: dict[str, Any] = {"env": {**os.environ, "TMPDIR": str(folder)}}
    if owner is not None:
        user |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    if owner is not None:
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    data, socket = folder / "data", folder / "socket"
    install = shutil.which("mariadb-install-db", path=path) or ""
    options = ("--no-defaults", f"--datadir={data}")
    done = subprocess.run(
        [install, *options, "--auth-root-authentication-method=normal", "--skip-test-db"],
        capture_output=True, text=True, check=False, timeout=90, cwd=folder, **user,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [shutil.which("mariadbd", path=path) or "", *options, f"--socket={socket}", *_FAST],
            stdout=log, stderr=log, cwd=folder, **user,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while not socket.exists():
                assert server.poll() is None, (folder / "log").read_text(errors="replace")
                assert time.monotonic() < deadline, (folder / "log").read_text(errors="replace")
                threading.Event().wait(0.05)
            yield socket
        finally:
            server.kill()
            server.wait()
            shutil.rmtree(folder, ignore_errors=True)


def _owner() -> pwd.struct_passwd | None:
    """Whom the server runs as: it refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("mysql", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None
