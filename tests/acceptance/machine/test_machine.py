"""An ordinary machine's habits: users, ports, hosts, working directories, foreign folders, few descriptors, log files."""

from __future__ import annotations

import os
import pwd
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from installation import COMMAND, Installation, csv_source, plugin_source, wait_until

from pylantir.config.locate import default_runtime_dir
from workers.commands.detach import READY_TIMEOUT_S

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
NOBODY = pwd.getpwnam("nobody")

AS_NOBODY = f"""\
import os, sys, signal, difflib, encodings.utf_8_sig, encodings.idna
import pylantir.cli.supervisor
from workers.commands import cli, ending, log_view, status_view
# What is installed here need not be readable for everybody: it is loaded before.
os.setgroups([])
os.setresgid(*3 * ({NOBODY.pw_gid},))
os.setresuid(*3 * ({NOBODY.pw_uid},))
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def running(installation: Installation) -> Installation:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    installation.start()
    return installation


@pytest.fixture
def open_to_all() -> Iterator[Installation]:
    """An installation in a folder that every user may enter: pytest closes its own whenever a run of it begins."""
    with tempfile.TemporaryDirectory(prefix="pyl-") as folder:
        Path(folder).chmod(0o755)
        made = Installation(Path(folder))
        yield made
        made.close()


def as_nobody(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user who may read the configuration, but belongs to nothing of it."""
    return subprocess.run(
        [sys.executable, "-P", "-c", AS_NOBODY, *arguments, "--config", installation.config_path],
        capture_output=True, text=True, env=installation.environment, cwd="/", timeout=120, check=False,
    )  # fmt: skip


# ---- users


IMPOSTOR = """\
import os, sys
from pathlib import Path
from pylantir.ipc.control import SOCKET_NAME
from pylantir.ipc.frames import FrameSocket, encode_frame
from pylantir.ipc.sockets import listen_at
listener = listen_at(Path(sys.argv[1]) / SOCKET_NAME)
listener.setblocking(True)
print("listens", flush=True)
while True:
    frames = FrameSocket(listener.accept()[0])
    frames.send(encode_frame({"health": "healthy", "processes": [{"name": "supervisor", "pid": int(sys.argv[2])}]}))
"""


def test_stop_ends_who_answers_whatever_process_the_answer_names(installation: Installation) -> None:
    installation.configure(csv_source("a", "a.csv"))
    installation.runtime_dir.mkdir(mode=0o700)
    with (
        subprocess.Popen(["sleep", "600"]) as bystander,
        subprocess.Popen(
            [sys.executable, "-c", IMPOSTOR, installation.runtime_dir, str(bystander.pid)], stdout=subprocess.PIPE
        ) as impostor,
    ):
        try:
            assert impostor.stdout
            assert impostor.stdout.readline() == b"listens\n"
            assert installation.command("stop").returncode == 0
            assert impostor.wait(120) == -signal.SIGTERM
            assert bystander.poll() is None
        finally:
            impostor.kill()
            bystander.kill()


@AS_ROOT
@pytest.mark.parametrize("is_named", [True, False])
def test_another_user_is_told_whose_the_instance_is(open_to_all: Installation, is_named: bool) -> None:
    open_to_all.write_csv("a.csv", ["P1"])
    if is_named:
        open_to_all.configure(csv_source("a", "a.csv"))
    else:
        open_to_all.configure(csv_source("a", "a.csv"), runtime_dir=None)
        open_to_all.runtime_dir = default_runtime_dir(open_to_all.config_path, open_to_all.environment)
    open_to_all.start()
    for command in (["status"], ["stop"], ["reload"], ["sync", "a"], ["log"]):
        refused = as_nobody(open_to_all, *command)
        assert refused.returncode == 4, refused.stderr
        assert "belongs to root; use sudo" in refused.stderr
    assert open_to_all.status()


@AS_ROOT
def test_an_old_folder_of_another_user_is_no_instance(open_to_all: Installation) -> None:
    open_to_all.configure(csv_source("a", "a.csv"))
    open_to_all.runtime_dir.mkdir(mode=0o700)
    # Of a user who runs nothing here.
    os.chown(open_to_all.runtime_dir, 54321, 54321)
    told = as_nobody(open_to_all, "status")
    assert told.returncode == 3, told.stderr


@AS_ROOT
def test_a_runtime_folder_that_cannot_be_made_is_named_with_its_key(installation: Installation) -> None:
    installation.configure(csv_source("a", "a.csv"), runtime_dir="/proc/run")
    failed = installation.command("start")
    assert failed.returncode == 1
    assert "runtime_dir: /proc/run: cannot be made" in failed.stderr


@AS_ROOT
def test_a_folder_that_somebody_else_has_made_in_the_temporary_directory_is_never_used(
    installation: Installation,
) -> None:
    installation.write_csv("a.csv", ["P1"])
    foreign = default_runtime_dir(installation.config_path, installation.environment)
    foreign.mkdir(mode=0o700)
    os.chown(foreign, NOBODY.pw_uid, NOBODY.pw_gid)
    installation.configure(csv_source("a", "a.csv"), runtime_dir=None)
    failed = installation.command("start")
    assert failed.returncode == 1
    assert str(foreign) in failed.stderr
    assert "another user (nobody)" in failed.stderr

    installation.configure(csv_source("a", "a.csv"))
    installation.start()
    assert installation.wait_for_log("WARNING .*will not find this instance.*another user")
    assert installation.command("status").returncode == 0
    assert list(foreign.iterdir()) == []
    assert installation.command("stop").returncode == 0


# ---- ports and hosts


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("192.0.2.1", "is no address of this machine; set dicom.host to one of"),
        ("no-such-host.invalid", "is not known"),
    ],
)
def test_a_host_that_is_not_this_machine_is_found_by_check_and_start(
    installation: Installation, host: str, said: str
) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"), dicom={"host": host, "port": installation.port})
    checked = installation.command("check")
    assert checked.returncode == 78
    assert "dicom.host: " in checked.stderr
    assert said in checked.stderr
    # It may get its address later: whoever started it may try again.
    started = installation.command("start")
    assert started.returncode == 1
    assert said in started.stderr
    assert "stop the program" not in started.stderr


def test_a_port_in_use_is_called_that(running: Installation) -> None:
    running.configure(csv_source("a", "a.csv"), runtime_dir=str(running.folder / "other"))
    failed = running.command("start")
    assert failed.returncode == 1
    assert "stop the program that uses the port" in failed.stderr


# ---- what lies around


def test_no_file_of_the_working_directory_is_imported(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_plugin("p", patient="X1", fetch="import helper_beside, from_the_path")
    (installation.folder / "plugins" / "helper_beside.py").touch()
    elsewhere = installation.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "from_the_path.py").touch()
    installation.environment["PYTHONPATH"] = str(elsewhere)
    for name in (
        "csv",
        "json",
        "queue",
        "workers",
        "pylantir",
        "types",
        "socket",
        "pickle",
        "logging",
        "sitecustomize",
    ):
        (installation.folder / f"{name}.py").write_text(
            f"open({str(installation.folder / 'imported')!r}, 'a').write('{name} ')\n"
        )
    installation.configure(csv_source("a", "a.csv"), plugin_source("p"))
    assert installation.command("check").returncode == 0
    started = installation.command("start", "--detach")
    assert started.returncode == 0, started.stderr
    installation.wait_for_health("healthy")
    wait_until(lambda: installation.patients() == ["P1", "X1"], "both sources are there")
    program = COMMAND.with_name("pylantir")
    for arguments in (["query-db"], ["preview", "a"], ["plugins"]):
        done = subprocess.run(
            [program, *arguments, "--config", installation.config_path],
            cwd=installation.folder, env=installation.environment, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert installation.command("stop").returncode == 0
    assert not (installation.folder / "imported").exists()


def test_what_a_plugin_starts_finds_its_modules_as_usual(installation: Installation) -> None:
    tool = installation.folder / "tool"
    tool.mkdir()
    (tool / "its_own.py").touch()
    (tool / "run.py").write_text("import its_own\n")
    call = f"import subprocess; subprocess.run([sys.executable, {str(tool / 'run.py')!r}], check=True)"
    installation.write_plugin("p", fetch=call)
    installation.configure(plugin_source("p"))
    installation.start()
    assert installation.patients() == ["X1"]


# ---- the log file


def rotate(log: Path) -> None:
    """Let logrotate do to a log file what our configuration for it says."""
    program = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "logrotate is needed: apt-get install logrotate"
    example = Path(__file__).parents[3] / "etc" / "logrotate" / "pylantir"
    configuration = log.with_name("logrotate.conf")
    configuration.write_text(example.read_text(encoding="utf-8").replace("/var/lib/pylantir/worklist.log", str(log)))
    configuration.chmod(0o644)
    subprocess.run([program, "--force", "--state", log.with_name("logrotate.state"), configuration], check=True)


def test_the_log_of_a_detached_instance_lies_beside_the_database_and_may_be_rotated(
    installation: Installation,
) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    log = installation.folder / "worklist.log"
    assert f"log: {log}" in installation.command("start", "--detach").stdout
    installation.wait_for_health("healthy")
    assert installation.status()["log"] == str(log)
    assert f"log: {log}" in installation.command("status").stdout

    rotate(log)
    assert "supervisor: serving" in (installation.folder / "worklist.log.1").read_text()
    wait_until(lambda: log.exists() and "source a: cycle done" in log.read_text(), "every process writes anew")

    log.rename(installation.folder / "worklist.log.2")
    os.kill(installation.status()["processes"][0]["pid"], signal.SIGHUP)
    wait_until(log.exists, "SIGHUP reopens it at once")
    pid = installation.process("writer")["pid"]
    os.kill(pid, signal.SIGKILL)
    installation.wait_for_successor("writer", pid)
    wait_until(lambda: "writer ended unexpectedly" in log.read_text(), "it is told in the new file")
    assert installation.command("stop").returncode == 0
    assert "supervisor: stopped" in log.read_text()


def test_log_shows_one_process_and_follows_a_file_that_is_moved_away(installation: Installation) -> None:
    for name in ("a", "b"):
        installation.write_csv(f"{name}.csv", [f"P{name}"])
    installation.configure(csv_source("a", "a.csv"), csv_source("b", "b.csv"))
    installation.command("start", "--detach")
    installation.wait_for_health("healthy")
    everything = installation.command("log")
    assert "supervisor: serving" in everything.stdout
    wait_until(lambda: " source a: " in installation.command("log").stdout, "a has written")
    only_a = installation.command("log", "a").stdout.splitlines()
    assert only_a
    assert all(" source a: " in line for line in only_a)
    unknown = installation.command("log", "aa")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert 'did you mean "a"' in unknown.stderr

    log, followed = installation.folder / "worklist.log", installation.folder / "followed"
    with followed.open("wb") as output, subprocess.Popen(
        [COMMAND, "log", "-f", "b", "--config", installation.config_path],
        env=installation.environment, cwd=installation.folder, stdout=output,
    ) as following:  # fmt: skip
        try:
            wait_until(followed.read_text, "it shows what is there")
            log.rename(installation.folder / "old.log")
            wait_until(log.exists, "the log is made anew")
            wait_until(lambda: {*followed.read_text().splitlines()} & {*log.read_text().splitlines()}, "it follows")
        finally:
            following.kill()
    assert all(" source b: " in line for line in followed.read_text().splitlines())
    wait_until(lambda: " source a: " in log.read_text(), "a writes anew, too")
    assert installation.command("stop").returncode == 0
    assert " source a: " in installation.command("log", "a").stdout


def test_log_says_where_it_is_if_it_is_no_file(installation: Installation) -> None:
    installation.configure(csv_source("a", "a.csv"))
    missing = installation.command("log")
    assert missing.returncode == 1
    assert "not running, and there is no log file at" in missing.stderr


# ---- descriptors


def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    installation.start(program=["prlimit", "--nofile=256:4096", COMMAND])
    for process in installation.status()["processes"]:
        soft, hard = resource.prlimit(process["pid"], resource.RLIMIT_NOFILE)
        assert (soft, hard) == (4096, 4096)


def test_with_too_few_descriptors_what_could_start_serves_and_status_says_so(
    installation: Installation, findscu: str
) -> None:
    names = [f"s{number:02d}" for number in range(20)]
    for name in names:
        installation.write_csv(f"{name}.csv", [f"P{name}"])
    installation.configure(*(csv_source(name, f"{name}.csv", sync_interval=5) for name in names))
    installation.start(until="degraded", program=["prlimit", "--nofile=64:64", COMMAND])
    installation.wait_for_log("processes need .* open files, and the limit is 64")
    installation.wait_for_log(r"s\d+ cannot be started")
    wait_until(lambda: len(installation.find(findscu)) >= 3, "what could start serves")
    # The same failure again is no new line.
    told = re.findall(r"(s\d+) cannot be started", installation.log())
    assert len(told) == len(set(told))
    status = installation.command("status", "--problems")
    assert status.returncode == 1
    assert "open files" in status.stdout
    assert installation.terminate() == 0


# ---- a source that crashes


def test_detach_names_a_source_that_crashes_and_returns_soon(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_plugin("bad", check="os._exit(7)")
    installation.configure(csv_source("a", "a.csv"), plugin_source("bad"))
    began = time.monotonic()
    started = installation.command("start", "--detach")
    assert time.monotonic() - began < READY_TIMEOUT_S
    assert started.returncode == 1
    assert "bad does not become ready; it ended with status 7" in started.stderr
    wait_until(lambda: installation.patients() == ["P1"], "the others go on")
    assert installation.command("stop").returncode == 0


# ---- many sources


def test_of_many_sources_the_scanner_is_answered_before_all_have_started(
    installation: Installation, findscu: str
) -> None:
    names = [f"s{number:02d}" for number in range(40)]
    for name in names:
        installation.write_csv(f"{name}.csv", [f"P{name}"])
    installation.configure(*(csv_source(name, f"{name}.csv", sync_interval=60) for name in names))
    with closing(sqlite3.connect(installation.database, isolation_level=None)) as other:
        # No source is ready before the writer is: that this is the beginning can be seen for a while.
        other.execute("begin exclusive")
        installation.start(until=None)
        first = wait_until(installation.status, "the supervisor answers")
        other.execute("rollback")
    assert first["health"] in {"starting", "degraded"}
    assert any(process["pid"] is None and process["state"] == "STARTING" for process in first["processes"])
    installation.wait_for_health("healthy")
    assert len(installation.find(findscu)) == len(names)
    assert installation.terminate() == 0
