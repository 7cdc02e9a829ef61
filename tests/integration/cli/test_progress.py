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
    time.sleep(0.5)
print("done")
"""


def test_progress_goes_to_a_terminal_on_stderr_and_never_to_a_pipe() -> None:
    ours, theirs = pty.openpty()
    shown = subprocess.run([sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    assert b"counting sheep: " in os.read(ours, 100_000)
    os.close(ours)
    assert shown.stdout == b"done\n"
    piped = subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True, timeout=60)
    assert (piped.stdout, piped.stderr) == (b"done\n", b"")
