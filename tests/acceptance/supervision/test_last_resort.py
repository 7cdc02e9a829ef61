"""What nobody expected, inside the supervisor: one request or reload fails alone; the loop itself ends everything.

The fault is put into the real program by a few lines that run before its `main`; it strikes as soon as a file named
`fault` is there.
"""

from __future__ import annotations

import errno
import subprocess
import sys
from contextlib import suppress

import pytest
from installation import Installation, csv_source, wait_until

from pylantir.errors import ControlError
from pylantir.ipc.control import ask_supervisor

FAULT = """\
import errno, os, sys
import {module} as module
owner = {owner}
original = owner.{name}
def faulty(*args, **kwargs):
    if os.path.exists("fault"):
        raise {error}
    return original(*args, **kwargs)
owner.{name} = faulty
from workers.commands.cli import main
sys.exit(main(sys.argv[1:]))
"""
EMFILE = f"OSError({errno.EMFILE}, 'Too many open files')"


def start_with_fault(installation: Installation, place: str, error: str = "LookupError('a defect')") -> None:
    module, _, rest = place.partition(":")
    owner, _, name = f"module.{rest}".rpartition(".")
    program = FAULT.format(module=module, owner=owner, name=name, error=error)
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    installation.start(program=[sys.executable, "-P", "-c", program])


def strike(installation: Installation) -> None:
    (installation.folder / "fault").touch()


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("workers.supervisor.loop:reap_orphans", "LookupError('a defect')"),
        ("workers.supervisor.loop:wait", EMFILE),
        ("workers.supervisor.loop:Child.check_deadlines", "LookupError('a defect')"),
        ("workers.supervisor.loop:Notifier.tell", EMFILE),
        ("workers.supervisor.loop:ServerWatch.serve", "MemoryError()"),
    ],
)
def test_an_unexpected_error_in_the_loop_ends_everything_with_a_status_that_starts_it_anew(
    installation: Installation, place: str, error: str
) -> None:
    start_with_fault(installation, place, error)
    strike(installation)
    # Something happens: the loop turns.
    with suppress(OSError, ControlError):
        ask_supervisor(installation.runtime_dir, {"command": "status"})
    assert installation.supervisor
    assert installation.supervisor.wait(15) == 1
    wait_until(lambda: not installation.live_processes(), "no process is left", 5)
    assert "an unexpected error in the supervisor; every process is ended" in installation.log()
    assert "Traceback" in installation.log()
    assert installation.leftovers(writer_was_last=False) == []
    (installation.folder / "fault").unlink()
    installation.start()


@pytest.mark.parametrize("place", ["workers.supervisor.loop:StatusReporter.describe"])
def test_a_status_that_raises_is_only_that_requests_failure(installation: Installation, place: str) -> None:
    start_with_fault(installation, place)
    strike(installation)
    failed = installation.command("status")
    assert failed.returncode not in {0, 3}
    assert "the supervisor's log has the traceback" in failed.stderr
    (installation.folder / "fault").unlink()
    assert installation.command("status").returncode == 0


@pytest.mark.parametrize(
    "place",
    [
        "workers.supervisor.reloading:ConfigurationCheck.__init__",
        "workers.supervisor.reloading:ConfigurationCheck.finish",
        "workers.supervisor.loop:plan_roles",
    ],
)
@pytest.mark.parametrize("error", ["LookupError('a defect')", EMFILE])
def test_a_reload_that_raises_is_only_that_reloads_failure(installation: Installation, place: str, error: str) -> None:
    start_with_fault(installation, place, error)
    pids = {process["name"]: process["pid"] for process in installation.status()["processes"]}
    strike(installation)
    refused = installation.command("reload")
    assert refused.returncode == 78
    assert "the configuration before stays in force" in refused.stderr
    (installation.folder / "fault").unlink()
    assert installation.status()["reload_problems"]
    assert installation.command("reload").returncode == 0
    assert installation.status()["reload_problems"] == []
    assert pids == {process["name"]: process["pid"] for process in installation.status()["processes"]}


def test_a_child_that_cannot_be_started_is_tried_again_while_the_others_go_on(installation: Installation) -> None:
    start_with_fault(installation, "workers.supervisor.children:make_token")
    pid = installation.process("a")["pid"]
    server = installation.process("mwl-scp")["pid"]
    strike(installation)
    subprocess.run(["kill", "-9", str(pid)], check=True)
    installation.wait_for_log("a cannot be started: a defect")
    (installation.folder / "fault").unlink()
    installation.wait_for_successor("a", pid)
    installation.wait_for_health("healthy")
    assert installation.process("mwl-scp")["pid"] == server
