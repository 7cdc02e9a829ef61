"""A process that holds secrets shows none of them to the other processes of its user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pylantir.ipc.beacon import Beacon, find_beacon
from pylantir.programs.closed import without_variables

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc elsewhere")
SHOW = """
import os, setproctitle
setproctitle.setproctitle("a title")
from pylantir.programs.closed import forbid_inspection, wipe_initial_environment
wipe_initial_environment()
forbid_inspection()
print(os.environ["TOKEN"], flush=True)
setproctitle.setproctitle("another title")
input()
"""


def test_the_environment_is_seen_from_inside_only_and_the_title_still_changes() -> None:
    environ = {**os.environ, "TOKEN": "s3cret", "SPT_NOENV": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", SHOW], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "s3cret\n"
        process.stdin.write("") if process.stdin else None
        shown = Path(f"/proc/{process.pid}")
        seen = (shown / "environ").read_bytes() if os.geteuid() == 0 else b""
        while b"another title" not in (shown / "cmdline").read_bytes():
            assert process.poll() is None
        assert b"s3cret" not in seen
        assert not seen.strip(b"\0")
        # Not its user's, so that only root can open what is closed to others.
        assert (shown / "environ").stat().st_uid == 0
        process.communicate("\n")
    assert process.returncode == 0


def test_hidden_variables_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE", "1")
    with without_variables(["ONE", "NOT_SET"]):
        inherited = subprocess.run([sys.executable, "-c", "import os; print('ONE' in os.environ)"],
                                   capture_output=True, text=True, check=True).stdout  # fmt: skip
        assert "ONE" not in os.environ
    assert inherited == "False\n"
    assert os.environ["ONE"] == "1"
    assert "NOT_SET" not in os.environ


def test_an_instance_is_found_by_its_folder_though_the_folder_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    beacon = Beacon(folder)
    assert beacon.holder is None
    assert find_beacon(folder) == os.getpid()
    assert Beacon(folder).holder == os.getpid()
    assert find_beacon(tmp_path / "other") is None
    for _ in range(3):
        for _ in range(100):
            assert find_beacon(folder) == os.getpid()
        beacon.clear()
    beacon.put_out()
    assert find_beacon(folder) is None
