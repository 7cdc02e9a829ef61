"""The commands that concern the running supervisor: `pylantir start` becomes it, those that change data ask it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from pylantir.config.locate import find_configuration, find_runtime_dir
from pylantir.errors import ExitStatus
from pylantir.ipc.control import ask_supervisor

_ANSWER_TIMEOUT_S = 60.0
"""The writer may have to finish a large batch first."""


def become_supervisor(options: argparse.Namespace) -> NoReturn:
    """Replace this process by `pylantir-supervisor start`: no process is started, and signals reach it directly."""
    command = supervisor_command(Path(sys.executable), options)
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - our own program, without a shell


def supervisor_command(python: Path, options: argparse.Namespace) -> list[str]:
    """Find the supervisor's program, and hand on the options that were given."""
    script = python.with_name("pylantir-supervisor")
    command = [str(script)] if os.access(script, os.X_OK) else [str(python), "-m", "workers.commands.cli"]
    command.append("start")
    for option, value in (
        ("--config", options.config),
        ("--AEtitle", options.ae_title),
        ("--ip", options.host),
        ("--port", options.port),
    ):
        if value is not None:
            command.append(f"{option}={value}")
    return [*command, "--detach"] if options.detach else command


def change_data(options: argparse.Namespace, request: Mapping[str, object]) -> int:
    """Let the writer carry out a command, by way of the running supervisor.

    Raises:
        ControlError: The supervisor does not answer.
        CommandRefused: It cannot be done, or not just now.
    """
    # The file itself may be invalid or gone by now: the running instance is found all the same.
    path = Path(options.config).absolute() if options.config else find_configuration(None, os.environ)
    try:
        answer = ask_supervisor(find_runtime_dir(path, os.environ), request, timeout_s=_ANSWER_TIMEOUT_S)
    except (FileNotFoundError, ConnectionRefusedError):
        print("pylantir: no supervisor is running with this configuration", file=sys.stderr)
        return ExitStatus.NOT_RUNNING
    print(answer["text"])
    return ExitStatus.OK
