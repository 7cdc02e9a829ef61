"""A campaign of system calls that fail, each once, and the oracle that judges what becomes of the tree of processes.

What is to fail is decided by a seed; when exactly that hits is up to the machine. After each failure the tree must be
whole again by itself within a deadline, or gone with a status that lets whoever started it start it anew: then that is
done, and it must be whole. Half alive is the finding.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from installation import Installation, csv_source, wait_until
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind
from scanner import beginning, connected, create

from pylantir.ipc.control import ask_supervisor

INJECT = Path(__file__).parent / "inject"
WHOLE_WITHIN_S = 90.0
FIRES_WITHIN_S = 2.0
ALWAYS_THERE = 200
"""Records of each source that never change. Cycles that fail leave their newest record behind, and the next whole one
withdraws all of these at once: against so many they never look like a truncated export."""
_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
SQLITE_BUSY, SQLITE_NOMEM, SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN = 5, 7, 10, 13, 14
CALLS: dict[str, tuple[int, ...]] = {
    "accept": (*_NO_FILES, errno.EAGAIN, errno.ECONNABORTED, errno.EINTR),
    "recv": (errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.ECONNRESET),
    "send": (errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EINTR, errno.EPIPE),
    "connect": (errno.EAGAIN, errno.ECONNREFUSED, errno.ENOMEM),
    "bind": (errno.ENOSPC, errno.EACCES, errno.ENOMEM),
    "listen": (errno.EADDRINUSE,),
    "socket": _NO_FILES,
    "open": (*_NO_FILES, errno.ENOSPC, errno.EIO),
    "read": (errno.EIO, errno.EAGAIN, errno.ENOMEM, errno.EINTR),
    "write": (errno.ENOSPC, errno.EIO, errno.EPIPE, errno.EAGAIN),
    "dup": _NO_FILES[:2],
    "pipe": _NO_FILES[:2],
    "stat": (errno.EIO, errno.ENOMEM, errno.EACCES),
    "listdir": (errno.EMFILE, errno.ENOMEM, errno.EIO),
    "scandir": (errno.EMFILE, errno.ENOMEM, errno.EIO),
    "fsync": (errno.EIO, errno.ENOSPC),
    "unlink": (errno.EIO, errno.EACCES),
    "replace": (errno.ENOSPC, errno.EIO),
    "select": (errno.ENOMEM, errno.EINTR, errno.EBADF),
    "register": (errno.ENOMEM, errno.ENOSPC),
    "epoll": _NO_FILES,
    "spawn": (errno.EAGAIN, errno.ENOMEM),
    "thread": (errno.EAGAIN,),
    "sqlite": (SQLITE_BUSY, SQLITE_NOMEM, SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN),
}
"""Per call: with what it fails. For `sqlite` these are SQLite's primary result codes."""
USED = {
    "supervisor": [
        "accept", "recv", "send", "open", "read", "dup", "pipe", "stat", "socket", "select", "select", "register", "spawn",
        "write", "connect",
    ],
    "writer": ["accept", "recv", "send", "select", "register", "stat", "sqlite", "sqlite", "sqlite", "open", "write", "thread"],
    "mwl-scp": [
        "accept", "recv", "send", "select", "register", "epoll", "socket", "connect", "sqlite", "sqlite", "thread", "write",
    ],
    "a": ["recv", "send", "select", "register", "epoll", "connect", "socket", "stat", "open", "listdir", "write"],
    "start": ["open", "socket", "stat", "dup", "thread", "sqlite", "epoll", "register", "select", "recv", "send", "connect"],
}  # fmt: skip
"""Which calls each process makes; `start` is whichever process begins next."""


class Campaign:
    """Lets system calls of an installation fail.

    Args:
        installation: An empty one.
        seed: Decides what happens.
    """

    def __init__(self, installation: Installation, seed: int) -> None:
        self.installation = installation
        self.fired: Counter[str] = Counter()
        self.ended = 0
        self.problems: list[str] = []
        self.slowest_s = 0.0
        self._chance = random.Random(seed)
        self._orders = installation.folder / "orders"
        self._orders.mkdir()
        self._uids: list[str] = []
        self._number = 0
        installation.environment["PYTHONPATH"] = str(INJECT)
        installation.environment["PYLANTIR_FAULTS"] = str(self._orders)

    def run(self, faults: int, for_s: float = float("inf")) -> None:
        """Set everything up, and let so many calls fail, or as many as there is time for, but one at least."""
        watched = {"watch_for_changes": True}
        self.installation.configure(
            *(csv_source(name, f"{name}.csv", config={"file_path": f"{name}.csv", **watched}) for name in ("a", "b")),
            mpps={"timeout": 5},
        )
        self._change_sources()
        self.installation.start()
        ends_at = time.monotonic() + for_s
        while self.fired.total() < faults and (time.monotonic() < ends_at or not self.fired):
            self._let_fail()

    def report(self) -> str:
        """What happened, for people."""
        return (
            f"{self.fired.total()} calls failed ({', '.join(f'{what} {n}' for what, n in sorted(self.fired.items()))}); "
            f"the tree ended {self.ended} times; slowest return {self.slowest_s:.1f} s; {len(self._uids)} reports"
        )

    def _let_fail(self) -> None:
        target = self._chance.choice(list(USED))
        call = self._chance.choice(USED[target])
        number, after = self._chance.choice(CALLS[call]), self._chance.choice((0, 0, 1, 2, 5, 20))
        order = json.dumps({"call": call, "number": number, "after": after})
        what = f"{target}: {call} fails with {number if call == 'sqlite' else errno.errorcode[number]} after {after}"
        log_before = len(self.installation.log())
        if target == "start":
            self.order("next", order)
            self._kill(self._chance.choice(("a", "writer", "mwl-scp")))
        else:
            self.order(str(self._pid(target)), order)
        began = time.monotonic()
        while time.monotonic() < began + FIRES_WITHIN_S and not list(self._orders.glob("*.fired")) and self._lives():
            self._stir()
        is_fired = bool(list(self._orders.glob("*.fired")))
        problem = self._wait_until_whole()
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        for left in self._orders.iterdir():
            left.unlink(missing_ok=True)
        if is_fired:
            self.fired[f"{target} {call}"] += 1
        if problem:
            said = self.installation.log()[log_before:][-3000:]
            self.problems.append(f"{what} (fired: {is_fired}): {problem}\n{said}")
            print(self.problems[-1], flush=True)
            self.installation.close()
            self.installation.start()

    def order(self, name: str, order: str) -> None:
        """Let a call fail in the process of this id."""
        draft = self._orders / "draft"
        draft.write_text(order)
        draft.replace(self._orders / name)

    def _pid(self, name: str) -> int:
        assert self.installation.supervisor
        if name == "supervisor":
            return self.installation.supervisor.pid
        return int(self.installation.process(name).get("pid") or 0)

    def _kill(self, name: str) -> None:
        with suppress(ProcessLookupError):
            if pid := self._pid(name):
                os.kill(pid, signal.SIGKILL)

    def _lives(self) -> bool:
        return self.installation.supervisor is not None and self.installation.supervisor.poll() is None

    # ---- what goes on meanwhile

    def _stir(self) -> None:
        """What happens at a site: sources change, scanners ask and report, somebody looks at the status."""
        self._change_sources()
        self._ask()
        self._report()
        with suppress(Exception):
            commands = ({"command": "status"}, {"command": "reload"}, {"command": "restart", "name": "b"})
            ask_supervisor(self.installation.runtime_dir, self._chance.choice(commands))
        time.sleep(0.05)

    def _change_sources(self) -> None:
        self._number += 1
        for name in ("a", "b"):
            patients = [f"{name}{self._number}", *(f"{name}-always-{number}" for number in range(ALWAYS_THERE))]
            self.installation.write_csv(f"{name}.csv", patients)

    def _ask(self) -> set[str]:
        """Ask the worklist; what it gave, empty if it did not answer with success."""
        entity = AE(ae_title="MR1")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 3
        entity.add_requested_context(ModalityWorklistInformationFind)
        wanted = Dataset()
        wanted.PatientID = ""
        with suppress(Exception):
            association = entity.associate("127.0.0.1", self.installation.port)
            if association.is_established:
                answers = list(association.send_c_find(wanted, ModalityWorklistInformationFind))
                association.release()
                if answers and answers[-1][0].get("Status") == 0:
                    return {identifier.PatientID for _, identifier in answers[:-1] if identifier}
        return set()

    def _report(self) -> bool:
        """Report a scan; remembered if the scanner is told that it is stored."""
        uid = f"2.25.{time.time_ns()}"
        with suppress(Exception), connected(self.installation.port) as association:
            association.dimse_timeout = 8
            if create(association, uid, beginning(f"{uid}.1", PatientID="walk-in")).get("Status") == 0:
                self._uids.append(uid)
                return True
        return False

    # ---- the oracle

    def _wait_until_whole(self) -> str | None:
        """Wait until the tree is whole, if need be after a start; says what is wrong if that does not come."""
        deadline = time.monotonic() + WHOLE_WITHIN_S
        if not self._lives():
            self.ended += 1
            assert self.installation.supervisor
            if self.installation.supervisor.returncode == 0:
                return "the tree has ended with status 0: nobody starts it anew"
            with suppress(AssertionError):
                wait_until(lambda: not self.installation.live_processes(), "gone")
            if left := self.installation.live_processes():
                return f"the tree has ended, but not wholly: {left}"
            self.installation.start(until=None)
        self._change_sources()
        lacks = ["nothing was looked at"]
        while lacks and time.monotonic() < deadline:
            lacks = self._look()
            if not self._lives():
                return self._wait_until_whole()
        return "; ".join(lacks) or None

    def _look(self) -> list[str]:
        """What the tree lacks to be whole."""
        time.sleep(0.1)
        if (health := self.installation.status().get("health")) != "healthy":
            problems = [one.get("problem") for one in self.installation.status().get("processes", ())]
            return [f"health {health}: {[problem for problem in problems if problem]}"]
        newest = {f"{name}{self._number}" for name in ("a", "b")}
        if not newest <= (found := self._ask()):
            return [f"a scanner is not shown {newest - found}"]
        if not self._report():
            return ["a report is not stored"]
        known = {uid for (uid,) in self.installation.rows("select sop_instance_uid from mpps_instances")}
        if lost := set(self._uids) - known:
            return [f"reports that were answered with success are lost: {sorted(lost)[:3]} of {len(lost)}"]
        return []
