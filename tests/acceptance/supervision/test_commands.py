"""`pylantir-supervisor`: its commands, their exit statuses, and what an operator sees."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess

from installation import COMMAND, Installation, csv_source, plugin_source, wait_until

from pylantir.ipc.control import SOCKET_NAME
from pylantir.ipc.frames import Frame, FrameSocket, encode_frame
from pylantir.ipc.sockets import connect_to


def at_once(installation: Installation, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that must not take long, judged by the processor time that it and its children need.

    On a machine that is busy with other things, the time that passes says nothing.
    """
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = installation.command(command, timeout_s=60)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime < 15.0
    return done


def test_start_status_stop(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1", "P2"])
    installation.configure(csv_source("a", "a.csv"))
    assert installation.command("status").returncode == 3
    assert installation.command("stop").returncode == 3

    started = installation.command("start", "--detach")
    assert started.returncode == 0, started.stderr
    status = installation.command("status", "--json")
    assert status.returncode in {0, 1}  # every process is ready, but the first cycle may be on its way
    assert all(process["state"] == "RUNNING" for process in json.loads(status.stdout)["processes"])
    installation.wait_for_health("healthy")
    table = installation.command("status")
    assert table.returncode == 0
    assert all(word in table.stdout for word in ("supervisor", "writer", "mwl-scp", "RUNNING", "LAST SYNC"))

    second = installation.command("start")
    assert second.returncode == 73
    assert "process " in second.stderr
    assert installation.status()["health"] == "healthy"

    stopped = installation.command("stop")
    assert stopped.returncode == 0
    wait_until(lambda: not installation.live_processes(), "no process is left")
    assert installation.leftovers() == []
    assert installation.command("status").returncode == 3


def test_an_invalid_configuration_is_refused_at_once_with_all_errors(installation: Installation) -> None:
    installation.write_plugin("picky", check='return False, "host is missing"')
    installation.configure(
        csv_source("a", "a.csv", sync_interval="5m"),
        csv_source("a", "b.csv", field_maping={}),
        {"name": "c", "type": "cvs"},
        dicom={"port": "x"},
    )
    for command in ("start", "check"):
        refused = at_once(installation, command)
        assert refused.returncode == 78
        for problem in ("data_sources[0].sync_interval", 'did you mean "field_mapping"', 'did you mean "csv"', "port"):
            assert problem in refused.stderr
    assert {path.name for path in installation.folder.iterdir()} == {"pylantir.json", "plugins", "tmp"}
    assert not any((installation.folder / "tmp").iterdir())


def test_what_a_plugin_refuses_is_said_though_another_never_answers(installation: Installation) -> None:
    installation.write_plugin("picky", check='return False, "host is missing"')
    installation.write_plugin("sleepy", check="time.sleep(60)")
    installation.configure(plugin_source("picky"), plugin_source("sleepy"))
    for command in ("start", "check"):
        refused = at_once(installation, command)
        assert refused.returncode == 78
        assert "host is missing" in refused.stderr
    assert not installation.database.exists()
    assert not installation.runtime_dir.exists()


def test_check_touches_nothing(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    checked = installation.command("check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "1 source enabled" in checked.stdout
    assert not installation.database.exists()
    assert not installation.runtime_dir.exists()


def test_check_refuses_a_source_whose_plugin_file_has_a_syntax_error(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_plugin("broken").write_text("def fetch(:\n")
    installation.configure(csv_source("a", "a.csv"), plugin_source("broken"))
    checked = installation.command("check")
    assert (checked.returncode, checked.stdout) == (78, "")
    assert "line 1: invalid syntax" in checked.stderr
    assert checked.stderr.splitlines()[-1].startswith("pylantir.json: source broken: its plugin")


def test_a_port_in_use_is_a_failure_with_advice(installation: Installation) -> None:
    installation.configure(csv_source("a", "a.csv"))
    with socket.create_server(("127.0.0.1", installation.port)):
        failed = installation.command("start")
        detached = installation.command("start", "--detach")
    assert failed.returncode == detached.returncode == 1
    assert f"port {installation.port}" in failed.stderr
    # The reason itself, and not only where to look for it.
    assert f"port {installation.port}" in detached.stderr
    assert not installation.database.exists()
    assert installation.leftovers() == []


def test_start_detached_says_what_is_wrong(installation: Installation) -> None:
    installation.configure(csv_source("a", "a.csv", sync_interval=0))
    refused = installation.command("start", "--detach")
    assert refused.returncode == 78
    assert "sync_interval" in refused.stderr


def test_command_line_options_come_before_the_file(installation: Installation, findscu: str) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"), dicom={"port": 1, "host": "0.0.0.0"})
    installation.start("--port", str(installation.port), "--ip", "127.0.0.1", "--AEtitle", "OTHER")
    assert installation.find(findscu) == [{"PatientID": "P1"}]
    assert installation.command("reload").returncode == 0
    assert installation.find(findscu) == [{"PatientID": "P1"}]
    assert installation.terminate() == 0


def test_restart_and_sync(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv", sync_interval=3600))
    installation.start()
    for name in ("a", "writer", "mwl-scp"):
        pid = installation.process(name)["pid"]
        assert installation.command("restart", name).returncode == 0
        installation.wait_for_successor(name, pid)
    assert "unexpectedly" not in installation.log()

    installation.write_csv("a.csv", ["P1", "P2"])
    assert installation.command("sync", "a").returncode == 0
    wait_until(lambda: installation.patients() == ["P1", "P2"], "what the sync fetched")

    for *arguments, status in (("restart", "nobody", 2), ("sync", "writer", 2)):
        refused = installation.command(*arguments)
        assert refused.returncode == status
        assert arguments[1] in refused.stderr


def test_reload_restarts_only_what_changed(installation: Installation) -> None:
    for name in "abc":
        installation.write_csv(f"{name}.csv", [f"P{name}"])
    installation.configure(csv_source("a", "a.csv"), csv_source("b", "b.csv"))
    installation.start()
    pids = {name: installation.process(name)["pid"] for name in ("supervisor", "mwl-scp", "a", "b")}

    installation.configure(
        csv_source("a", "a.csv"), csv_source("b", "b.csv", enabled=False), csv_source("c", "c.csv", sync_interval=2)
    )
    assert installation.command("reload").returncode == 0
    wait_until(lambda: installation.patients() == ["Pa", "Pb", "Pc"], "the new source's entry")
    assert installation.process("b")["state"] == "DISABLED"
    assert {name: installation.process(name)["pid"] for name in ("supervisor", "mwl-scp", "a")} == {
        name: pids[name] for name in ("supervisor", "mwl-scp", "a")
    }

    installation.configure(
        csv_source("a", "a.csv", sync_interval=2), csv_source("b", "b.csv"), csv_source("c", "c.csv", sync_interval=2)
    )
    before = installation.process("c")["pid"]
    assert installation.command("reload").returncode == 0
    installation.wait_for_successor("a", pids["a"])
    wait_until(lambda: installation.process("b").get("last_sync"), "the source that has come back syncs")
    assert installation.process("c")["pid"] == before


def test_a_reload_during_the_start_is_not_lost(installation: Installation) -> None:
    for name in "ab":
        installation.write_csv(f"{name}.csv", [f"P{name}"])
    # The process that checks the file stands still: the supervisor waits for it.
    installation.write_plugin("stops", check="open('checking', 'w').close(); os.kill(os.getppid(), 19)")
    installation.configure(csv_source("a", "a.csv"), plugin_source("stops"))
    supervisor = installation.start(until=None)
    wait_until((installation.folder / "checking").exists, "the file has been read and is being checked")
    installation.configure(csv_source("b", "b.csv"))
    supervisor.send_signal(signal.SIGHUP)
    wait_until(lambda: installation.patients() == ["Pb"], "the new file's entry")
    assert installation.process("a") == {}


def test_a_command_that_waits_for_the_writer_hears_of_its_death(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    installation.start()
    writer = installation.process("writer")["pid"]
    os.kill(writer, signal.SIGSTOP)
    frames = FrameSocket(connect_to(installation.runtime_dir / SOCKET_NAME), limit=4096)
    frames.send(encode_frame({"command": "forget", "name": "nobody"}))
    # The supervisor takes what comes in order.
    wait_until(installation.status, "an answer to a later question")
    os.kill(writer, signal.SIGKILL)
    answers: list[Frame] = []
    wait_until(lambda: answers.extend(frames.receive()) or answers, "the answer")
    frames.close()
    assert "ended meanwhile" in str(answers[0]["error"])
    installation.wait_for_successor("writer", writer)


def test_a_killed_source_that_was_disabled_meanwhile_is_heard_again(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_csv("b.csv", ["P2"])
    installation.configure(csv_source("a", "a.csv"), csv_source("b", "b.csv"))
    installation.start()
    pid = installation.process("b")["pid"]
    os.kill(pid, signal.SIGKILL)
    installation.wait_for_successor("b", pid)
    for enabled in (False, True):
        installation.configure(csv_source("a", "a.csv"), csv_source("b", "b.csv", enabled=enabled))
        assert installation.command("reload").returncode == 0
    wait_until(lambda: installation.process("b").get("last_sync"), "the source syncs")


def test_an_invalid_configuration_is_not_taken_over(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    installation.start()
    pids = [process["pid"] for process in installation.status()["processes"]]
    installation.config_path.write_text('{"data_sources": [', encoding="utf-8")
    refused = installation.command("reload")
    assert refused.returncode == 78
    assert "pylantir.json" in refused.stderr

    assert installation.supervisor
    installation.supervisor.send_signal(signal.SIGHUP)
    wait_until(lambda: installation.log().count("is refused") == 2, "the second refusal")
    assert [process["pid"] for process in installation.status()["processes"]] == pids
    # The instance is found through the file whatever has become of the file.
    assert installation.command("status").returncode == 0
    installation.config_path.unlink()
    assert installation.command("status").returncode == 0
    assert installation.command("stop").returncode == 0
    wait_until(lambda: not installation.live_processes(), "no process is left")


def test_a_supervisor_that_does_not_answer_is_unreachable(installation: Installation) -> None:
    installation.configure(csv_source("a", "a.csv"))
    supervisor = installation.start(until="degraded")
    supervisor.send_signal(signal.SIGSTOP)
    unreachable = installation.command("status")
    supervisor.send_signal(signal.SIGCONT)
    assert unreachable.returncode == 4
    assert installation.terminate() == 0


def test_a_socket_path_of_any_length_works(installation: Installation) -> None:
    installation.runtime_dir = installation.folder / ("r" * 100) / ("u" * 100)
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    installation.start()
    assert len(str(installation.runtime_dir / "control.sock")) > 107
    assert installation.command("status").returncode == 0
    assert installation.command("stop").returncode == 0
    assert installation.leftovers() == []


def test_processes_are_named_in_ps(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("site_b_with_a_long_name", "a.csv"))
    installation.start()
    listed = subprocess.run(["ps", "-eo", "pid,comm,args"], capture_output=True, text=True, check=True).stdout
    mine = {process["pid"] for process in installation.status()["processes"]}
    lines = [line.split(None, 2) for line in listed.splitlines()[1:]]
    assert sorted((comm, title) for pid, comm, title in lines if int(pid) in mine) == [
        ("pyl:mwl-scp", "pylantir: mwl-scp"),
        ("pyl:site_b_with", "pylantir: source site_b_with_a_long_name"),
        ("pyl:supervisor", "pylantir: supervisor"),
        ("pyl:writer", "pylantir: writer"),
    ]

    # Nothing else stays but multiprocessing's own tracker: no leftover of the check.
    def others() -> list[str]:
        return [line for pid, line in installation.live_processes().items() if pid not in mine]

    wait_until(lambda: all("multiprocessing.resource_tracker" in line for line in others()), lambda: str(others()))
    assert len(others()) <= 1


def test_a_resident_worker_is_small(installation: Installation) -> None:
    installation.write_csv("a.csv", [f"P{number}" for number in range(200)])
    installation.configure(csv_source("a", "a.csv", sync_interval=3600))
    # What measures the tests themselves takes memory in every process.
    for name in [name for name in installation.environment if name.startswith("COVERAGE")]:
        del installation.environment[name]
    installation.start()
    memory = {process["name"]: process["memory_mb"] for process in installation.status()["processes"]}
    assert memory["a"] <= 22, memory
    assert memory["supervisor"] <= 35, memory


def test_the_help_needs_no_configuration(installation: Installation) -> None:
    done = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True, cwd=installation.folder)
    assert "exit status" in done.stdout
