"""`start` in the foreground: the process of this command becomes the supervisor."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from pylantir.errors import ExitStatus, PylantirError
from pylantir.programs.closed import wipe_initial_environment, without_variables
from pylantir.programs.import_path import SAFE_PATH

_NEEDED_BY_PYTHON = {
    "PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", SAFE_PATH,
}  # fmt: skip


def start(path: Path, overrides: Mapping[str, object], log_path: Path | None) -> int:
    """Check the configuration and run an instance of it until it is told to stop.

    Raises:
        ConfigurationError: With all problems; nothing was started.
        AlreadyRunning: Another instance of this configuration runs.
        PylantirError: The port, the runtime folder or the log file cannot be used.
    """
    # The imports here create no garbage worth collecting.
    gc.disable()
    # A signal that comes while modules are loaded waits for its handler instead of ending us with another status.
    asking = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
    signal.pthread_sigmask(signal.SIG_BLOCK, asking)
    # Must come before the first import of setproctitle, which overwrites the environment that /proc shows.
    os.environ.setdefault("SPT_NOENV", "1")
    if log_path:
        from workers.child.log_file import LogFile

        if not LogFile(log_path, 1, 2).open():
            raise PylantirError(f"the log file {log_path} cannot be written")
    from workers.child.names import set_names
    from workers.supervisor.configuration import ConfigurationCheck, wait_for_settings
    from workers.supervisor.signals import Signals

    signals = Signals()
    environ = dict(os.environ)
    set_names("supervisor")
    wipe_initial_environment()
    # It keeps the signals blocked, so that none that reaches the whole group ends it.
    start_resource_tracker()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, asking)
    check = ConfigurationCheck(path, environ, overrides)
    # Load this while the child checks, because a scanner is waiting.
    from workers.supervisor.instance import supervise

    gc.freeze()
    gc.enable()
    settings = wait_for_settings(check, signals)
    if settings is None:
        return ExitStatus.OK
    return supervise(settings, environ, overrides, signals, log_path)


def start_resource_tracker() -> None:
    """Start the process that `multiprocessing` keeps beside its children; its environment has no secret.

    It would else be started with the configuration check, when nobody knows yet which variables are secrets.
    """
    from multiprocessing.resource_tracker import ensure_running

    with without_variables(os.environ.keys() - _NEEDED_BY_PYTHON):
        ensure_running()
