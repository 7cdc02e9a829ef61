"""Puts a changed configuration into force while everything runs.

Lives in the supervisor's loop. In: a request to reload (SIGHUP, `reload`). Out: checked settings for the loop, and an
answer to the request: what was changed, or why it was refused. If a reload fails, for whatever reason, the previous
configuration stays in force.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from pylantir.errors import PylantirError
from pylantir.settings import Settings
from workers.supervisor.children.roles import Changes
from workers.supervisor.configuration import ConfigurationCheck
from workers.supervisor.control import Reply
from workers.supervisor.notify import Notifier

logger = logging.getLogger(__name__)


class Reloads:
    """The reloads, one after the other.

    Args:
        path: The configuration file.
        environ: The environment of the start, secrets too.
        overrides: From the command line.
        take_over: Puts checked settings into force; raises a PylantirError if that is not possible.
        notifier: The line to the service manager.

    Attributes:
        problems: Why the last reload was refused; empty after a good one.
    """

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        overrides: Mapping[str, object],
        take_over: Callable[[Settings], Changes],
        notifier: Notifier,
    ) -> None:
        self.problems: tuple[str, ...] = ()
        self._path = path
        self._environ = environ
        self._overrides = overrides
        self._take_over = take_over
        self._notifier = notifier
        self._check: ConfigurationCheck | None = None
        self._is_wanted_again = False
        self._replies: list[Reply] = []

    def filenos(self) -> Iterator[int]:
        """What the supervisor's loop should wait for."""
        if self._check:
            yield self._check.connection.fileno()

    def deadline(self) -> float | None:
        """When to look at the check even if it sends nothing (monotonic seconds)."""
        return self._check.deadline if self._check else None

    def begin(self, reply: Reply | None = None) -> None:
        """Read the configuration again; answer when it has been checked."""
        if reply:
            self._replies.append(reply)
        if self._check:
            # The running check may have read the file before the latest change.
            self._is_wanted_again = True
            return
        logger.info("reading the configuration again")
        self._notifier.reloading()
        try:
            self._check = ConfigurationCheck(self._path, self._environ, self._overrides)
        except Exception as error:  # last resort: no process or descriptor for the check must not end the others
            logger.exception("the configuration cannot be checked")
            self._conclude([f"the configuration cannot be checked just now: {error}"])

    def service(self) -> None:
        """Put a checked configuration into force; only the processes that it changes are restarted."""
        if self._check is None:
            return
        try:
            checked = self._check.finish(0)
        except Exception:
            logger.exception("the result of the configuration check cannot be read")
            self._check = None
            self._conclude(["the result of the configuration check cannot be read; the log has the traceback"])
            return
        if checked is None:
            return
        self._check = None
        if self._is_wanted_again:
            self._is_wanted_again = False
            self.begin()
        elif checked.settings is None:
            self._conclude(checked.problems)
        else:
            self._put_into_force(checked.settings)

    def abandon(self) -> None:
        """End a running check, because everything stops."""
        if self._check:
            self._check.abandon()
            self._check = None
        for reply in self._replies:
            reply({"error": "it is being stopped"})
        self._replies.clear()

    def _put_into_force(self, settings: Settings) -> None:
        try:
            changes = self._take_over(settings)
        except PylantirError as error:
            self._conclude([str(error)])
        except Exception as error:  # last resort: the processes go on with the present configuration
            logger.exception("the configuration cannot be taken over")
            self._conclude([f"the configuration cannot be taken over: {type(error).__name__}: {error}"])
        else:
            for warning in settings.warnings:
                logger.warning("%s", warning)
            self._conclude([], changes, settings.warnings)

    def _conclude(
        self, problems: list[str] | tuple[str, ...], changes: Changes | None = None, warnings: tuple[str, ...] = ()
    ) -> None:
        for problem in problems:
            logger.error("%s", problem)
        if problems:
            logger.error("the configuration is refused; the one before stays in force")
        self.problems = tuple(problems)
        self._notifier.reloaded()
        answer = {"problems": list(problems), "warnings": list(warnings), **asdict(changes or Changes())}
        for reply in self._replies:
            reply(answer)
        self._replies.clear()
