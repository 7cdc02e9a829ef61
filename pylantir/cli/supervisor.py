"""Commands for the supervisor: `pylantir start` turns into it; commands that change data are carried out by it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

from pylantir.config.locate import (
    find_configuration,
    find_runtime_dirs,
    user_name,
    users_of_supervisors,
)
from pylantir.errors import ControlError, ExitStatus, NotRunning, SocketGone
from pylantir.ipc.beacon import find_beacon
from pylantir.ipc.control import ask_supervisor, find_supervisor
from pylantir.ipc.frames import Frame
from pylantir.printing import printable
from pylantir.programs.progress import progress

_ANSWER_TIMEOUT_S = 60.0
"""The writer may have to finish a large batch first."""
_PURGE_MAY_TAKE_S = 3600.0
"""The writer deletes in portions; if it or the supervisor ends meanwhile, the answer says so."""
_NAMES_COME_BACK_S = 8.0
"""The supervisor checks every 5 seconds that the names of its sockets exist."""
_LOOK_AGAIN_S = 0.1

T = TypeVar("T")


def become_supervisor(options: argparse.Namespace) -> NoReturn:
    """Replace this process by `pylantir-supervisor start`: no process is started, and signals reach it directly."""
    command = supervisor_command(Path(sys.executable), options)
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - our own program, without a shell


def supervisor_command(python: Path, options: argparse.Namespace) -> list[str]:
    """Find the supervisor's program, and pass on the given options."""
    script = python.with_name("pylantir-supervisor")
    command = [str(script)] if os.access(script, os.X_OK) else [str(python), "-P", "-m", "workers.commands.cli"]
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


def find_named(argument: str | None) -> Path:
    """Find the configuration that a command is about; the file itself may be invalid or gone by now."""
    return Path(argument).absolute() if argument else find_configuration(None, os.environ)


def ask_instance(
    config_path: Path, request: Mapping[str, object], timeout_s: float = 5.0, *, wait_for_names: bool = True
) -> Frame:
    """Ask the supervisor that runs with this configuration.

    An instance whose socket was swept away (a temporary folder that was cleaned, a login session that ended) is found
    by its beacon; it soon creates its socket anew, and is asked then.

    Args:
        config_path: The configuration file.
        request: What to ask.
        timeout_s: How long the answer may take.
        wait_for_names: Whether to wait for an instance whose sockets do not exist yet, or were removed.

    Raises:
        NotRunning: There is no such supervisor.
        SocketGone: It runs, but did not create its socket anew.
        ControlError: It did not answer, or belongs to another user.
        CommandRefused: It answered, but refused the request.
    """
    return _find(config_path, lambda folder: ask_supervisor(folder, request, timeout_s), wait_for_names=wait_for_names)


def find_instance(config_path: Path) -> int | None:
    """Return the process of the supervisor that runs with this configuration; None if this system does not say.

    Raises:
        NotRunning, SocketGone: As `ask_instance`.
        ControlError: Likewise, or it runs in a container that we cannot look into.
    """
    pid = _find(config_path, find_supervisor, wait_for_names=True)
    if pid == 0:
        raise ControlError("the supervisor runs in another container; give the command there")
    return pid


def _find(config_path: Path, ask: Callable[[Path], T], *, wait_for_names: bool) -> T:
    folders = find_runtime_dirs(config_path, os.environ)
    deadline = time.monotonic() + (_NAMES_COME_BACK_S if wait_for_names else 0)
    while True:
        for folder in folders:
            try:
                return ask(folder)
            except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
                continue
            except PermissionError:
                if owner := _foreign_supervisor(folder):
                    msg = f"the instance of {config_path} belongs to {owner}; use sudo"
                    raise ControlError(msg) from None
        holder = next(filter(None, map(find_beacon, folders)), None)
        if holder is None:
            msg = f"not running with {config_path}; `pylantir-supervisor start` starts it, --config names another file"
            raise NotRunning(msg)
        if time.monotonic() > deadline:
            msg = f"the supervisor runs as process {holder}, but cannot be asked: its socket is gone; see its log"
            raise SocketGone(msg, holder)
        time.sleep(_LOOK_AGAIN_S)


def _foreign_supervisor(folder: Path) -> str | None:
    """Name the user whose supervisor runs with a folder that we may not enter; None if it is a leftover."""
    while True:
        try:
            owner = folder.stat().st_uid
            break
        except OSError:
            if folder == folder.parent:
                return None
            folder = folder.parent
    # Where processes of other users are hidden (hidepid), only the folder shows that one exists.
    hidden = not os.path.exists("/proc/1")  # noqa: PTH110
    return user_name(owner) if hidden or owner in users_of_supervisors() else None


def change_data(options: argparse.Namespace, request: Mapping[str, object]) -> int:
    """Have the writer carry out a command; the running supervisor passes it on.

    Raises:
        NotRunning: There is no supervisor.
        ControlError: It does not answer.
        CommandRefused: The command cannot be carried out, or not at present.
    """
    timeout_s = _PURGE_MAY_TAKE_S if request["command"] == "purge" else _ANSWER_TIMEOUT_S
    with progress(f"waiting for {request['command']}"):
        answer = ask_instance(find_named(options.config), request, timeout_s=timeout_s)
    print(*map(printable, str(answer["text"]).splitlines()), sep="\n")
    return ExitStatus.OK
