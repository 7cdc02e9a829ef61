"""A campaign of kills and other disturbances at random moments, and the oracle that judges what is left.

Processes are killed, crash with SIGSEGV, are stopped for a while; the names of the sockets are swept away; the disk is
full for the writer; whoever reads the log stalls; somebody sets the clock. What is to happen is decided by a seed: the same seed does the same to the same processes after the
same pauses. When exactly that hits them is up to the machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import resource
import signal
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from installation import Installation, csv_source, plugin_source, wait_until
from scanner import beginning, change, connected, create, ending

from pylantir.entry import STATUSES
from pylantir.ipc.control import ask_supervisor

ENTRIES = 400
TARGETS = {"a": 5, "b": 5, "stream": 4, "writer": 10, "mwl-scp": 4, "supervisor": 2}
"""Who is killed how often, in proportion."""
ACTIONS = {"kill": 30, "segfault": 4, "pause": 4, "sweep": 1, "full disk": 2, "stalled log": 2, "clock": 3}
"""What is done how often, in proportion."""
REST = 0.1
"""After this share of the disturbances, the next one waits until scanners are served again."""
CLOCK_STEPS_S = (-90_000.0, -3700.0, -61.0, -2.0, 2.0, 61.0, 3700.0, 90_000.0)
INJECT = Path(__file__).parents[1] / "faults" / "inject"
LONGEST_PAUSE_S = 1.5
SLOWEST_REPLACEMENT_S = 100.0
IMPATIENCE_S = 3.0
"""How long the scanner waits for an answer that may have died with its server."""
STREAM = """\
import json
from pylantir.data_sources.base import DataSourcePlugin

class Plugin(DataSourcePlugin):
    def validate_config(self, config):
        return True, ""

    def get_source_name(self):
        return "one record after the other"

    def fetch_entries(self, field_mapping, interval):
        with open("stream.json") as file:
            for patient in json.load(file):
                yield {"patient_id": patient, "scheduled_start_date": "2030-01-01", "source_record_id": patient}
"""


@dataclass(slots=True)
class Scanner:
    """Reports scans as long as it lasts, and notes what was answered with success."""

    port: int
    prefix: str
    created: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    failed: int = 0
    is_over: bool = False

    def run(self) -> None:
        number = 0
        while not self.is_over:
            # A server that is killed takes the association along, in whatever way that shows.
            with suppress(Exception), connected(self.port) as association:
                association.dimse_timeout = association.acse_timeout = IMPATIENCE_S
                while association.is_established and not self.is_over:
                    number += 1
                    uid = f"2.25.{self.prefix}{number}"
                    exam = beginning(f"{uid}.1", PatientID=f"walk-in {number}")
                    if create(association, uid, exam).get("Status") == 0:
                        self.created.append(uid)
                        if change(association, uid, ending()).get("Status") == 0:
                            self.completed.append(uid)
                    else:
                        self.failed += 1
                    time.sleep(0.05)
            time.sleep(0.05)


class LogReader:
    """Copies what the processes log into a file, and stalls when told to; the pipe between is a small one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ours, self.theirs = os.pipe()
        fcntl.fcntl(self.theirs, fcntl.F_SETPIPE_SZ, 4096)
        self._goes_on = threading.Event()
        self._goes_on.set()
        threading.Thread(target=self._copy, daemon=True).start()

    def stall(self, length_s: float) -> None:
        """Read nothing for so long."""
        self._goes_on.clear()
        time.sleep(length_s)
        self._goes_on.set()

    def close(self) -> None:
        """Let the reader end when the last process has."""
        os.close(self.theirs)

    def _copy(self) -> None:
        with self._path.open("ab", buffering=0) as file:
            while data := os.read(self._ours, 65536):
                file.write(data)
                self._goes_on.wait()
        os.close(self._ours)


class Campaign:
    """Kills processes of an installation.

    Args:
        installation: An empty one.
        seed: Decides what happens.
    """

    def __init__(self, installation: Installation, seed: int) -> None:
        self.installation = installation
        self.kills: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._chance = random.Random(seed)
        self._content = {name: {f"{name}{number:05d}" for number in range(ENTRIES)} for name in ("a", "b", "stream")}
        self._next_number = ENTRIES
        self._scanner = Scanner(installation.port, f"{seed % 10_000}00")
        self._reader = LogReader(installation.log_path)
        installation.output = self._reader.theirs
        self._clock = installation.folder / "clock"
        self._clock.write_bytes(struct.pack("d", 0.0))
        installation.environment |= {"PYTHONPATH": str(INJECT), "PYLANTIR_CLOCK": str(self._clock)}

    def run(self, kills: int) -> None:
        """Set everything up, kill so many times, and wait until the sources are in the database."""
        self.installation.write_plugin("stream").write_text(STREAM, encoding="utf-8")
        watched = {"watch_for_changes": True}
        self.installation.configure(
            *(csv_source(name, f"{name}.csv", config={"file_path": f"{name}.csv", **watched}) for name in ("a", "b")),
            plugin_source("stream"),
        )
        for name in self._content:
            self._write(name)
        self.installation.start()
        reporting = threading.Thread(target=self._scanner.run)
        reporting.start()
        try:
            for _ in range(kills):
                self._change_a_source()
                time.sleep(self._chance.choice((0.0, 0.02, 0.1, 0.3, 0.6, 4.0)) * self._chance.random())
                self._disturb()
                if self._chance.random() < REST:
                    self._wait_for_scans()
            self._settle()
        finally:
            self._scanner.is_over = True
            reporting.join(60)
            self._reader.close()

    def judge(self) -> list[str]:
        """What is not as it should be; empty if nothing was lost, doubled or invented."""
        installation = self.installation
        problems = []
        rows = installation.rows("select patient_id, performed_procedure_step_status from worklist_items")
        planned = [(patient, status) for patient, status in rows if not patient.startswith("walk-in")]
        doubled = [patient for patient, times in Counter(patient for patient, _ in planned).items() if times > 1]
        if doubled:
            problems.append(f"doubled: {sorted(doubled)[:5]} of {len(doubled)}")
        wrong = {patient for patient, status in planned if status == "SCHEDULED"} ^ self._expected()
        if wrong:
            problems.append(f"in the table or in the sources, not in both: {sorted(wrong)[:5]} of {len(wrong)}")
        if not installation.db_url and installation.rows("pragma integrity_check") != [("ok",)]:
            problems.append("the database is damaged")
        problems += self._judge_audit()
        reported = dict(installation.rows("select sop_instance_uid, status from mpps_instances"))
        lost = [uid for uid in self._scanner.created if uid not in reported]
        lost += [uid for uid in self._scanner.completed if reported.get(uid) != "COMPLETED"]
        if lost:
            problems.append(f"reports that were answered with success and are not there: {lost[:5]} of {len(lost)}")
        return problems

    def report(self) -> str:
        """What happened, for people."""
        kills = ", ".join(f"{name} {times}" for name, times in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} disturbances ({kills}); slowest return {self.slowest_s:.2f} s; {len(self._expected())} "
            f"entries; {len(self._scanner.created)} scans reported, {len(self._scanner.completed)} to their end"
        )

    def _expected(self) -> set[str]:
        return set().union(*self._content.values())

    def _change_a_source(self) -> None:
        """Some patients leave, some come; never so many that it would look like a mistake."""
        name = self._chance.choice(list(self._content))
        leaving = self._chance.sample(sorted(self._content[name]), self._chance.randrange(9))
        coming = {f"{name}{self._next_number + number:05d}" for number in range(self._chance.randrange(9))}
        self._next_number += len(coming)
        self._content[name] = (self._content[name] - set(leaving)) | coming
        self._write(name)

    def _write(self, name: str) -> None:
        patients = sorted(self._content[name])
        if name != "stream":
            self.installation.write_csv(f"{name}.csv", patients)
            return
        self.installation.write("stream.json", json.dumps(patients))

    def _disturb(self) -> None:
        """Do one thing to one process or to all; what follows comes whatever has become of it."""
        action = self._chance.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        name = self._chance.choices(list(TARGETS), list(TARGETS.values()))[0]
        length_s = self._chance.random() * LONGEST_PAUSE_S
        if action == "sweep":
            self.kills["sweep"] += 1
            for path in self.installation.runtime_dir.glob("*.sock"):
                path.unlink(missing_ok=True)
        elif action == "full disk":
            self.kills["full disk"] += 1
            self._fill_disk(length_s)
        elif action == "stalled log":
            self.kills["stalled log"] += 1
            self._reader.stall(length_s)
        elif action == "clock":
            self.kills["clock"] += 1
            with self._clock.open("r+b") as file:
                file.write(struct.pack("d", self._chance.choice(CLOCK_STEPS_S)))
        elif name == "supervisor":
            self.kills[name] += 1
            self._kill_supervisor()
        else:
            self.kills[name if action == "kill" else f"{name} {action}"] += 1
            self._hit(name, action, length_s)

    def _fill_disk(self, length_s: float) -> None:
        """Let the writer write nothing more for a while: to it, every file has reached the largest size."""
        pid = self.installation.process("writer").get("pid")
        with suppress(ProcessLookupError):
            if pid:
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
                time.sleep(length_s)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    def _hit(self, name: str, action: str, length_s: float) -> None:
        """Kill one process, in whatever state it is, or stop it for a while; its successor may be hit by the next."""
        if (self.installation.process(name).get("retry_in_s") or 0) > 2:
            # It was killed so often before it could be of use that it waits for long: as an operator would.
            ask_supervisor(self.installation.runtime_dir, {"command": "restart", "name": name}, 60)
        began = time.monotonic()
        pid = wait_until(lambda: self.installation.process(name).get("pid"), f"{name} has a process")
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        with suppress(ProcessLookupError):
            os.kill(pid, {"kill": signal.SIGKILL, "segfault": signal.SIGSEGV, "pause": signal.SIGSTOP}[action])
            if action == "pause":
                time.sleep(length_s)
                os.kill(pid, signal.SIGCONT)

    def _kill_supervisor(self) -> None:
        supervisor = self.installation.supervisor
        assert supervisor
        children = psutil.Process(supervisor.pid).children(recursive=True)
        supervisor.kill()
        supervisor.wait(120)
        _, alive = psutil.wait_procs(children, 30)
        survivors = [one.pid for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        assert not survivors, f"the supervisor's death is survived by {survivors}"
        self.installation.start(until=None)
        wait_until(self.installation.status, "the new instance answers")

    def _settle(self) -> None:
        """Nobody is killed any more: wait until everybody is back and the database has what the sources have."""
        self.installation.wait_for_health("healthy", SLOWEST_REPLACEMENT_S)
        self._wait_for_scans()
        expected = sorted(self._expected())
        planned = (
            "select patient_id from worklist_items where performed_procedure_step_status = 'SCHEDULED' "
            "and patient_id not like 'walk-in%' order by 1"
        )
        wait_until(
            lambda: [patient for (patient,) in self.installation.rows(planned)] == expected,
            lambda: f"the table equals the sources: {self.judge()}",
            SLOWEST_REPLACEMENT_S,
        )

    def _wait_for_scans(self) -> None:
        scans = len(self._scanner.completed)
        wait_until(lambda: len(self._scanner.completed) > scans, "scans are taken again", SLOWEST_REPLACEMENT_S)

    def _judge_audit(self) -> list[str]:
        """Followed back from what the table has, the audit log leads to how each item came into being."""
        columns = ("performed_procedure_step_status", "patient_id", "scheduled_start_date", "patient_name")
        rows = self.installation.rows(f"select id, {', '.join(columns)} from worklist_items")
        values = {item: dict(zip(columns, row, strict=True)) for item, *row in rows}
        assert {known["performed_procedure_step_status"] for known in values.values()} <= set(STATUSES)
        unborn = set(values)
        problems = []
        log = self.installation.rows("select item_id, action, changes from audit_log order by id desc")
        for item, action, text in log:
            if action == "conflict" or item is None:
                continue
            if item not in unborn:
                problems.append(f"item {item} was there before it was created, or is gone")
            known = values.setdefault(item, {})
            for name, step in json.loads(text or "{}").items():
                if isinstance(step, list) and name in columns:
                    if known.get(name) != step[1]:
                        problems.append(f"audit of item {item}: {name} became {step[1]}, but was {known.get(name)}")
                    known[name] = step[0]
            if action == "created":
                unborn.discard(item)
                if known.get("performed_procedure_step_status") not in (None, "SCHEDULED"):
                    problems.append(f"audit of item {item}: it was created {known['performed_procedure_step_status']}")
        return problems[:5] + [f"item {item} was never created" for item in sorted(unborn)[:5]]
