"""What takes longer is shown on a terminal, and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

CODE = """
from pylantir.programs.progress import progress
import sys, time
with progress("counting sheep", after_s=0.01):
    time.sleep(0.1)
    sys.stdin.readline()
print("done")
"""


def test_progress_goes_to_a_terminal_on_stderr_and_never_to_a_pipe() -> None:
    ours, theirs = pty.openpty()
    counting = subprocess.Popen(
        [sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while b"counting sheep: " not in shown:
        shown += os.read(ours, 100_000)
    assert counting.communicate(b"\n", timeout=60) == (b"done\n", None)
    os.close(ours)
    piped = subprocess.run([sys.executable, "-c", CODE], input=b"\n", capture_output=True, check=True, timeout=60)
    assert (piped.stdout, piped.stderr) == (b"done\n", b"")
