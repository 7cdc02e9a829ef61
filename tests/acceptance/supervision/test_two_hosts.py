"""Two hosts on one PostgreSQL: one fetches a source, the other stands by and takes over when the first is gone."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from installation import COMMAND, Installation, csv_source, wait_until
from scanner import beginning, change, connected, create, ending
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from pylantir.ipc.control import ask_supervisor
from pylantir.store.schema.writers_lock import WRITERS_LOCK

PATIENCE_S = 90.0
LEASE_S = 8
"""A host may stand still for a few seconds, and is not dead."""


class Pair:
    """Two installations with the same source and the same database."""

    def __init__(self, folder: Path, db_url: str) -> None:
        self.north, self.south = (Installation(self._folder(folder, name)) for name in ("north", "south"))
        self.export = folder / "export.csv"
        self._engine = create_engine(db_url, isolation_level="AUTOCOMMIT")
        source = csv_source("ris", str(self.export), config={"file_path": str(self.export), "watch_for_changes": True})
        for name, host in (("north", self.north), ("south", self.south)):
            host.configure(source, db_path=None, db_url=db_url, cluster={"host": name, "lease_s": LEASE_S})

    @staticmethod
    def _folder(folder: Path, name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    def write(self, *patients: str) -> None:
        self.north.write_csv("../export.csv", patients)

    def set_back(self, patient: str) -> None:
        """Do what a restored backup does: a patient is missing, and the marks of the last commits are others."""
        statements = (
            f"select pg_advisory_xact_lock({WRITERS_LOCK})",
            f"delete from source_entries where patient_id = '{patient}'",
            f"delete from worklist_items where patient_id = '{patient}'",
            "update source_states set mark = 'of a backup'",
            "update cluster_hosts set mark = 'of a backup'",
        )
        with self._engine.connect() as connection:
            connection.execute(text(";".join(statements)))

    def freeze_in_a_batch(self, host: Installation, patients: list[str]) -> int:
        """Freeze a host's writer within the transaction that takes in new patients; return the process.

        It is frozen while it waits for the writers' lock, and then gets it.
        """
        writer = int(host.process("writer")["pid"])
        # A batch's transaction begins with two messages, any other with one.
        waits = (
            f"select count(*) from pg_stat_activity where application_name = 'pylantir {host.folder.name} writer'"
            " and wait_event = 'advisory' and query like 'DO %'"
        )
        with self._engine.connect() as holder:
            holder.execute(text(f"select pg_advisory_lock({WRITERS_LOCK})"))
            self.write(*patients)

            def is_frozen() -> bool:
                if holder.scalar(text(waits)) != 1:
                    return False
                os.kill(writer, signal.SIGSTOP)
                if holder.scalar(text(waits)) == 1:
                    return True
                # It waits for a while only, then it begins anew.
                os.kill(writer, signal.SIGCONT)
                return False

            wait_until(is_frozen, self.logs, PATIENCE_S)
            holder.execute(text("select pg_advisory_unlock_all()"))
        return writer

    def end_writer(self, host: Installation, other: Installation) -> None:
        """Kill a host's writer; the supervisor there starts another one when the other host has taken over."""
        assert host.supervisor
        writer = int(host.process("writer")["pid"])
        os.kill(host.supervisor.pid, signal.SIGSTOP)
        os.kill(writer, signal.SIGKILL)
        wait_until(lambda: other.process("ris").get("state") == "RUNNING", self.logs, PATIENCE_S)
        os.kill(host.supervisor.pid, signal.SIGCONT)

    def served(self) -> list[str]:
        query = "select patient_id from worklist_items where performed_procedure_step_status = 'SCHEDULED' order by 1"
        with suppress(SQLAlchemyError), self._engine.connect() as connection:
            return list(connection.scalars(text(query)))
        return []

    def wait_for(self, *patients: str) -> None:
        wait_until(
            lambda: self.served() == [*patients], lambda: f"{patients}: {self.served()}\n{self.logs()}", PATIENCE_S
        )

    def logs(self) -> str:
        return "\n".join(f"--- {host.folder.name}\n{host.log()[-3000:]}" for host in (self.north, self.south))

    def wait_until_fetched_by(self, holder: Installation, other: Installation | None) -> None:
        wait_until(lambda: holder.process("ris").get("state") == "RUNNING", self.logs, PATIENCE_S)
        holder.wait_for_health("healthy", PATIENCE_S)
        if other:
            standby = f"STANDBY ({holder.folder.name})"
            wait_until(lambda: other.process("ris").get("state") == standby, self.logs, PATIENCE_S)
            other.wait_for_health("healthy", PATIENCE_S)

    def close(self) -> None:
        self._engine.dispose()
        self.north.close()
        self.south.close()


@pytest.fixture
def pair(tmp_path: Path, postgresql_url: str) -> Iterator[Pair]:
    made = Pair(tmp_path, postgresql_url)
    yield made
    made.close()


def test_another_host_takes_over_whatever_ends_the_first(pair: Pair, findscu: str) -> None:
    north, south = pair.north, pair.south
    pair.write("P1")
    north.start()
    pair.wait_for("P1")
    south.start()
    pair.wait_until_fetched_by(north, south)
    assert "fetched by north" in south.command("sync", "ris").stdout
    for host in (north, south):
        wait_until(lambda host=host: host.process("ris").get("lease_host") == "north", pair.logs)

    # Its writer dies; the supervisor there starts another, which finds the source taken.
    pair.end_writer(north, south)
    pair.wait_until_fetched_by(south, north)
    pair.write("P1", "P2")
    pair.wait_for("P1", "P2")

    # A scan that begins at one host ends at the other, once.
    exam = beginning("9.9", PatientID="walk-in")
    answers = []
    for host, tell in (
        (north, lambda to: create(to, "2.25.1", exam)),
        (south, lambda to: change(to, "2.25.1", ending())),
        (north, lambda to: change(to, "2.25.1", ending())),
    ):
        with connected(host.port) as association:
            answers.append(tell(association))
    assert [int(answer.Status) for answer in answers] == [0, 0, 0x0110]
    assert answers[-1].ErrorID == 0xA710

    # The whole host dies, and comes back.
    assert south.supervisor
    south.supervisor.kill()
    south.supervisor.wait(120)
    pair.wait_until_fetched_by(north, None)
    pair.write("P1", "P2", "P3")
    pair.wait_for("P1", "P2", "P3")
    south.start()
    pair.wait_until_fetched_by(north, south)

    # The database is set back to an earlier state, as by a fail-over that lost commits: what is missing comes back.
    pair.set_back("P2")
    pair.wait_for("P1", "P2", "P3")
    north.wait_for_log("the database has lost what was committed last")

    # It is frozen in the middle of a batch, with the lock; when it wakes up, it commits nothing under its old lease.
    writer = pair.freeze_in_a_batch(north, ["P1", "P2", "P3", "P4"])
    pair.wait_until_fetched_by(south, None)
    pair.wait_for("P1", "P2", "P3", "P4")
    os.kill(writer, signal.SIGCONT)
    pair.wait_until_fetched_by(south, north)

    assert south.terminate() == 0
    pair.wait_until_fetched_by(north, None)
    unknown = subprocess.run(
        [COMMAND.with_name("pylantir"), "forget-host", "soth", "--config", north.config_path],
        capture_output=True, text=True, env=north.environment, timeout=120, check=False,
    )  # fmt: skip
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert 'no host "soth": did you mean "south"?' in unknown.stderr
    assert "forgotten" in str(
        ask_supervisor(north.runtime_dir, {"command": "forget-host", "name": "south"}, 60)["text"]
    )
    assert {answer["PatientID"] for answer in north.find(findscu)} == {"P1", "P2", "P3", "P4"}
