"""What nobody expected, inside the supervisor: one request or reload fails alone; the loop itself ends everything.

The faults are put into the real program by a few lines that run before its `main`; each strikes as long as a file of
its name is there.
"""

from __future__ import annotations

import errno
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from installation import Installation, csv_source, wait_until

from pylantir.errors import ControlError
from pylantir.ipc.control import ask_supervisor

PROGRAM = """\
import operator, os, sys
from importlib import import_module

def put_fault(place, file, error):
    module, _, path = place.partition(":")
    owner, _, name = path.rpartition(".")
    owner = operator.attrgetter(owner)(import_module(module)) if owner else import_module(module)
    original = getattr(owner, name)
    def faulty(*args, **kwargs):
        if os.path.exists(file):
            raise error
        return original(*args, **kwargs)
    setattr(owner, name, faulty)

{faults}
# A process that is slow to end is not killed: what it leaves behind is judged.
from workers.supervisor import loop
loop.STOP_GRACE_S = 60.0
from workers.commands.cli import main
sys.exit(main(sys.argv[1:]))
"""
DEFECT = "LookupError('a defect')"
EMFILE = f"OSError({errno.EMFILE}, 'Too many open files')"


def prepare_faults(installation: Installation, *faults: tuple[str, str]) -> tuple[list[str], list[Path]]:
    """Configure an installation.

    Returns:
        The program that has a fault at each place, and for each the file whose presence lets it strike.
    """
    files = [installation.folder / f"fault-{number}" for number in range(len(faults))]
    calls = (
        f"put_fault({place!r}, {file.name!r}, {error})" for (place, error), file in zip(faults, files, strict=True)
    )
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    return [sys.executable, "-P", "-c", PROGRAM.format(faults="\n".join(calls))], files


def start_with_faults(installation: Installation, *faults: tuple[str, str]) -> list[Path]:
    """Start the supervisor with a fault at each place; give for each the file whose presence lets it strike."""
    program, files = prepare_faults(installation, *faults)
    installation.start(program=program)
    return files


def test_an_unexpected_error_in_the_loop_ends_everything_with_a_status_that_starts_it_anew(
    installation: Installation,
) -> None:
    program, faults = prepare_faults(
        installation,
        ("workers.supervisor.loop:Orphans.service", DEFECT),
        ("workers.supervisor.loop:wait", EMFILE),
        ("workers.supervisor.children.child:Child.check_deadlines", DEFECT),
        ("workers.supervisor.loop:Notifier.tell", EMFILE),
        ("workers.supervisor.loop:ServerWatch.serve", "MemoryError()"),
    )
    for number, fault in enumerate(faults, start=1):
        supervisor = installation.start(program=program)
        fault.touch()
        # Something happens: the loop turns.
        with suppress(OSError, ControlError):
            ask_supervisor(installation.runtime_dir, {"command": "status"})
        assert supervisor.wait(120) == 1
        wait_until(lambda: not installation.live_processes(), "no process is left")
        assert installation.log().count("an unexpected error in the supervisor; every process is ended") == number
        assert installation.log().count("Traceback (most recent call last)") >= number
        assert installation.leftovers(writer_was_last=False) == []
        fault.unlink()
    installation.start(program=program)


def test_a_request_that_raises_fails_alone(installation: Installation) -> None:
    reload_faults = [
        ("workers.supervisor.reloading:ConfigurationCheck.__init__", DEFECT),
        ("workers.supervisor.reloading:ConfigurationCheck.__init__", EMFILE),
        ("workers.supervisor.reloading:ConfigurationCheck.finish", DEFECT),
        ("workers.supervisor.loop:plan_roles", EMFILE),
    ]
    status_fault, *files = start_with_faults(
        installation, ("workers.supervisor.loop:StatusReporter.describe", DEFECT), *reload_faults
    )
    pids = {process["name"]: process["pid"] for process in installation.status()["processes"]}
    for fault in files:
        fault.touch()
        refused = installation.command("reload")
        assert refused.returncode == 78
        assert "the configuration before stays in force" in refused.stderr
        fault.unlink()
        assert installation.status()["reload_problems"]
        assert installation.command("reload").returncode == 0
        assert installation.status()["reload_problems"] == []
    status_fault.touch()
    failed = installation.command("status")
    assert failed.returncode not in {0, 3}
    assert "the supervisor's log has the traceback" in failed.stderr
    status_fault.unlink()
    assert installation.command("status").returncode == 0
    assert pids == {process["name"]: process["pid"] for process in installation.status()["processes"]}


def test_a_child_that_cannot_be_started_is_tried_again_while_the_others_go_on(installation: Installation) -> None:
    (fault,) = start_with_faults(installation, ("workers.supervisor.children.child:make_token", DEFECT))
    pid = installation.process("a")["pid"]
    server = installation.process("mwl-scp")["pid"]
    fault.touch()
    subprocess.run(["kill", "-9", str(pid)], check=True)
    installation.wait_for_log("a cannot be started: LookupError")
    fault.unlink()
    installation.wait_for_successor("a", pid)
    installation.wait_for_health("healthy")
    assert installation.process("mwl-scp")["pid"] == server
