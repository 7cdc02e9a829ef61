"""The supervisor: owns no data; starts, watches, restarts and stops the processes that do.

In: a checked configuration, the instance's sockets, signals, what the children say, commands. Out: children. One loop
waits for everything at once; a signal handler only records.
"""

from __future__ import annotations

import logging
import os
import random
import resource
import secrets
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing.connection import wait
from pathlib import Path

from pylantir.errors import ExitStatus, PylantirError
from pylantir.settings import HttpSettings, Settings
from workers.child.log_file import LogFile, log_of
from workers.child.log_output import dropped_lines
from workers.supervisor.children.group import STOP_GRACE_S, Group
from workers.supervisor.children.lifecycle import State
from workers.supervisor.children.orphans import Orphans, end_all_children
from workers.supervisor.children.resources import describe_shortage
from workers.supervisor.children.roles import Changes, Role, digests_in, plan_roles
from workers.supervisor.commands import Commands
from workers.supervisor.control import ControlServer
from workers.supervisor.listening import listen_for_browsers, listen_for_scanners
from workers.supervisor.names import LOOK_EVERY_S, Names
from workers.supervisor.notify import Notifier
from workers.supervisor.probe import ServerWatch, probe_title
from workers.supervisor.reloading import Reloads
from workers.supervisor.signals import MEANINGLESS, Signals
from workers.supervisor.status import StatusReporter

_LONGEST_PAUSE_S = 3600.0
_JITTER = 0.2
_LOOK_AGAIN_S = 0.5
"""How often the loop looks while processes wait for their first start."""

logger = logging.getLogger(__name__)


class Supervisor:
    """The loop over all children."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        overrides: Mapping[str, object],
        signals: Signals,
        *,
        names: Names,
        log_file: LogFile | None,
        dicom: socket.socket,
        http: socket.socket | None,
        notifier: Notifier,
    ) -> None:
        self._settings = settings
        self._signals = signals
        self._notifier = notifier
        self._names = names
        self._log_file = log_file
        self._look_at = 0.0
        self._dicom = dicom
        self._http = http
        self._key = secrets.token_bytes(32)
        self._status = StatusReporter()
        self._started_at = time.monotonic()
        self._shortage: str | None = None
        self._reloads = Reloads(Path(settings.config_path), environ, overrides, self._take_over, notifier)
        self._watch = self._watch_server()
        self._children = Group(self._key, settings.log, str(log_file.path) if log_file else None)
        self._orphans = Orphans()
        self._commands = Commands(self._children, self._describe, self._reloads.begin)
        self._control = ControlServer(names.control.listener, self._commands.obey)
        _hide(settings.secret_env)

    def run(self) -> ExitStatus:
        """Start all processes, keep them running, and return when all have ended."""
        try:
            self._start_everybody()
            while not self._children.have_ended:
                self._turn()
        except Exception:
            # Last resort. A supervisor that neither supervises nor ends is the worst case. After an exit with this
            # status, systemd or the container runtime starts everything again.
            logger.exception("an unexpected error in the supervisor; every process is ended")
            end_all_children(STOP_GRACE_S)
            self._orphans.end_all()
            return ExitStatus.FAILURE
        self._orphans.end_all()
        self._control.close()
        self._watch.close()
        return ExitStatus.OK

    def _look_at_names(self, now: float) -> None:
        """Make sure that commands still find this instance; restart the writer if its socket had to be made again."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        if self._log_file and not self._log_file.is_named:
            self._reopen_log()
        renewed = self._names.renew()
        if "control" in renewed:
            self._control.listen_on(self._names.control.listener)
        if "queue" in renewed and not self._children.is_stopping:
            self._children.replace("writer", self._plan()["writer"], now)

    def _start_everybody(self) -> None:
        logger.info(
            "serving %s as %s on %s port %d, %d sources",
            self._settings.config_path, self._settings.dicom.ae_title, self._settings.dicom.host,
            self._settings.dicom.port, len(self._settings.enabled_sources),
        )  # fmt: skip
        now = time.monotonic()
        roles = self._plan()
        self._tell_shortage(len(roles))
        for role in roles.values():
            self._children.add(role)
        self._children.start_waiting(now)

    def _turn(self) -> None:
        """Wait until something happens, and handle it."""
        now = time.monotonic()
        wait(list(self._waitables(now)), self._pause(now))
        now = time.monotonic()
        for number in self._signals.take():
            self._receive(number, now)
        ended: dict[str, int] = {}
        for child in self._children.everybody():
            child.listen(now)
            pid, jitter = child.pid, random.uniform(-_JITTER, _JITTER)  # noqa: S311 - not a secret
            if child.reap(now, jitter, stopping=self._children.is_stopping) and child.role.source and pid:
                ended[child.role.source] = pid
            child.check_deadlines(now, may_restart=not self._children.is_stopping)
        self._commands.deliver()
        self._children.start_waiting(now)
        self._children.tell_prepared()
        self._probe_server(now)
        self._look_at_names(now)
        self._control.service()
        self._orphans.service(ended, self._children.plugin_groups, now)
        self._reloads.service()
        if self._children.is_stopping:
            self._children.stop_writer_last(now)
        self._children.forget_ended()
        self._notifier.tell(self._children.present, now)

    def _tell_shortage(self, children: int) -> None:
        self._shortage = describe_shortage(children, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        if self._shortage:
            logger.warning("%s", self._shortage)

    def _reopen_log(self) -> None:
        """Open the log file again by its name, and tell the children to do the same."""
        if self._log_file and self._log_file.open():
            for child in self._children.everybody():
                child.say({"kind": "reopen-log"})

    def _plan(self) -> dict[str, Role]:
        return plan_roles(self._settings, self._key, self._names.queue.listener, self._dicom, self._http)

    def _watch_server(self) -> ServerWatch:
        dicom = self._settings.dicom
        address, title = self._dicom.getsockname(), probe_title(self._key)
        return ServerWatch(address, dicom.ae_title, title, over_tls=dicom.tls is not None)

    def _probe_server(self, now: float) -> None:
        server = self._children.server
        is_ready = server.life.state is State.RUNNING and not self._children.is_stopping
        if self._watch.serve(server.pid if is_ready else None, now):
            server.abort(now, "does not answer a C-ECHO")

    def _waitables(self, now: float) -> Iterator[int]:
        yield self._signals.waitable.fileno()
        yield from self._control.filenos()
        yield from self._watch.filenos()
        yield from self._reloads.filenos()
        for child in self._children.everybody():
            yield from child.filenos(now)

    def _pause(self, now: float) -> float | None:
        may_restart, everybody = not self._children.is_stopping, self._children.everybody()
        deadlines = [moment for child in everybody for moment in child.deadlines(now, may_restart=may_restart)]
        others = (
            self._look_at, self._watch.deadline(), self._notifier.deadline(), self._reloads.deadline(),
            self._control.deadline(), self._orphans.deadline(),
        )  # fmt: skip
        deadlines += [moment for moment in others if moment is not None]
        if self._children.are_waiting:
            deadlines.append(now + _LOOK_AGAIN_S)
        return min(max(0.0, min(deadlines) - now), _LONGEST_PAUSE_S) if deadlines else None

    def _receive(self, number: int, now: float) -> None:
        if number == signal.SIGHUP:
            self._reopen_log()
            if not self._children.is_stopping:
                self._reloads.begin()
        elif number in MEANINGLESS:
            logger.info("%s: means nothing here; SIGHUP reopens the log and reloads", signal.Signals(number).name)
        elif not self._children.is_stopping:
            logger.info("%s: stopping", signal.Signals(number).name)
            self._notifier.stopping()
            self._reloads.abandon()
            self._children.begin_stop(now)
        elif self._children.hurry():
            logger.warning("%s again: stopping at once", signal.Signals(number).name)

    def _take_over(self, settings: Settings) -> Changes:
        """Put a checked configuration into force; every step that can fail comes first."""
        old, now = self._settings, time.monotonic()
        if (settings.runtime_dir, settings.db_url) != (old.runtime_dir, old.db_url):
            msg = "runtime_dir and the database can be changed by a restart only: stop, then start"
            raise PylantirError(msg)
        if (settings.dicom.host, settings.dicom.port) != (old.dicom.host, old.dicom.port):
            dicom = listen_for_scanners(settings.dicom)
            self._dicom.close()
            self._dicom = dicom
        if _address(settings.http) != _address(old.http):
            http = listen_for_browsers(settings.http)
            if self._http:
                self._http.close()
            self._http = http
        self._settings = settings
        has_hidden = _hide(settings.secret_env)
        self._watch.close()
        self._watch = self._watch_server()
        roles = self._plan()
        self._tell_shortage(len(roles))
        # A source may have been started with a variable that is another source's secret now.
        changes = self._children.take_over(roles, settings.log, now, restart_sources=has_hidden)
        writer = self._children.writer
        writer.replace_role(roles["writer"], settings.log)
        writer.say({"kind": "digests", "digests": digests_in(roles["writer"])})
        return changes

    def _describe(self) -> Mapping[str, object]:
        now = time.monotonic()
        described = self._status.describe(
            self._children.present,
            now=now,
            started_at=self._started_at,
            stopping=self._children.is_stopping,
            log_dropped=dropped_lines(),
            troubles=[trouble for trouble in (self._names.trouble, self._shortage) if trouble],
            disabled=[source.name for source in self._settings.sources if not source.enabled],
        )
        return {
            "config": self._settings.config_path,
            "reload_problems": list(self._reloads.problems),
            "log": str(self._log_file.path) if self._log_file else log_of(2),
            **described,
        }


def _address(http: HttpSettings | None) -> tuple[str, int] | None:
    return (http.host, http.port) if http else None


def _hide(names: Iterable[str]) -> bool:
    """Remove secrets from the environment that children inherit; each source gets its own in another way.

    Returns:
        Whether any was still there.
    """
    found = [name for name in names if name in os.environ]
    for name in found:
        del os.environ[name]
    return bool(found)
