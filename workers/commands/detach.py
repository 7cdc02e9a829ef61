"""`start --detach`: starts an instance in the background and waits until it is ready. Lives in the command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast
from urllib.parse import unquote

from pylantir.cli.supervisor import ask_instance
from pylantir.errors import ConfigurationError, ControlError, ExitStatus, NotRunning, PylantirError
from pylantir.programs.closed import wipe_initial_environment
from pylantir.programs.progress import progress
from pylantir.settings import Settings
from workers.supervisor.check import check_configuration

READY_TIMEOUT_S = 60.0
"""The writer may convert a large database of an earlier version meanwhile."""
CRASHING_S = 12.0
"""How long the others may take after a process has crashed: the command must report a crash within 20 seconds."""
_POLL_S = 0.05
_OPTIONS = {"ae_title": "--AEtitle", "host": "--ip", "port": "--port"}

Process = dict[str, object]


def start_detached(path: Path, overrides: Mapping[str, object], log_path: Path | None = None) -> int:
    """Start an instance that outlives this command; return once every process is ready, or one cannot become ready.

    Raises:
        ConfigurationError: With all problems; nothing was started.
        PylantirError: The log file cannot be written.
    """
    wipe_initial_environment()
    checked = check_configuration(path, os.environ, overrides)
    if checked.settings is None:
        raise ConfigurationError(checked.problems)
    log_path = log_path or default_log_path(checked.settings, os.environ)
    command = [sys.executable, "-P", "-m", "workers.commands.cli", "start", "--config", str(path)]
    for name, value in overrides.items():
        command += [_OPTIONS[name], str(value)]
    command += ["--log-file", str(log_path)]
    process, begin = _spawn(command, log_path)
    with progress("starting"):
        status, text, complaints = _wait_until_ready(process, path, log_path, begin)
    if text:
        print(text)
    for complaint in complaints:
        print(f"pylantir-supervisor: {complaint}", file=sys.stderr)
    return status


def _wait_until_ready(
    process: subprocess.Popen[bytes], path: Path, log_path: Path, begin: int
) -> tuple[int, str, list[str]]:
    """Return the exit status, what to print, and what to complain about. The process's log starts at byte `begin`."""
    running = f"running as process {process.pid}; log: {log_path}"
    began = time.monotonic()
    while time.monotonic() < began + READY_TIMEOUT_S:
        code = process.poll()
        if code is not None:
            return (
                code or ExitStatus.FAILURE,
                "",
                [f"it ended with status {code}{_last_line(log_path, begin)}; see {log_path}"],
            )
        children = _children(path, process.pid)
        waiting = [child for child in children if not child["ready"]]
        if children and not waiting:
            return ExitStatus.OK, running, []
        crashing = [child for child in waiting if has_crashed(child)]
        if crashing and (len(crashing) == len(waiting) or time.monotonic() > began + CRASHING_S):
            return ExitStatus.FAILURE, running, [f"{describe_crash(child)}; see {log_path}" for child in crashing]
        time.sleep(_POLL_S)
    late = [child for child in _children(path, process.pid) if not child["ready"]]
    names = ", ".join(
        f"{child['name']} ({child['problem']})" if child["problem"] else str(child["name"]) for child in late
    )
    return ExitStatus.FAILURE, running, [f"started, but not ready: {names}; see `status` and {log_path}"]


def default_log_path(settings: Settings, environ: Mapping[str, str]) -> Path:
    """Say where the log of a detached instance is: beside the database, else in the state folder.

    The runtime folder is unsuitable: it may be in memory, and may vanish when a login session ends.
    """
    if settings.db_url.startswith("sqlite:///"):
        database = unquote(settings.db_url.removeprefix("sqlite:///").partition("?")[0])
        return Path(database).with_suffix(".log")
    state = environ.get("LOGS_DIRECTORY") or environ.get("STATE_DIRECTORY")
    if state:
        return Path(state.partition(":")[0]) / "pylantir.log"
    home = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "pylantir" / f"{Path(settings.config_path).stem}.log"


def has_crashed(child: Process) -> bool:
    """Whether a process that is not ready has ended unexpectedly, either more than once or for good.

    After the first crash the supervisor starts it again at once, which may succeed.
    """
    restarts = child["restarts"]
    return child["state"] == "FATAL" or (isinstance(restarts, int) and restarts >= 1 and child["last_exit"] is not None)


def describe_crash(child: Process) -> str:
    """Name a process that does not become ready, and how it ended."""
    words = cast("list[str]", child.get("last_words") or [])
    last = f": {words[-1].strip()}" if words else ""
    return f"{child['name']} does not become ready; it ended with {child['last_exit']}{last}"


def _last_line(log_path: Path, begin: int) -> str:
    """Return the last line that the process has written, which says why it ended."""
    try:
        with log_path.open("rb") as log:
            log.seek(begin)
            lines = log.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    last = next((line for line in reversed(lines) if line.strip()), "")
    return f": {last.removeprefix('pylantir-supervisor: ')}" if last else ""


def _spawn(command: list[str], log_path: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start the process; return it, and how long its log file was before."""
    try:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise PylantirError(f"the log file {log_path} cannot be written: {error.strerror}") from None
    with os.fdopen(log, "ab") as stream:
        begin = os.fstat(log).st_size
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    return process, begin


def _children(path: Path, pid: int) -> list[Process]:
    """Return the processes of the instance that we have started; none while it does not answer."""
    try:
        status = ask_instance(path, {"command": "status"}, wait_for_names=False)
    except (OSError, ControlError, NotRunning):
        return []
    own, *children = cast("list[Process]", status["processes"])
    return children if own["pid"] == pid else []
