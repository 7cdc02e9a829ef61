"""A plugin is other people's code: whatever it does, the others run, and the log says which plugin in which file."""

from __future__ import annotations

import datetime
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
from installation import COMMAND, Installation, csv_source, plugin_source, wait_until
from ports import free_port

NO_PLUGIN_CLASS = "class Plugin:\n    pass\n"
HANGS_AT_IMPORT = "import time\nfrom pylantir.data_sources.base import DataSourcePlugin\ntime.sleep(3600)\n"
RAISES_AT_IMPORT = "from pylantir.data_sources.base import DataSourcePlugin\nimport no_such_module\n"
EXITS_AT_IMPORT = "import os\nfrom pylantir.data_sources.base import DataSourcePlugin\nos._exit(5)\n"
CLASS = "class Plugin(DataSourcePlugin):\n    pass\n"


def run_beside_a_good_source(installation: Installation, *names: str, **changes: object) -> None:
    """Start with a good source and the named plugins; wait until the good one has synced twice more."""
    installation.write_csv("a.csv", ["P1"])
    bad = [plugin_source(name, **changes) for name in names or ("bad",)]
    installation.configure(csv_source("good", "a.csv"), *bad)
    installation.start(until=None)
    wait_until(lambda: "P1" in installation.patients(), "the good source's entry")
    runs = len(installation.runs("good"))
    wait_until(lambda: len(installation.runs("good")) >= runs + 2, "the good source goes on")
    assert installation.process("good")["restarts"] == 0


def assert_named_in_log(installation: Installation, name: str, said: str) -> None:
    """Some line tells plugin and file, and the reason is in it or in the traceback below."""
    path = str(installation.folder / "plugins" / f"{name}.py")

    def named() -> bool:
        # A traceback's lines are indented: they belong to the line before.
        events = re.split(r"\n(?=\S)", installation.log())
        return any(path in event and name in event.replace(path, "") and said in event for event in events)

    wait_until(named, lambda: f"{name}, {path} and {said} in one event of:\n{installation.log()}")


def test_plugins_that_cannot_be_imported_disturb_nobody(installation: Installation) -> None:
    texts = {
        "raises": (RAISES_AT_IMPORT + CLASS, "no_such_module"),
        "hangs": (HANGS_AT_IMPORT + CLASS, "check hangs"),
        "exits": (EXITS_AT_IMPORT + CLASS, "status 5"),
        "sysexits": ("import sys\nsys.exit(3)\n" + RAISES_AT_IMPORT + CLASS, "SystemExit"),
        "classless": (NO_PLUGIN_CLASS, "DataSourcePlugin"),
        "misspelt": ("def broken(:\n", "line 1"),
    }
    (installation.folder / "plugins").mkdir()
    for name, (text, _) in texts.items():
        (installation.folder / "plugins" / f"{name}.py").write_text(text, encoding="utf-8")
    run_beside_a_good_source(installation, *texts, fetch_timeout=1)
    for name, (_, said) in texts.items():
        assert_named_in_log(installation, name, said)
        wait_until(lambda n=name: installation.process(n)["last_error"], f"{name} says what is wrong")
    installation.wait_for_health("degraded")
    assert installation.terminate() == 0


def test_plugins_whose_own_check_fails_disturb_nobody(installation: Installation) -> None:
    checks = {
        "raises": ("raise RuntimeError('no licence')", "RuntimeError"),
        "sysexits": ("sys.exit(3)", "SystemExit"),
        "exits": ("os._exit(5)", "status 5"),
        "aborts": ("os.abort()", "signal SIGABRT"),
        "nonsense": ("return 17", "validate_config has to return"),
    }
    for name, (check, _) in checks.items():
        installation.write_plugin(name, check=check)
    run_beside_a_good_source(installation, *checks)
    for name, (_, said) in checks.items():
        assert_named_in_log(installation, name, said)
        wait_until(lambda n=name: installation.process(n)["last_error"], f"{name} says what is wrong")
    installation.wait_for_health("degraded")
    assert installation.terminate() == 0


def test_fetches_that_fail_are_repeated_and_disturb_nobody(installation: Installation) -> None:
    fetches = {
        "raises": ("raise ValueError('gone')", "ValueError"),
        "sysexits": ("sys.exit(3)", "SystemExit"),
        "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        "nothing": ("return None", "TypeError"),
        "halfway": (
            "yield {'patient_id': 'X2', 'scheduled_start_date': '2030-01-01'}; raise OSError('half')",
            "OSError",
        ),
    }
    for name, (fetch, _) in fetches.items():
        installation.write_plugin(name, fetch=fetch)
    run_beside_a_good_source(installation, *fetches)
    failed = "select 1 from sync_runs where data_source = ? and error > ''"
    for name, (_, said) in fetches.items():
        assert_named_in_log(installation, name, said)
        wait_until(lambda n=name: len(installation.rows(failed, n)) >= 2, f"{name} is asked again")
        process = installation.process(name)
        assert process["restarts"] == 0
        assert name in process["last_error"]
    installation.wait_for_health("degraded")


def test_a_plugin_that_ends_its_process_is_started_again_with_growing_pauses(installation: Installation) -> None:
    installation.write_plugin("bad", fetch="os._exit(9)")
    run_beside_a_good_source(installation)
    installation.wait_for_log(r"bad ended unexpectedly \(status 9\); restart \d+ in 0\.0 s")
    installation.wait_for_log(r"bad ended unexpectedly \(status 9\); restart \d+ in [12]\.\d s")
    assert "status 9" in installation.process("bad")["last_exit"]


def test_a_process_that_ends_by_a_signal_without_a_name_is_one_that_crashed(installation: Installation) -> None:
    installation.write_plugin("bad", fetch="os.kill(os.getpid(), 40)")
    run_beside_a_good_source(installation)
    installation.wait_for_log(r"bad ended unexpectedly \(signal 40\); restart \d+ in")


def test_a_death_is_noticed_at_once_though_a_grandchild_lives_on(installation: Installation) -> None:
    installation.write_plugin("bad", patient="X1", fetch="os.fork() or (time.sleep(60), os._exit(0))")
    installation.configure(plugin_source("bad", sync_interval=3600))
    installation.start()
    supervisor = psutil.Process(installation.supervisor.pid)  # type: ignore[union-attr]
    times_woken: list[int] = []

    def sleeps() -> bool:
        times_woken.append(supervisor.num_ctx_switches().voluntary)
        return times_woken[-3:] == times_woken[-1:] * 3

    def notice_a_death() -> float:
        """How long it takes."""
        pid = installation.process("bad")["pid"]
        # Nothing else wakes the supervisor: no sign of life, and nobody who asks it something.
        wait_until(
            lambda: all(0.2 < one["heartbeat_age_s"] < 3.5 for one in installation.status()["processes"][1:]),
            "a quiet moment",
        )
        wait_until(sleeps, "the supervisor has nothing to do")
        told = r"(\S+) WARNING supervisor: bad ended unexpectedly"
        before = len(re.findall(told, installation.log()))
        killed_at = time.time()
        os.kill(pid, signal.SIGKILL)
        noticed = wait_until(lambda: re.findall(told, installation.log())[before:], "the death is noticed")
        installation.wait_for_successor("bad", pid)
        return datetime.datetime.fromisoformat(noticed[0]).timestamp() - killed_at

    # Once the machine may stand still.
    assert notice_a_death() < 0.5 or max(notice_a_death(), notice_a_death()) < 0.5


def test_what_is_no_entry_is_quarantined_and_the_rest_goes_on(installation: Installation) -> None:
    good = "{'patient_id': 'X2', 'scheduled_start_date': '2030-01-01', 'source_record_id': '1'}"
    surrogate = "{'patient_id': 'X\\ud800', 'scheduled_start_date': '2030-01-01', 'source_record_id': 'a\\ud800b'}"
    strange = f"[None, 17, 'text', ['list'], {{}}, {{3: 4}}, object(), {surrogate}, {good}]"
    installation.write_plugin("bad", fetch=f"return {strange}")
    run_beside_a_good_source(installation)
    wait_until(lambda: installation.patients() == ["P1", "X2"], "the good entry among the strange ones")
    wait_until(lambda: len(installation.rows("select 1 from rejected_entries")) == 8, "the quarantine")
    wait_until(lambda: "cannot be read" in (installation.process("bad")["last_error"] or ""), "the status tells of it")
    assert installation.rows("select distinct error from sync_runs where data_source = 'bad'") == [(None,)]


def test_rejections_of_any_size_pass(installation: Installation) -> None:
    installation.write_plugin(
        "bad",
        fetch=(
            "from pylantir.data_sources.base import BadRecord; "
            "return [BadRecord(record='x' * 60000 + str(n), field='y' * 60000, reason='z' * 60000)"
            " for n in range(300)]"
        ),
    )
    run_beside_a_good_source(installation)
    # Nothing of it can be used, so the cycle is a failed one.
    failed = "select rejected from sync_runs where data_source = 'bad' and error is not null"
    assert wait_until(lambda: installation.rows(failed), "its cycle")[0] == (300,)
    assert installation.rows("select max(length(reason)) from rejected_entries")[0][0] < 10_000


def test_a_plugin_may_use_dataclasses_neighbours_and_relative_files(installation: Installation) -> None:
    installation.write_plugin("bad", fetch="import neighbour; return [neighbour.Entry(open('p.txt').read()).entry()]")
    (installation.folder / "p.txt").write_text("X7", encoding="utf-8")
    (installation.folder / "plugins" / "_private.py").write_text("raise RuntimeError", encoding="utf-8")
    Path(installation.folder / "plugins" / "neighbour.py").write_text(
        "from dataclasses import dataclass\n\n@dataclass\nclass Entry:\n    patient: str\n\n"
        "    def entry(self):\n        return {'patient_id': self.patient, 'scheduled_start_date': '2030-01-01'}\n",
        encoding="utf-8",
    )
    run_beside_a_good_source(installation)
    wait_until(lambda: installation.patients() == ["P1", "X7"], "the plugin's entry")


SPY = """
import os
from pathlib import Path
from pylantir.data_sources.base import DataSourcePlugin

def look(where):
    seen = {"environ": repr(dict(os.environ)), "own": Path("/proc/self/environ").read_text()}
    pid = os.getppid()
    while pid > 1 and (name := Path(f"/proc/{pid}/comm").read_text()).startswith(("pyl", "python", "check")):
        # An ordinary user may not even open it.
        seen[name] = Path(f"/proc/{pid}/environ").read_text() if os.geteuid() == 0 else ""
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    tokens = ("s3cret-bad", "s3cret-real", "s3cret-web", "s3cret-file", "s3cret-late")
    with open("seen", "a") as file:
        file.write("".join(f"{where} {place} {token}\\n" for place, text in seen.items()
                           for token in tokens if token in text) or f"{where} nothing\\n")

look("import")

class Plugin(DataSourcePlugin):
    def validate_config(self, config):
        look("check")
        return True, ""

    def get_source_name(self):
        return "a spy"

    def fetch_entries(self, field_mapping, interval):
        look("fetch")
        return [{"patient_id": "X9", "scheduled_start_date": "2030-01-01"}]
"""


def test_a_plugin_sees_its_own_secrets_only_wherever_it_runs(installation: Installation) -> None:
    installation.environment |= {
        "BAD_TOKEN": "s3cret-bad", "REAL_TOKEN": "s3cret-real", "WEB_TOKEN": "s3cret-web", "LATE_TOKEN": "s3cret-late",
    }  # fmt: skip
    (installation.folder / ".env").write_text("FILED_TOKEN=s3cret-file\n", encoding="utf-8")
    (installation.folder / "plugins").mkdir()
    (installation.folder / "plugins" / "spy.py").write_text(SPY, encoding="utf-8")
    installation.write_plugin("other", patient="X8")
    http = {"port": free_port(), "tokens_env": ["WEB_TOKEN"]}
    sources = [
        plugin_source("spy", config={"token_env": "BAD_TOKEN"}),
        plugin_source("real", type="other", config={"token_env": "REAL_TOKEN"}, enabled=False),
        plugin_source("filed", type="other", config={"token_env": "FILED_TOKEN"}),
    ]
    seen = installation.folder / "seen"

    def everything_seen(at_last: str) -> set[str]:
        wait_until(lambda: seen.exists() and at_last in seen.read_text(encoding="utf-8"), at_last)
        lines = set(seen.read_text(encoding="utf-8").splitlines())
        seen.unlink()
        return lines

    installation.configure(*sources, http=http)
    assert installation.command("check").returncode == 0
    found = {"check": everything_seen("check environ")}
    preview = [COMMAND.with_name("pylantir"), "preview", "spy", "--config", installation.config_path]
    subprocess.run(preview, env=installation.environment, cwd=installation.folder, check=True, capture_output=True)
    found["preview"] = everything_seen("fetch environ")
    installation.start()
    wait_until(lambda: "X9" in installation.patients(), "the spy's entry")
    found["start"] = everything_seen("fetch environ")
    # Nobody knew yet that this variable is a secret: the worker inherited it, and is started anew.
    sources.append(plugin_source("late", type="other", config={"nested": [{"token_env": "LATE_TOKEN"}]}))
    installation.configure(*sources, http=http)
    pid = installation.process("spy")["pid"]
    assert "spy" in installation.command("reload").stdout
    installation.wait_for_successor("spy", pid)
    seen.unlink(missing_ok=True)
    found["reload"] = everything_seen("fetch environ")
    own = {"import environ s3cret-bad", "check environ s3cret-bad", "fetch environ s3cret-bad"}
    late = {line for line in found["check"] | found["start"] if line.endswith("s3cret-late")}
    assert {name: lines - late - own for name, lines in found.items()} == {name: set() for name in found}
    assert "fetch environ s3cret-bad" in found["preview"] & found["start"] & found["reload"]
    assert not found["reload"] & late
    for name in ("supervisor", "writer", "mwl-scp", "web", "filed"):
        environ = Path(f"/proc/{installation.process(name)['pid']}/environ")
        if name != "filed":
            assert environ.stat().st_uid == 0
        if os.geteuid() == 0:
            assert b"s3cret" not in environ.read_bytes()


def test_a_secret_reaches_its_source_alone_and_no_log(installation: Installation) -> None:
    installation.environment |= {"BAD_TOKEN": "s3cret-token"}
    (installation.folder / ".env").write_text("FILED_TOKEN=f1led-token\n", encoding="utf-8")
    installation.write_plugin("filed", patient="X9", fetch="open('filed', 'w').write(str(dict(os.environ)))")
    show = "open('seen-' + self.get_source_name()[:1] + str(os.getpid()), 'w').write(os.environ.get('BAD_TOKEN', ''))"
    installation.write_plugin("bad", fetch=f"{show}; raise ValueError('refused: ' + os.environ['BAD_TOKEN'])")
    installation.write_plugin("other", patient="X8", fetch="open('other', 'w').write(str(dict(os.environ)))")
    installation.write_csv("a.csv", ["P1"])
    installation.configure(
        csv_source("good", "a.csv"),
        plugin_source("bad", config={"token_env": "BAD_TOKEN"}),
        plugin_source("filed", config={"token_env": "FILED_TOKEN"}),
        plugin_source("other"),
    )
    installation.start(until="degraded")
    wait_until((installation.folder / "other").exists, "the other plugin has run")
    wait_until(
        lambda: [path.read_text() for path in installation.folder.glob("seen-*")] == ["s3cret-token"],
        "one plugin has seen the secret",
    )
    wait_until(lambda: "X8" in installation.patients(), "the other plugin's entry")
    wait_until(lambda: "X9" in installation.patients(), "the entry of the one whose secret is in a file")
    # It writes that at each fetch.
    wait_until(lambda: "f1led-token" in (installation.folder / "filed").read_text(), "its own secret")
    assert "BAD_TOKEN" not in (installation.folder / "filed").read_text()
    assert "_TOKEN" not in (installation.folder / "other").read_text()
    installation.wait_for_log("ValueError .its message is shown with the log level DEBUG only")
    assert "s3cret-token" not in installation.log()
    assert "f1led-token" not in installation.log()
    assert "s3cret-token" not in str(installation.status())
    assert "s3cret-token" not in str(installation.rows("select error from sync_runs"))
