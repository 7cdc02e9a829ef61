"""A real rsyslog that receives over UDP and TCP, and writes down what came, a message a line."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CONFIGURATION = """\
global(workDirectory="{folder}" maxMessageSize="256k")
module(load="imudp")
module(load="imtcp")
template(name="whole" type="string" string="%msgid% %app-name% %pri% %msg%\\n")
ruleset(name="keep") {{ action(type="omfile" file="{received}" template="whole") }}
input(type="imudp" address="127.0.0.1" port="{port}" ruleset="keep")
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="keep")
"""


class Rsyslog:
    """One server on a port of this machine; it can be stopped and started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.received = folder / "received"
        self._configuration = folder / "rsyslog.conf"
        self._pid_file = folder / "rsyslog.pid"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)
        self._configuration.write_text(CONFIGURATION.format(folder=folder, received=self.received, port=port))

    def start(self) -> None:
        program = shutil.which("rsyslogd", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            if os.environ.get("CI"):
                pytest.fail("rsyslogd is needed: apt-get install rsyslog")
            pytest.skip("rsyslogd is not installed")
        command = [program, "-n", "-f", self._configuration, "-i", self._pid_file, "-C"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(20)
        self._process = None
        self._pid_file.unlink(missing_ok=True)

    def messages(self) -> list[str]:
        """What came, each with its message id, program and priority in front."""
        if not self.received.exists():
            return []
        text = self.received.read_text(encoding="utf-8")
        return [line.replace("\ufeff", "") for line in text.split("\n")[:-1]]
