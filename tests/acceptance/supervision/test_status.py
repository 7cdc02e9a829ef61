"""`status`: what it tells about each process, in every state, and quickly."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import Any

import psutil
from installation import PATIENT_COMMAND, Installation, csv_source, plugin_source, wait_until

from workers.child.bootstrap import SOURCE_NICENESS

OF_EACH_PROCESS = {
    "name", "role", "state", "wanted", "ready", "pid", "uptime_s", "restarts", "last_exit", "last_words", "retry_in_s",
    "heartbeat_age_s", "cpu_percent", "memory_mb", "last_error",
}  # fmt: skip
OF_EACH_SOURCE = {"last_sync", "last_success", "next_sync", "entries", "rejected", "last_counts", "lag_s"}


def asked(installation: Installation) -> dict[str, Any]:
    """The status, within the time that is promised for it; asked again, because the machine has other things to do."""

    def quickly() -> dict[str, Any] | None:
        began = time.monotonic()
        status = installation.status()
        assert status
        return status if time.monotonic() - began < 0.2 else None

    return dict(wait_until(quickly, "a quick answer"))


def test_everything_that_is_promised_is_there(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1", "P2"])
    installation.configure(csv_source("a", "a.csv"))
    installation.start()
    # Healthy is who is ready: the first sync may still be under way.
    wait_until(lambda: installation.process("a")["last_sync"], "the first sync")
    _, writer, server, source = asked(installation)["processes"]
    for process in (writer, server, source):
        assert set(process) >= OF_EACH_PROCESS
        assert (process["wanted"], process["ready"], process["last_words"]) == ("RUNNING", True, [])
        assert 0 <= process["heartbeat_age_s"] < 11
    # The scanners and the writer come first.
    niceness = [psutil.Process(process["pid"]).nice() for process in (writer, server, source)]
    assert niceness[0] == niceness[1] == niceness[2] - SOURCE_NICENESS
    assert set(source) >= OF_EACH_SOURCE
    assert source["last_success"] == source["last_sync"]
    wait_until(lambda: installation.process("a")["lag_s"] < 1, "the source is on time")
    wait_until(lambda: installation.process("writer")["queue_depth"] == 0, "the queue is told to be empty")


def test_a_source_that_fails_lags_behind_and_remembers_its_last_success(installation: Installation) -> None:
    path = installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    installation.start()
    path.unlink()

    def lags_behind() -> dict[str, Any] | None:
        source = installation.process("a")
        # A fetch that had begun before may still have succeeded.
        return source if source["last_error"] and source["lag_s"] > 1 else None

    last_success = wait_until(lags_behind, "the source lags behind")["last_success"]
    assert installation.terminate() == 0

    installation.start(until=None)
    source = wait_until(lambda: (one := installation.process("a")).get("last_error") and one, "the first fetch")
    assert (source["last_success"], source["last_sync"]) == (last_success, None)


def test_a_crash_leaves_evidence_whichever_way_its_words_went(installation: Installation) -> None:
    installation.write_plugin(
        "prints", fetch="import warnings; warnings.warn('Doe'); os.write(2, b'at the end'); os._exit(9)"
    )
    installation.write_plugin("aborts", fetch="os.abort()")
    installation.write_plugin("broken", check="raise ValueError('no licence')")
    installation.configure(*(plugin_source(name) for name in ("prints", "aborts", "broken")))
    installation.start(until=None)

    for name, said in (("aborts", "in fetch_entries"), ("broken", "    ValueError")):
        wait_until(
            lambda name=name, said=said: any(said in line for line in installation.process(name).get("last_words", ())),
            lambda name=name: f"{name} crashes: {installation.process(name)}",
        )
    wait_until(lambda: installation.process("prints").get("last_exit") == "status 9", "the other one crashes")
    assert installation.process("aborts")["last_exit"] == "signal SIGABRT"
    # What a plugin prints may quote a patient.
    installation.wait_for_log(r"prints has printed lines: \d+; shown with")
    assert installation.process("prints")["last_words"] == []
    assert not re.search("Doe|at the end", installation.log())
    installation.wait_for_log(r"aborts writes:\n(.*\n)+ +File .* in fetch_entries\n")


def test_the_level_debug_shows_what_a_plugin_prints_without_secrets(installation: Installation) -> None:
    installation.environment |= {"SOME_TOKEN": "s3cret-token"}
    installation.write_plugin("prints", fetch="print('Doe\u202e', os.environ['SOME_TOKEN'])")
    prints = plugin_source("prints", config={"token_env": "SOME_TOKEN"})
    installation.configure(prints, log={"level": "DEBUG"})
    installation.start(until=None)
    installation.wait_for_log(r"DEBUG +supervisor: prints prints:\n    Doe\\u202e \*\*\*\n")
    assert "s3cret-token" not in installation.log()
    assert "has printed" not in installation.log()


def test_a_flood_of_prints_costs_neither_memory_nor_log_nor_answers(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_plugin("chatty", fetch="[print('x' * 4000) for _ in iter(int, 1)]")
    installation.configure(csv_source("a", "a.csv"), plugin_source("chatty", fetch_timeout=600))
    installation.start(until=None)
    wait_until(installation.patients, "the other source's entry")
    wait_until(lambda: len(installation.runs("a")) >= 4, "the other source goes on")
    supervisor, *_ = asked(installation)["processes"]
    assert supervisor["memory_mb"] < 45
    assert len(installation.log()) < 300_000
    assert installation.terminate() == 0


def test_it_answers_in_every_state(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.write_plugin("crashing", fetch="os._exit(9)")
    installation.write_plugin("endless", fetch="open('fetching', 'w').close(); time.sleep(3600)")
    installation.configure(csv_source("a", "a.csv"), plugin_source("crashing"), plugin_source("endless"))
    installation.start(until=None, program=PATIENT_COMMAND)
    wait_until(installation.status, "the first answer")
    for _ in range(10):
        asked(installation)
    wait_until((installation.folder / "fetching").exists, "the fetch has begun")
    os.kill(installation.process("a")["pid"], signal.SIGSTOP)
    installation.supervisor.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
    installation.wait_for_log("SIGTERM: stopping")
    status = asked(installation)
    assert status["health"] == "stopping"
    wanted = {process["name"]: process.get("wanted") for process in status["processes"]}
    assert wanted["endless"] == wanted["a"] == "STOPPED"
    # It would wait for these two.
    installation.supervisor.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
    assert installation.supervisor.wait(120) == 0  # type: ignore[union-attr]
