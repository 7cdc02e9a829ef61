"""How soon another host fetches and commits when the host that fetches a source has died, stands still or is cut off.

Two hosts watch one CSV file of 2 000 rows. At the moment of each disturbance a row is added; the time ends when the
other host has committed it. Lease + 1 second is the bound after a freeze or a cut network, 1 second after a death; a
fetch of the file is added to both. After a stop in order the row comes last, and the file is looked at once a second.

    python benchmarks/fail_over.py [--lease 5] [--runs 3]
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from observing import show, timed

# isort: split
import psycopg
from frozen_relay import Relay
from installation import Installation, csv_source
from postgresql import run_server, search_path

ROWS = 2000
PATIENCE_S = 120.0
_HOLDS_LOCK = """
SELECT session.state, session.wait_event FROM pg_locks AS held JOIN pg_stat_activity AS session USING (pid)
WHERE held.locktype = 'advisory' AND held.granted AND session.application_name = %s"""
_COMMITTED = "SELECT host FROM audit_log WHERE patient_id = %s AND action = 'created'"


class Hosts:
    """Two hosts, each with its own way to the server, and the file that both watch."""

    def __init__(self, folder: Path, server: str, lease_s: float) -> None:
        self.export = folder / "export.csv"
        self.patients = [f"P{number}" for number in range(ROWS)]
        self.connection: psycopg.Connection[Any] = psycopg.connect(
            host=server, user="pylantir", dbname="worklist", autocommit=True
        )
        self.ways: dict[str, Relay] = {}
        self.installations: list[Installation] = []
        for name in ("north", "south"):
            (folder / name).mkdir()
            host, way = Installation(folder / name), Relay(f"{server}/.s.PGSQL.5432")
            host.environment.pop("PYTHONDONTWRITEBYTECODE", None)
            config = {"file_path": str(self.export), "watch_for_changes": True}
            host.configure(
                csv_source("ris", str(self.export), config=config), db_path=None,
                db_url=f"postgresql+psycopg://pylantir@127.0.0.1:{way.port}/worklist",
                cluster={"host": name, "lease_s": lease_s},
            )  # fmt: skip
            self.ways[name] = way
            self.installations.append(host)
        self.write()

    def write(self, *more: str) -> None:
        """Write the file, with more patients than before."""
        self.patients += more
        self.installations[0].write_csv("../export.csv", self.patients)

    def roles(self) -> tuple[Installation, Installation]:
        """Wait until one host fetches and the other one stands by; return them."""
        north, south = self.installations

        def found() -> tuple[Installation, Installation] | None:
            for holder, other in ((north, south), (south, north)):
                states = holder.process("ris").get("state"), other.process("ris").get("state")
                if states == ("RUNNING", f"STANDBY ({holder.folder.name})"):
                    return holder, other
            return None

        timed(found, PATIENCE_S, 0.1)
        return found() or self.roles()

    def committed_by(self, patient: str) -> str | None:
        """The host that has stored a patient."""
        row = self.connection.execute(_COMMITTED, (patient,)).fetchone()
        return str(row[0]) if row else None

    def close(self) -> None:
        """End everything."""
        for host in self.installations:
            host.close()
        for way in self.ways.values():
            way.close()
        self.connection.close()


def writer_of(host: Installation) -> int:
    """Return the process of a host's writer."""
    return int(host.process("writer")["pid"])


def freeze_in_a_batch(hosts: Hosts, holder: Installation, patient: str) -> str:
    """Stop the writer as soon as it has the lock for a batch; return what the server then waits for."""
    pid, name = writer_of(holder), f"pylantir {holder.folder.name} writer"
    # Each row has changed, so the batch is long.
    hosts.patients = [f"{one.partition('-')[0]}-{patient}" for one in hosts.patients]
    hosts.write(patient)
    while True:
        timed(lambda: hosts.connection.execute(_HOLDS_LOCK, (name,)).fetchone(), PATIENCE_S, 0.0)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.3)
        held = hosts.connection.execute(_HOLDS_LOCK, (name,)).fetchone()
        if held and hosts.committed_by(patient) is None:
            return f"{held[0]}, {held[1]}"
        os.kill(pid, signal.SIGCONT)


def disturb(hosts: Hosts, how: str, holder: Installation, patient: str) -> tuple[Callable[[], object], str]:
    """Disturb the host that fetches; return what heals it, and a remark."""
    supervisor, pid, way = holder.supervisor, writer_of(holder), hosts.ways[holder.folder.name]
    assert supervisor
    if how == "frozen in a batch":
        said = freeze_in_a_batch(hosts, holder, patient)
        return (lambda: os.kill(pid, signal.SIGCONT)), said
    if how == "stopped":
        assert holder.terminate() == 0
        hosts.write(patient)
        return (lambda: holder.start(until=None)), ""
    hosts.write(patient)
    if how == "writer killed":
        os.kill(pid, signal.SIGKILL)
        return (lambda: None), ""
    if how == "supervisor killed":
        supervisor.kill()
        supervisor.wait(10)
        return (lambda: holder.start(until=None)), ""
    if how == "frozen":
        os.kill(pid, signal.SIGSTOP)
        return (lambda: os.kill(pid, signal.SIGCONT)), ""
    way.frozen = True
    return (lambda: setattr(way, "frozen", False)), ""


def measure(hosts: Hosts, how: str, runs: int) -> None:
    """Disturb whoever fetches, and wait for the other one's commit; the next time the roles are changed."""
    seconds, remarks = [], []
    for number in range(runs):
        holder, other = hosts.roles()
        patient = f"{how.replace(' ', '')}{number}"
        heal, remark = disturb(hosts, how, holder, patient)
        began = time.monotonic() - (0.3 if remark else 0.0)
        timed(lambda patient=patient: hosts.committed_by(patient), PATIENCE_S, 0.01)
        if hosts.committed_by(patient) == other.folder.name:
            seconds.append(time.monotonic() - began)
        else:
            remarks.append("committed before the end")
        remarks += [remark] if remark else []
        heal()
        hosts.roles()
    if seconds:
        show(how, seconds)
    if remarks:
        print(f"  {'; '.join(remarks)}", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lease", type=float, default=5.0)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, run_server(search_path()) as server:
        with psycopg.connect(host=server, user="pylantir", dbname="postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE worklist")
        hosts = Hosts(Path(folder), server, options.lease)
        try:
            for host in hosts.installations:
                host.start(until=None)
            print(f"lease {options.lease:g} s, {ROWS} rows, load {os.getloadavg()[0]:.1f}", flush=True)
            for how in ("stopped", "writer killed", "supervisor killed", "frozen", "frozen in a batch", "cut off"):
                measure(hosts, how, options.runs)
        finally:
            hosts.close()


if __name__ == "__main__":
    main()
