"""An installation as a site has it: a folder with a configuration, started by the real command, watched from outside."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from dcmtk import find_worklist
from ports import free_port
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
from waiting import PATIENCE_S, wait_until

from pylantir.errors import CommandRefused, ControlError
from pylantir.ipc.control import ask_supervisor

COMMAND = Path(sys.executable).parent / "pylantir-supervisor"
PATIENT_COMMAND = (
    sys.executable,
    "-P",
    "-c",
    """\
import sys
from workers.supervisor import loop
from workers.supervisor.children import group
loop.STOP_GRACE_S = group.STOP_GRACE_S = group.WRITER_GRACE_S = group.HURRY_GRACE_S = 60.0
from workers.commands.cli import main
sys.exit(main(sys.argv[1:]))
""",
)
"""The same program, but a process that is slow to end is not killed: for tests of what an end in order leaves behind."""
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1

CSV_MAPPING = {"id": "patient_id", "date": "scheduled_start_date", "name": "patient_name"}


def end_with_parent() -> None:
    """In a new process: let it be killed when the test or benchmark that started it is killed.

    The signal comes with the end of the thread that starts it: start from the main thread.
    """
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def csv_source(name: str, file: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "csv",
        "sync_interval": 1,
        "config": {"file_path": file},
        "field_mapping": CSV_MAPPING,
        "defaults": {"modality": "MR"},
        **changes,
    }


def plugin_source(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "type": name, "sync_interval": 1, "config": {}, "defaults": {"modality": "MR"}, **changes}


PLUGIN = """\
import os, sys, time
from pylantir.data_sources.base import DataSourcePlugin

class Plugin(DataSourcePlugin):
    def validate_config(self, config):
        {check}
        return True, ""

    def get_source_name(self):
        return "a test's"

    def fetch_entries(self, field_mapping, interval):
        {fetch}
        return [{{"patient_id": "{patient}", "scheduled_start_date": "2030-01-01"}}]
"""


class Installation:
    """A folder, its configuration, and whatever was started with it.

    Args:
        folder: An empty one; the temporary directory of the processes is inside.

    Attributes:
        output: What `start` writes to; None: the file `log` in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config_path = folder / "pylantir.json"
        self.runtime_dir = folder / "run"
        self.database = folder / "worklist.db"
        self.db_url: str | None = None
        self.port = free_port()
        self.supervisor: subprocess.Popen[bytes] | None = None
        self.output: int | None = None
        self.environment = {
            name: value for name, value in os.environ.items() if name not in {"XDG_RUNTIME_DIR", "PYLANTIR_CONFIG"}
        }
        (folder / "tmp").mkdir()
        self.environment["TMPDIR"] = str(folder / "tmp")
        self._sessions: list[int] = []

    # ---- what the site's people do

    def configure(self, *sources: Mapping[str, Any], **changes: Any) -> None:
        """Write the configuration."""
        configuration = {
            "db_path": str(self.database),
            "runtime_dir": str(self.runtime_dir),
            "dicom": {"host": "127.0.0.1", "port": self.port},
            "data_sources": list(sources),
            **changes,
        }
        self.write(self.config_path.name, json.dumps(configuration))

    def write(self, name: str, text: str) -> Path:
        """Replace a file in one step, as a careful program does: somebody may read it at any moment."""
        path = self.folder / name
        draft = path.with_suffix(".new")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
        return path

    def write_csv(self, name: str, patients: Sequence[str], date: str = "2030-01-01") -> Path:
        """Write a table of patients."""
        lines = ["id,date,name", *(f"{patient},{date},Name^{patient}" for patient in patients)]
        return self.write(name, "\n".join(lines) + "\n")

    def write_plugin(self, name: str, *, patient: str = "X1", check: str = "pass", fetch: str = "pass") -> Path:
        """Drop a plugin into the folder for plugins."""
        path = self.folder / "plugins" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(PLUGIN.format(check=check, fetch=fetch, patient=patient), encoding="utf-8")
        return path

    def command(self, *arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run `pylantir-supervisor` with this configuration."""
        name, *rest = arguments
        done = subprocess.run(
            [COMMAND, name, "--config", self.config_path, *rest],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
            timeout=timeout_s,
            check=False,
        )
        if "--detach" in rest and (found := re.search(r"running as process (\d+)", done.stdout)):
            self._sessions.append(int(found[1]))
        return done

    def start(
        self, *options: str, until: str | None = "healthy", program: Sequence[str | Path] = (COMMAND,)
    ) -> subprocess.Popen[bytes]:
        """Run `pylantir-supervisor start` in the foreground of a session of its own."""
        with self.log_path.open("ab") as log:
            output = log.fileno() if self.output is None else self.output
            self.supervisor = subprocess.Popen(
                [*program, "start", "--config", self.config_path, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - one system call, prepared before the fork
            )
        self._sessions.append(self.supervisor.pid)
        if until:
            self.wait_for_health(until)
        return self.supervisor

    def terminate(self, timeout_s: float = PATIENCE_S) -> int:
        """Send SIGTERM to the supervisor and wait for its end; returns its exit status."""
        assert self.supervisor
        self.supervisor.send_signal(signal.SIGTERM)
        return self.supervisor.wait(timeout_s)

    @contextmanager
    def standing_still(self, *names: str) -> Iterator[None]:
        """Let processes see only what has become of the world at the end."""
        pids = [int(self.process(name)["pid"]) for name in names]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    # ---- what can be seen from outside

    @property
    def log_path(self) -> Path:
        return self.folder / "log"

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_for_log(self, pattern: str, timeout_s: float = PATIENCE_S) -> re.Match[str]:
        return wait_until(
            lambda: re.search(pattern, self.log()), lambda: f"in the log: {pattern}\n{self.log()[-3000:]}", timeout_s
        )  # type: ignore[no-any-return]

    def status(self) -> dict[str, Any]:
        """What `status --json` shows; {} while nobody answers, or `status` itself fails."""
        try:
            return dict(ask_supervisor(self.runtime_dir, {"command": "status"}, 30.0))
        except (OSError, ControlError, CommandRefused):
            return {}

    def process(self, name: str) -> dict[str, Any]:
        """One process of the status; {} if there is none."""
        return next((one for one in self.status().get("processes", ()) if one["name"] == name), {})

    def wait_for_health(self, health: str, timeout_s: float = PATIENCE_S) -> None:
        def reached() -> bool:
            assert self.supervisor is None or self.supervisor.poll() is None, f"it has ended:\n{self.log()}"
            return self.status().get("health") == health

        wait_until(reached, lambda: f"{health}: {self.status()}\n{self.log()[-3000:]}", timeout_s)

    def wait_for_successor(self, name: str, pid: int) -> int:
        """Wait until another process than `pid` runs under this name; returns its pid."""

        def successor() -> int | None:
            process = self.process(name)
            return process["pid"] if process.get("ready") and process["pid"] != pid else None

        return int(wait_until(successor, f"{name} is replaced"))

    def live_processes(self) -> dict[int, str]:
        """Pid -> command line of everything that still lives in the sessions started here."""
        found = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) in self._sessions and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = " ".join(process.cmdline())
        return found

    def leftovers(self, *, writer_was_last: bool = True) -> list[str]:
        """Sockets, locks and notes that an orderly end should have removed.

        Where the writer was replaced or killed at the end, it may not be the last to close the database: SQLite then keeps
        its write-ahead log, which the next start takes in.
        """
        places = (self.runtime_dir, self.folder / "tmp")
        found = [path for place in places if place.exists() for path in place.rglob("*") if not path.is_dir()]
        beside = list(self.folder.glob("worklist.db?*"))
        if not writer_was_last:
            beside = [path for path in beside if not path.name.endswith(("-wal", "-shm"))]
        return [str(path) for path in [*found, *beside]]

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the database."""
        if self.db_url:
            engine = create_engine(self.db_url, poolclass=NullPool)
            with engine.connect() as connection:
                return [tuple(row) for row in connection.exec_driver_sql(statement, values or None)]
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(statement, values).fetchall()

    def patients(self) -> list[str]:
        """Patients of all items that are not cancelled, by the database."""
        query = "select patient_id from worklist_items where performed_procedure_step_status = 'SCHEDULED' order by 1"
        with suppress(sqlite3.OperationalError):
            return [patient for (patient,) in self.rows(query)]
        return []

    def runs(self, source: str) -> list[str]:
        """When the cycles of a source began, those without error."""
        query = "select started_at from sync_runs where data_source = ? and error is null order by id"
        with suppress(sqlite3.OperationalError):
            return [started_at for (started_at,) in self.rows(query, source)]
        return []

    def find(self, findscu: str, *keys: str) -> list[dict[str, str]]:
        """Ask the worklist as a scanner does."""
        return find_worklist(findscu, self.port, self.folder, *(keys or ("PatientID",)))

    # ---- the end

    def close(self) -> None:
        """End whatever was started and is still there."""
        for pid in self.live_processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.supervisor:
            self.supervisor.wait(PATIENCE_S)
        wait_until(lambda: not self.live_processes(), "everything is gone")


@contextmanager
def own_disk(installation: Installation, size: str) -> Iterator[Path]:
    """Mount a disk of this size for the database."""
    folder = installation.folder / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system of its own is needed: run this as root, where mounting is allowed")
    installation.database = folder / "worklist.db"
    yield folder
    installation.close()
    subprocess.run(["umount", "--lazy", folder], check=True)
