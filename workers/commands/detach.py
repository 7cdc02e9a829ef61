"""`start --detach`: an instance in the background, and the wait until it is ready. Lives in the command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pylantir.config.locate import find_runtime_dir
from pylantir.errors import ConfigurationError, ControlError, ExitStatus
from pylantir.ipc.control import ask_supervisor
from workers.supervisor.check import check_configuration

READY_TIMEOUT_S = 60.0
_POLL_S = 0.05
_OPTIONS = {"ae_title": "--AEtitle", "host": "--ip", "port": "--port"}


def start_detached(path: Path, overrides: Mapping[str, object]) -> int:
    """Start an instance that outlives this command; return once every process is ready.

    Raises:
        ConfigurationError: With all problems; nothing was started.
    """
    checked = check_configuration(path, os.environ, overrides)
    if checked.settings is None:
        raise ConfigurationError(checked.problems)
    log_path = Path(checked.settings.runtime_dir).parent / f"{Path(checked.settings.runtime_dir).name}.log"
    command = [sys.executable, "-m", "workers.commands.cli", "start", "--config", str(path)]
    for name, value in overrides.items():
        command += [_OPTIONS[name], str(value)]
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        code = process.poll()
        if code is not None:
            print(f"pylantir-supervisor: it ended with status {code}; see {log_path}", file=sys.stderr)
            return code or ExitStatus.FAILURE
        if _is_ready(path, process.pid):
            print(f"running as process {process.pid}; log: {log_path}")
            return ExitStatus.OK
        time.sleep(_POLL_S)
    print(f"pylantir-supervisor: started, but not everything is ready; see `status` and {log_path}", file=sys.stderr)
    return ExitStatus.FAILURE


def _is_ready(path: Path, pid: int) -> bool:
    try:
        status = ask_supervisor(find_runtime_dir(path, os.environ), {"command": "status"})
    except (OSError, ControlError):
        return False
    own, *children = cast("list[dict[str, object]]", status["processes"])
    return own["pid"] == pid and all(child["ready"] for child in children)
