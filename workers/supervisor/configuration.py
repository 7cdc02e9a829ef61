"""The supervisor's view of a configuration: checked in a short-lived child, at the start and for every reload.

Lives in the supervisor, which itself imports neither pydantic nor a plugin. At the start the child is the first to load
what both need: a scanner is waiting, and the check takes longer.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from pylantir.errors import ConfigurationError
from workers.supervisor.signals import STOPPING, Signals

if TYPE_CHECKING:
    from pylantir.settings import Settings
    from workers.supervisor.check import Checked

CHECK_TIMEOUT_S = 30.0


class ConfigurationCheck:
    """A configuration being checked in a short-lived child.

    Args:
        path: The configuration file.
        environ: The whole environment, secrets too; our own may lack those of the configuration in force.
        overrides: From the command line.
    """

    def __init__(self, path: Path, environ: Mapping[str, str], overrides: Mapping[str, object]) -> None:
        context = multiprocessing.get_context("spawn")
        self._path, self._environ, self._overrides = path, environ, overrides
        self.connection: Connection
        self.connection, theirs = context.Pipe(duplex=False)
        arguments = (theirs, os.getpid(), str(path), dict(environ), dict(overrides))
        self._process = context.Process(target=_check, args=arguments)
        self.deadline = time.monotonic() + CHECK_TIMEOUT_S
        try:
            with theirs:
                self._process.start()
        except BaseException:
            self.connection.close()
            raise

    def finish(self, timeout_s: float) -> Checked | None:
        """Return the result of the check; None while it runs."""
        if not self.connection.poll(timeout_s) and time.monotonic() < self.deadline:
            return None
        try:
            result: Checked = self.connection.recv() if self.connection.poll() else _no_answer()
        except (EOFError, OSError):
            # The child was killed before its answer or during it.
            result = _no_answer()
        finally:
            self.abandon()
        return result

    def again(self) -> ConfigurationCheck:
        """Start the check again: it may have read the file before the change."""
        self.abandon()
        return ConfigurationCheck(self._path, self._environ, self._overrides)

    def abandon(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self.connection.close()


def _check(
    connection: Connection, parent_pid: int, path: str, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> None:
    """The target of the child. Its import is here, so that the supervisor can start it before it loads that itself."""
    from workers.supervisor.check import check_in_child

    check_in_child(connection, parent_pid, path, environ, overrides)


def _no_answer() -> Checked:
    from workers.supervisor.check import Checked

    return Checked(problems=("the configuration check ended without a result; see the messages before this one",))


def wait_for_settings(check: ConfigurationCheck, signals: Signals) -> Settings | None:
    """Wait for the check at the start, before anything else is touched; return None if a signal says to stop.

    Raises:
        ConfigurationError: With all problems.
    """
    while True:
        wait([check.connection, signals.waitable], CHECK_TIMEOUT_S)
        received = set(signals.take())
        if received & STOPPING:
            check.abandon()
            return None
        if signal.SIGHUP in received:
            check = check.again()
        checked = check.finish(0)
        if checked:
            if checked.settings is None:
                raise ConfigurationError(checked.problems)
            return checked.settings
