"""Under a service manager, and as the first process of a container."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from installation import COMMAND, Installation, csv_source, plugin_source, wait_until

REPOSITORY = Path(__file__).parents[3]
UNIT = REPOSITORY / "etc/systemd/pylantir.service"


class ServiceManager:
    """The socket that systemd would offer. It is always read: it holds ten messages only."""

    def __init__(self, path: Path) -> None:
        self.heard: list[str] = []
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._path)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def wait_for(self, beginning: str, after: int = 0, times: int = 1) -> None:
        """Wait until so many messages, of those after the first ones, have begun like this."""
        wait_until(
            lambda: sum(text.startswith(beginning) for text in self.heard[after:]) >= times,
            lambda: f"{beginning} in {self.heard}",
        )

    def close(self) -> None:
        # An empty message ends the listener.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"", self._path)
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while text := self._socket.recv(4096).decode():
            self.heard.append(text)


@pytest.fixture
def manager(installation: Installation) -> Iterator[ServiceManager]:
    path = installation.folder / "notify"
    made = ServiceManager(path)
    installation.environment |= {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1000000"}
    yield made
    made.close()


def test_the_service_manager_hears_how_it_goes(installation: Installation, manager: ServiceManager) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_plugin("nosy", fetch="open('environment', 'w').write(' '.join(os.environ))")
    installation.configure(csv_source("a", "a.csv"), plugin_source("nosy"))
    installation.start(until=None)
    manager.wait_for("READY=1")
    manager.wait_for("STATUS=4 of 4 processes running")
    assert "NOTIFY_SOCKET" not in (installation.folder / "environment").read_text()

    (installation.folder / "a.csv").unlink()
    manager.wait_for("STATUS=4 of 4 processes running; a: ")

    before = len(manager.heard)
    installation.supervisor.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
    manager.wait_for("RELOADING=1\nMONOTONIC_USEC=", before)
    manager.wait_for("READY=1", before)

    manager.wait_for("WATCHDOG=1", len(manager.heard), times=3)

    assert installation.terminate() == 0
    manager.wait_for("STOPPING=1")


def test_a_broken_source_does_not_hold_up_readiness(installation: Installation, manager: ServiceManager) -> None:
    installation.write_plugin("crashing", check="os._exit(5)")
    installation.configure(plugin_source("crashing"))
    installation.start(until=None)
    manager.wait_for("READY=1")
    assert installation.terminate() == 0


def test_the_unit_is_valid_and_hardened(tmp_path: Path) -> None:
    assert shutil.which("systemd-analyze"), "systemd-analyze is needed: apt-get install systemd"
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/pylantir/bin/pylantir-supervisor", "/bin/true"))
    environment = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert "pylantir.service:" not in verified.stderr
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout


def can_unshare() -> bool:
    tried = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(tried, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="a PID namespace is needed (root, or a container that may make one)")
def test_as_process_one_it_reaps_orphans_and_stops_in_order(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    orphan = "os.fork() or (os.fork() and os._exit(0)) or (time.sleep(0.2), os._exit(0))"
    installation.write_plugin("forks", fetch=orphan)
    installation.configure(csv_source("a", "a.csv"), plugin_source("forks"))
    with installation.log_path.open("ab") as log:
        container = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", COMMAND, "start", "--config", installation.config_path],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=installation.environment, cwd=installation.folder,
            start_new_session=True,
        )  # fmt: skip
    installation.supervisor = container
    installation._sessions.append(container.pid)
    installation.wait_for_health("healthy")
    assert installation.status()["processes"][0]["pid"] == 1
    wait_until(lambda: len(installation.runs("forks")) >= 4, "some orphans")

    (first,) = (Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text(encoding="ascii")).split()

    def zombies() -> list[str]:
        children = Path(f"/proc/{first}/task/{first}/children").read_text(encoding="ascii").split()
        states = {}
        for pid in children:
            # It may be reaped between two lines.
            with suppress(OSError):
                states[pid] = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        return [pid for pid, state in states.items() if state == "Z"]

    wait_until(lambda: not zombies(), lambda: f"reaped: {zombies()}")
    os.kill(int(first), signal.SIGTERM)
    assert container.wait(120) == 0
    assert installation.leftovers() == []
