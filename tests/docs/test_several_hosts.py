"""The page about several hosts: followed word for word, its rights are enough and no more; the compose files load."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pages import read_blocks, read_commands
from ports import free_port
from postgresql import run_server, search_path
from sqlalchemy import insert, make_url, text
from sqlalchemy.exc import ProgrammingError
from waiting import wait_until

from pylantir.query import WorklistQuery
from pylantir.store.read.worklist import read_values
from pylantir.store.schema.engine import open_for_reading, open_for_writing
from pylantir.store.schema.tables import worklist_items
from pylantir.store.schema.upgrade import prepare_database
from workers.supervisor.check import check_configuration

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/several-hosts.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_roles_have_the_rights_that_are_needed_and_no_more(postgresql_server: str, postgresql_url: str) -> None:
    own = str(make_url(postgresql_url).database)
    cluster, inside = (
        block.replace("pylantir_", f"{own}_").replace("DATABASE worklist", f'DATABASE "{own}_wl"')
        for block in blocks("sql")
    )
    with psycopg.connect(host=postgresql_server, user="pylantir", dbname="postgres", autocommit=True) as connection:
        try:
            for statement in filter(str.strip, cluster.split(";")):
                connection.execute(statement)
            with psycopg.connect(
                host=postgresql_server, user="pylantir", dbname=f"{own}_wl", autocommit=True
            ) as database:
                database.execute(inside)
            where = f"{own}_wl?host={postgresql_server}"
            writer = open_for_writing(f"postgresql+psycopg://{own}_writer@/{where}")
            prepare_database(writer)
            with writer.begin() as begun:
                begun.execute(insert(worklist_items), {"patient_id": "P1"})
            reader = open_for_reading(f"postgresql+psycopg://{own}_reader@/{where}")
            assert [row[0] for rows in read_values(reader, WorklistQuery(), ["patient_id"]) for row in rows] == ["P1"]
            # The role has no right to write, even if it asks for it.
            writing = open_for_writing(f"postgresql+psycopg://{own}_reader@/{where}")
            for statement in ("INSERT INTO worklist_items (patient_id) VALUES ('P2')", "CREATE TABLE mine (a int)"):
                with writing.begin() as begun, pytest.raises(ProgrammingError, match="permission denied"):
                    begun.execute(text(statement))
            for engine in (writer, reader, writing):
                engine.dispose()
        finally:
            connection.execute(f'DROP DATABASE IF EXISTS "{own}_wl" WITH (FORCE)')
            for role in ("writer", "reader"):
                connection.execute(f"DROP ROLE IF EXISTS {own}_{role}")


def test_the_configurations_are_valid(tmp_path: Path) -> None:
    (address,) = re.findall(r"WORKLIST_URL='(.*?)'", PAGE)
    shown = {"page.json": blocks("json")[0], "compose.json": (ROOT / "etc/compose/pylantir.json").read_text()}
    for name, written in shown.items():
        path = tmp_path / name
        path.write_text(json.dumps(json.loads(written)), encoding="utf-8")
        assert check_configuration(path, {"WORKLIST_URL": address}, {}).settings.db_url == address
    fail_over = next(block.strip() for block in blocks("text"))
    assert check_configuration(tmp_path / "page.json", {"WORKLIST_URL": fail_over}, {}).settings.db_url == fail_over


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsServer:
    """A server that lets its roles in by password and encrypted only, with a certificate for `localhost`."""

    folder: str
    port: int
    authority: Path

    def execute(self, database: str, statements: str) -> None:
        where = {"host": self.folder, "port": self.port, "user": "pylantir", "dbname": database}
        with psycopg.connect(**where, autocommit=True) as connection:  # type: ignore[arg-type]
            for statement in filter(str.strip, statements.split(";")):
                connection.execute(statement)


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[TlsServer]:
    port = free_port()
    with run_server(search_path(), options=f"-c listen_addresses=localhost -c port={port}") as folder:
        data = Path(folder, "data")
        own = data.stat()

        def openssl(*arguments: str) -> None:
            subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True, timeout=60)

        new = ("req", "-newkey", "rsa:2048", "-nodes", "-subj")
        openssl(*new, "/CN=Our own authority", "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem")
        named = ("-addext", "subjectAltName=DNS:localhost")
        openssl(*new, "/CN=localhost", *named, "-keyout", "server.key", "-out", "server.csr")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-copy_extensions", "copy")
        openssl("x509", "-req", "-in", "server.csr", *signed, "-out", "server.crt")
        for name in ("server.key", "server.crt"):
            (data / name).write_bytes((tmp_path / name).read_bytes())
            (data / name).chmod(0o600)
            os.chown(data / name, own.st_uid, own.st_gid)
        rules = data / "pg_hba.conf"
        rules.write_text("hostssl all all all scram-sha-256\nhost all all all reject\n" + rules.read_text())
        server = TlsServer(folder=folder, port=port, authority=tmp_path / "ca.pem")
        server.execute("postgres", "ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf()")
        yield server


class Host:
    """A machine on which the page is followed, with the names that the page gives exchanged for real ones."""

    def __init__(self, folder: Path, environ: Mapping[str, str], changes: Mapping[str, str]) -> None:
        self._folder, self._environ, self._changes = folder, environ, changes
        folder.mkdir()
        (page_json,) = blocks("json")
        (folder / "pylantir.json").write_text(self.adapt(page_json))

    def adapt(self, text: str) -> str:
        for shown, actual in self._changes.items():
            text = text.replace(shown, actual)
        return text

    def run(self, *lines: str) -> str:
        """Type commands; returns what they print, nothing if one of them fails."""
        script = self.adapt("\n".join(["set -e", *lines]))
        done = subprocess.run(
            ["sh", "-c", script], cwd=self._folder, env=dict(self._environ), timeout=100, text=True, check=False,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        return done.stdout if done.returncode == 0 else ""


def test_two_hosts_and_a_scanner_from_nothing(
    tls_server: TlsServer, tmp_path: Path, environ: Mapping[str, str]
) -> None:
    (tmp_path / "bookings.csv").write_text("id,date,name\nP1,2030-01-31,Roe^Jo\n")
    cluster, inside = blocks("sql")
    tls_server.execute("postgres", cluster.replace("'PASSWORD'", "'p@ss'"))
    tls_server.execute("worklist", inside)
    (export, *begin, status), (ask,), (stop,) = (
        [command.line for command in read_commands(block)] for block in read_blocks(PAGE) if block.language == "console"
    )
    here = {
        "PASSWORD@db.example.org": f"p%40ss@localhost:{tls_server.port}",
        "/etc/pylantir/ca.pem": str(tls_server.authority),
        "/mnt/exports/bookings.csv": str(tmp_path / "bookings.csv"),
    }
    # A host may stand still for a few seconds, and is not dead.
    north, south = (
        Host(tmp_path / name, environ, {**here, '"north"': f'"{name}", "lease_s": 20', "4242": str(free_port())})
        for name in ("north", "south")
    )
    try:
        assert north.run(export, *begin)
        wait_until(lambda: re.search(r"bookings +RUNNING", north.run(export, status)), "the first host fetches")
        assert south.run(export, *begin)
        wait_until(lambda: "STANDBY (north)" in south.run(export, status), "the second host stands by")
        for host in (north, south):
            wait_until(lambda host=host: "P1" in host.run(export, ask), "each host answers a scanner")
        north.run(export, stop)
        wait_until(lambda: re.search(r"bookings +RUNNING", south.run(export, status)), "the second host fetches")
    finally:
        for host in (north, south):
            host.run(export, stop)
    # A server that the certificate does not name is not trusted.
    address = re.sub(r"\+psycopg", "", north.adapt(export).split("'")[1])
    with psycopg.connect(address):
        pass
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        psycopg.connect(address.replace("@localhost", "@127.0.0.1"))
