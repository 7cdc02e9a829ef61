"""Two hosts, a database and its replica: what is cut off, dies, is promoted or comes back loses nothing that counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from frozen_relay import Relay
from installation import Installation, csv_source, wait_until
from postgresql import crash_server, promote_server, restart_server, run_server, search_path
from scanner import beginning, connected, create

PATIENCE_S = 90.0


class Site:
    """Two hosts, each with its own way to two servers, the second of which is a replica of the first."""

    def __init__(self, folder: Path, first: str, second: str) -> None:
        self.first, self.second = first, second
        self.hosts: list[Installation] = []
        self.ways: dict[str, list[Relay]] = {}
        for name in ("north", "south"):
            (folder / name).mkdir()
            host = Installation(folder / name)
            ways = [Relay(f"{server}/.s.PGSQL.5432") for server in (first, second)]
            where = "&".join(f"host=127.0.0.1:{way.port}" for way in ways)
            url = f"postgresql+psycopg://pylantir@/worklist?{where}&target_session_attrs=read-write"
            source = csv_source("ris", "export.csv", config={"file_path": "export.csv", "watch_for_changes": True})
            host.configure(source, db_path=None, db_url=url, cluster={"host": name, "lease_s": 20})
            self.hosts.append(host)
            self.ways[name] = ways

    def write(self, *patients: str) -> None:
        for host in self.hosts:
            host.write_csv("export.csv", patients)

    def ask(self, server: str, query: str) -> list[str]:
        with suppress(psycopg.Error), psycopg.connect(host=server, user="pylantir", dbname="worklist") as connection:
            return [str(value) for (value,) in connection.execute(query)]
        return []

    def set_lease(self, host: str, lease_s: int) -> None:
        """Set after how long a silent host counts as dead."""
        with psycopg.connect(host=self.first, user="pylantir", dbname="worklist") as connection:
            connection.execute("update cluster_hosts set lease_s = %s where host = %s", (lease_s, host))

    def wait_for(self, server: str, *patients: str) -> None:
        query = "select patient_id from worklist_items where performed_procedure_step_status = 'SCHEDULED' order by 1"
        wait_until(
            lambda: self.ask(server, query) == [*patients],
            lambda: f"{patients}: {self.ask(server, query)}\n{self.logs()}", PATIENCE_S,
        )  # fmt: skip

    def wait_for_answers(self, findscu: str, *patients: str) -> None:
        """Wait until each host answers a scanner with these patients."""
        for host in self.hosts:
            wait_until(
                lambda host=host: self.found(host, findscu) == {*patients},
                lambda host=host: f"{host.folder.name} answers {patients}: {self.found(host, findscu)}\n{self.logs()}",
                PATIENCE_S,
            )

    def found(self, host: Installation, findscu: str) -> set[str]:
        with suppress(AssertionError):
            return {answer["PatientID"] for answer in host.find(findscu)}
        return set()

    def wait_until_fetched_by(self, holder: Installation, other: Installation) -> None:
        standby = f"STANDBY ({holder.folder.name})"
        wait_until(lambda: holder.process("ris").get("state") == "RUNNING", self.logs, PATIENCE_S)
        wait_until(lambda: other.process("ris").get("state") == standby, self.logs, PATIENCE_S)

    def logs(self) -> str:
        return "\n".join(f"--- {host.folder.name}\n{host.log()[-3000:]}" for host in self.hosts)

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        for way in (way for ways in self.ways.values() for way in ways):
            way.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    path = search_path()
    with run_server(path) as first, run_server(path, replica_of=first) as second:
        with psycopg.connect(host=first, user="pylantir", dbname="postgres", autocommit=True) as connection:
            connection.execute("create database worklist")
            # Whatever is committed durably is on the replica as well.
            connection.execute("alter system set synchronous_standby_names = '*'")
            connection.execute("select pg_reload_conf()")
        made = Site(tmp_path, first, second)
        yield made
        made.close()


@pytest.mark.timeout(600)
def test_nothing_that_counts_is_lost_whatever_becomes_of_network_and_servers(site: Site, findscu: str) -> None:
    north, south = site.hosts
    site.write("P1")
    north.start()
    site.wait_for(site.first, "P1")
    south.start()
    site.wait_until_fetched_by(north, south)

    # The network swallows what north says and hears; meanwhile its file shows something of its own.
    for way in site.ways["north"]:
        way.frozen = True
    site.set_lease("north", 2)
    north.write_csv("export.csv", ["P1", "LATE"])
    wait_until(lambda: south.process("ris").get("state") == "RUNNING", site.logs, PATIENCE_S)
    south.write_csv("export.csv", ["P1", "P2"])
    site.wait_for(site.first, "P1", "P2")
    site.set_lease("north", 20)
    for way in site.ways["north"]:
        way.frozen = False
    site.wait_until_fetched_by(south, north)
    north.wait_for_health("healthy", PATIENCE_S)
    assert site.ask(site.first, "select patient_id from source_entries where patient_id = 'LATE'") == []

    # The primary dies with a report just acknowledged; the replica answers scanners, and takes writes once promoted.
    with connected(south.port) as association:
        assert create(association, "2.25.7", beginning("9.9", PatientID="walk-in")).Status == 0
    crash_server(site.first, search_path())
    site.wait_for_answers(findscu, "P1", "P2")
    for host in site.hosts:
        wait_until(lambda host=host: host.process("mwl-scp").get("database_role") == "standby", site.logs, PATIENCE_S)
    promote_server(site.second, search_path())
    site.write("P1", "P2", "P3")
    site.wait_for(site.second, "P1", "P2", "P3")
    assert site.ask(site.second, "select sop_instance_uid from mpps_instances") == ["2.25.7"]
    for host in site.hosts:
        host.wait_for_health("healthy", PATIENCE_S)
        wait_until(lambda host=host: host.process("mwl-scp").get("database_role") == "primary", site.logs, PATIENCE_S)

    # The old primary comes back, and the new one dies: what only the new one had comes back from the source.
    with Path(site.first, "data", "postgresql.auto.conf").open("a") as settings:
        settings.write("synchronous_standby_names = ''\n")
    restart_server(site.first, search_path(), "fast")
    crash_server(site.second, search_path())
    site.wait_for(site.first, "P1", "P2", "P3")
    site.wait_for_answers(findscu, "P1", "P2", "P3")
    told = r"the database has lost what was committed last|the database is not as this host's writer left it"
    wait_until(lambda: any(re.search(told, host.log()) for host in site.hosts), site.logs, PATIENCE_S)
