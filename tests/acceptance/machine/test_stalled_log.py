"""Whoever reads the log stalls: everything goes on, and ends when it is told to."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import pytest
from installation import COMMAND, Installation, csv_source, end_with_parent, wait_until


def test_a_full_pipe_behind_stderr_stops_neither_the_work_nor_the_end(installation: Installation) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    process = subprocess.Popen(
        [COMMAND, "start", "--config", installation.config_path], stdin=subprocess.DEVNULL, stdout=writer,
        stderr=writer, env=installation.environment, cwd=installation.folder, preexec_fn=end_with_parent,  # noqa: PLW1509
    )  # fmt: skip
    os.close(writer)
    try:
        wait_until(lambda: installation.status().get("health") == "healthy", "it is healthy")
        wait_until(lambda: len(installation.runs("a")) >= 3, "three cycles")
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
        os.close(reader)


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_it_runs_with_closed_streams(installation: Installation, closed: str) -> None:
    installation.write_csv("a.csv", ["P1"])
    installation.configure(csv_source("a", "a.csv"))
    command = f"exec {COMMAND} start --config {installation.config_path} {closed}"
    process = subprocess.Popen(
        ["sh", "-c", command], env=installation.environment, cwd=installation.folder, stdout=subprocess.DEVNULL,
        preexec_fn=end_with_parent,  # noqa: PLW1509
    )  # fmt: skip
    try:
        wait_until(lambda: installation.status().get("health") == "healthy", "it is healthy")
        wait_until(lambda: len(installation.runs("a")) >= 3, "three cycles")
        assert [one["restarts"] for one in installation.status()["processes"]] == [0, 0, 0, 0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
