"""The supervisor: owns no data; starts, watches, restarts and stops the processes that do.

In: a checked configuration, the instance's sockets, signals, what the children say, commands. Out: children. One loop
waits for everything at once; a signal handler only records.
"""

from __future__ import annotations

import itertools
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
from pylantir.ipc.frames import Frame
from pylantir.programs.arguments import unknown_name
from pylantir.settings import HttpSettings, Settings
from workers.child.log_file import LogFile, log_of
from workers.child.log_output import dropped_lines
from workers.supervisor.children import Child
from workers.supervisor.control import ControlServer, Reply
from workers.supervisor.lifecycle import State, may_start
from workers.supervisor.listening import listen_for_browsers, listen_for_scanners
from workers.supervisor.names import LOOK_EVERY_S, Names
from workers.supervisor.notify import Notifier
from workers.supervisor.orphans import end_all_children, reap_orphans
from workers.supervisor.probe import ServerWatch, probe_title
from workers.supervisor.relay import SERVER_COMMANDS, WRITER_COMMANDS, Relay
from workers.supervisor.reloading import Changes, Reloads
from workers.supervisor.resources import describe_shortage
from workers.supervisor.roles import Role, digests_in, plan_roles
from workers.supervisor.signals import Signals
from workers.supervisor.status import StatusReporter

STOP_GRACE_S = 3.0
"""How long sources and the server may take to end."""
WRITER_GRACE_S = 5.0
"""How long the writer may then take to commit the frames that it has received."""
HURRY_GRACE_S = 0.5
_LONGEST_PAUSE_S = 3600.0
_JITTER = 0.2
_AT_ONCE = 4 + 2 * (os.cpu_count() or 1)
"""How many processes may be starting at the same time."""
_STARTED_FIRST = {"mwl-scp": 0, "writer": 1}
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
        self._control = ControlServer(names.control.listener, self._obey)
        self._key = secrets.token_bytes(32)
        self._generations = itertools.count(1)
        self._status = StatusReporter()
        self._started_at = time.monotonic()
        self._shortage: str | None = None
        self._stopping = False
        self._hurried = False
        self._reloads = Reloads(Path(settings.config_path), environ, overrides, self._take_over, notifier)
        self._relay, self._server_relay = Relay(), Relay()
        self._watch = self._watch_server()
        self._children: dict[str, Child] = {}
        self._leaving: list[Child] = []
        _hide(settings.secret_env)

    def run(self) -> ExitStatus:
        """Start all processes, keep them running, and return when all have ended."""
        try:
            self._start_everybody()
            while not self._is_over():
                self._turn()
        except Exception:
            # Last resort. A supervisor that neither supervises nor ends is the worst case. After an exit with this
            # status, systemd or the container runtime starts everything again.
            logger.exception("an unexpected error in the supervisor; every process is ended")
            end_all_children(STOP_GRACE_S)
            return ExitStatus.FAILURE
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
        if "queue" in renewed and not self._stopping:
            writer = self._children["writer"]
            writer.replace_role(self._plan()["writer"], self._settings.log)
            self._restart(writer, now)

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
            self._add(role)
        self._start_waiting(now)

    def _start_waiting(self, now: float) -> None:
        """Start waiting processes, a few at a time: the server first, because scanners wait for it."""
        waiting = [child for child in self._children.values() if child.life.is_to_come]
        if waiting and not self._stopping:
            everybody = self._children.values()
            first = [child.life for child in everybody if child.role.role in _STARTED_FIRST]
            others = [child.life for child in everybody if child.role.role not in _STARTED_FIRST]
            free = may_start(first, others, now, _AT_ONCE)
            waiting.sort(key=lambda child: _STARTED_FIRST.get(child.role.role, 2))
            for child in waiting[:free]:
                child.spawn(now)

    def _turn(self) -> None:
        """Wait until something happens, and handle it."""
        now = time.monotonic()
        wait(list(self._waitables(now)), self._pause(now))
        now = time.monotonic()
        for number in self._signals.take():
            self._receive(number, now)
        for child in self._everybody():
            child.listen(now)
            jitter = random.uniform(-_JITTER, _JITTER)  # noqa: S311 - not a secret
            child.reap(now, jitter, stopping=self._stopping)
            child.check_deadlines(now, may_restart=not self._stopping)
        for done in self._relay.deliver(self._children["writer"]):
            source = self._children.get(str(done.get("name")))
            if done.get("command") == "accept" and source:
                source.say({"kind": "sync"})
            if done.get("command") == "purge" and done.get("patient") and not done.get("dry_run"):
                self._children["mwl-scp"].say({"kind": "erased"})
        self._server_relay.deliver(self._children["mwl-scp"])
        self._start_waiting(now)
        self._probe_server(now)
        self._look_at_names(now)
        self._control.service()
        reap_orphans()
        self._reloads.service()
        if self._stopping:
            self._stop_writer_last(now)
        self._leaving = [child for child in self._leaving if child.life.state is not State.STOPPED]
        self._notifier.tell(self._children.values(), now)

    def _tell_shortage(self, children: int) -> None:
        self._shortage = describe_shortage(children, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        if self._shortage:
            logger.warning("%s", self._shortage)

    def _reopen_log(self) -> None:
        """Open the log file again by its name, and tell the children to do the same."""
        if self._log_file and self._log_file.open():
            for child in self._everybody():
                child.say({"kind": "reopen-log"})

    def _plan(self) -> dict[str, Role]:
        return plan_roles(self._settings, self._key, self._names.queue.listener, self._dicom, self._http)

    def _watch_server(self) -> ServerWatch:
        dicom = self._settings.dicom
        address, title = self._dicom.getsockname(), probe_title(self._key)
        return ServerWatch(address, dicom.ae_title, title, over_tls=dicom.tls is not None)

    def _probe_server(self, now: float) -> None:
        server = self._children["mwl-scp"]
        is_ready = server.life.state is State.RUNNING and not self._stopping
        if self._watch.serve(server.pid if is_ready else None, now):
            server.abort(now, "does not answer a C-ECHO")

    def _add(self, role: Role) -> Child:
        child = self._children[role.name] = Child(
            role,
            self._key,
            self._settings.log,
            self._generations,
            time.monotonic(),
            str(self._log_file.path) if self._log_file else None,
        )
        return child

    def _everybody(self) -> list[Child]:
        return [*self._children.values(), *self._leaving]

    def _waitables(self, now: float) -> Iterator[int]:
        yield self._signals.waitable.fileno()
        yield from self._control.filenos()
        yield from self._watch.filenos()
        yield from self._reloads.filenos()
        for child in self._everybody():
            yield from child.filenos(now)

    def _pause(self, now: float) -> float | None:
        may_restart = not self._stopping
        deadlines = [moment for child in self._everybody() for moment in child.deadlines(now, may_restart=may_restart)]
        others = (
            self._look_at, self._watch.deadline(), self._notifier.deadline(), self._reloads.deadline(),
            self._control.deadline(),
        )  # fmt: skip
        deadlines += [moment for moment in others if moment is not None]
        if not self._stopping and any(child.life.is_to_come for child in self._children.values()):
            deadlines.append(now + _LOOK_AGAIN_S)
        return min(max(0.0, min(deadlines) - now), _LONGEST_PAUSE_S) if deadlines else None

    def _is_over(self) -> bool:
        return self._stopping and all(child.life.state is State.STOPPED for child in self._everybody())

    def _receive(self, number: int, now: float) -> None:
        if number == signal.SIGHUP:
            self._reopen_log()
            if not self._stopping:
                self._reloads.begin()
        elif not self._stopping:
            logger.info("%s: stopping", signal.Signals(number).name)
            self._begin_stop(now)
        elif not self._hurried:
            logger.warning("%s again: stopping at once", signal.Signals(number).name)
            self._hurried = True
            for child in self._everybody():
                if child.role.role != "writer":
                    child.kill()

    def _begin_stop(self, now: float) -> None:
        """Tell sources and the server to end; the writer is told when they have ended."""
        self._stopping = True
        self._notifier.stopping()
        self._reloads.abandon()
        for child in self._everybody():
            if child.role.role != "writer":
                child.stop(now, STOP_GRACE_S)

    def _stop_writer_last(self, now: float) -> None:
        writer = self._children["writer"]
        others = [child for child in self._everybody() if child is not writer]
        if any(child.life.state is not State.STOPPED for child in others):
            return
        if writer.life.state is not State.STOPPING or self._hurried:
            writer.stop(now, HURRY_GRACE_S if self._hurried else WRITER_GRACE_S)

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
        removed = [name for name in self._children if name not in roles]
        for name in removed:
            child = self._children.pop(name)
            child.stop(now, STOP_GRACE_S)
            self._leaving.append(child)
        added, restarted = [], []
        for name, role in roles.items():
            known = self._children.get(name)
            if known is None:
                self._add(role)
                added.append(name)
            elif (
                known.role != role
                or known.life.state is State.FATAL
                or settings.log != old.log
                # It was started with a variable that is another source's secret now.
                or (has_hidden and role.source)
            ):
                logger.info("%s: its configuration has changed; it is restarted", name)
                known.replace_role(role, settings.log)
                self._restart(known, now)
                restarted.append(name)
        writer = self._children["writer"]
        writer.replace_role(roles["writer"], settings.log)
        writer.say({"kind": "digests", "digests": digests_in(roles["writer"])})
        return Changes(restarted=tuple(restarted), added=tuple(added), removed=tuple(removed))

    def _restart(self, child: Child, now: float) -> None:
        """End an incarnation in order; `reap` sees it as an exit and starts the next one at once."""
        child.restart(now, STOP_GRACE_S if child.role.role != "writer" else WRITER_GRACE_S)

    def _obey(self, request: Frame, reply: Reply) -> None:
        """Carry out a command from the control socket."""
        command, name = request.get("command"), request.get("name")
        child = self._children.get(name) if isinstance(name, str) else None
        if command == "status":
            reply(self._describe())
        elif self._stopping:
            reply({"error": "it is being stopped"})
        elif command == "reload":
            self._reloads.begin(reply)
        elif command in WRITER_COMMANDS and (command != "accept" or (child and child.role.source)):
            self._relay.pass_on(self._children["writer"], request, reply)
        elif command in SERVER_COMMANDS:
            self._server_relay.pass_on(self._children["mwl-scp"], request, reply)
        elif command in {"sync", "accept"} and not (child and child.role.source):
            sources = [known for known, one in self._children.items() if one.role.source]
            reply({"error": unknown_name("source", str(name), sources), "wrong_usage": True})
        elif child is None:
            # A request may have any JSON value as a name: it is shown as text.
            reply({"error": unknown_name("process", str(name), self._children), "wrong_usage": True})
        elif command == "restart":
            logger.info("%s: restart asked for", name)
            self._restart(child, time.monotonic())
            reply({"text": f"{name} is restarted"})
        elif command == "sync":
            reply(_sync(child))
        else:
            reply({"error": f'"{command}" cannot be done with {name}'})

    def _describe(self) -> Mapping[str, object]:
        now = time.monotonic()
        described = self._status.describe(
            self._children.values(),
            now=now,
            started_at=self._started_at,
            stopping=self._stopping,
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


def _sync(child: Child) -> Mapping[str, object]:
    """Let a source begin a cycle now; return the answer to the operator."""
    name, host = child.role.name, child.reports.get("standby")
    if isinstance(host, str):
        return {"text": f"{name} is fetched by {host}; nothing is done here"}
    if child.life.state is State.RUNNING and child.say({"kind": "sync"}):
        return {"text": f"{name} fetches now"}
    return {"error": f"{name} does not run just now; try again when `status` shows RUNNING"}


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
