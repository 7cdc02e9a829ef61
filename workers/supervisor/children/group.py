"""All children of a run: started a few at a time, changed by a reload, ended with the writer last.

Lives in the supervisor. In which order processes start and end is decided here; what is to run, in `roles`.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Collection, Iterable, Mapping

from pylantir.settings import LogSettings
from workers.supervisor.children.child import Child
from workers.supervisor.children.lifecycle import State, may_start
from workers.supervisor.children.roles import Changes, Role, plan_changes

STOP_GRACE_S = 3.0
"""How long sources and the server may take to end."""
WRITER_GRACE_S = 5.0
"""How long the writer may then take to commit the frames that it has received."""
HURRY_GRACE_S = 0.5
_AT_ONCE = 4 + 2 * (os.cpu_count() or 1)
"""How many processes may be starting at the same time."""
_STARTED_FIRST = {"mwl-scp": 0, "writer": 1}

logger = logging.getLogger(__name__)


class Group:
    """The children by name, and those that a reload has removed and that have not ended yet.

    Args:
        key: This run's key for the producers' tokens.
        log: Form and level of their logs.
        log_path: The log file, if there is one.
    """

    def __init__(self, key: bytes, log: LogSettings, log_path: str | None) -> None:
        self._key = key
        self._log = log
        self._log_path = log_path
        self._generations = itertools.count(1)
        self._children: dict[str, Child] = {}
        self._leaving: list[Child] = []
        self._is_prepared = False
        self._told_pid: int | None = None
        self.is_stopping = False
        self._is_hurried = False

    @property
    def writer(self) -> Child:
        """The child that alone writes to the database."""
        return self._children["writer"]

    @property
    def server(self) -> Child:
        """The child that answers scanners."""
        return self._children["mwl-scp"]

    @property
    def present(self) -> Collection[Child]:
        """The children that are to run."""
        return self._children.values()

    @property
    def names(self) -> Collection[str]:
        """Their names."""
        return self._children.keys()

    def everybody(self) -> list[Child]:
        """Return the children that are to run, and those that are about to end."""
        return [*self._children.values(), *self._leaving]

    @property
    def plugin_groups(self) -> set[int]:
        """The process groups of the source workers that run: each leads one, named by its process id."""
        return {child.pid for child in self.everybody() if child.role.source and child.pid}

    def find(self, name: object) -> Child | None:
        """Return the child of this name; a request may have any value as a name."""
        return self._children.get(name) if isinstance(name, str) else None

    def add(self, role: Role) -> None:
        """Add a child; `start_waiting` starts it."""
        self._children[role.name] = Child(
            role, self._key, self._log, self._generations, time.monotonic(), self._log_path
        )

    @property
    def are_waiting(self) -> bool:
        """Whether any child waits for its first start."""
        return not self.is_stopping and any(child.life.is_to_come for child in self.present)

    def start_waiting(self, now: float) -> None:
        """Start waiting processes, a few at a time: the server first, because scanners wait for it."""
        if not self.are_waiting:
            return
        waiting = [child for child in self.present if child.life.is_to_come]
        first = [child.life for child in self.present if child.role.role in _STARTED_FIRST]
        others = [child.life for child in self.present if child.role.role not in _STARTED_FIRST]
        free = may_start(first, others, now, _AT_ONCE)
        waiting.sort(key=lambda child: _STARTED_FIRST.get(child.role.role, 2))
        for child in waiting[:free]:
            child.spawn(now)

    def tell_prepared(self) -> None:
        """Tell each incarnation of the server that the writer has made the tables, or has said why it cannot."""
        writer = self.writer
        self._is_prepared |= writer.life.state is State.RUNNING or bool(writer.news.values.get("database"))
        pid = self.server.pid
        if self._is_prepared and pid not in {None, self._told_pid} and self.server.say({"kind": "prepared"}):
            self._told_pid = pid

    def take_over(self, roles: Mapping[str, Role], log: LogSettings, now: float, *, restart_sources: bool) -> Changes:
        """Replace the children that a checked configuration changes.

        Args:
            roles: What is to run now.
            log: Form and level of the logs.
            now: Monotonic seconds.
            restart_sources: A source's process may have a variable that is another one's secret now.
        """
        changes = plan_changes(
            {name: child.role for name, child in self._children.items()},
            roles,
            failed={name for name, child in self._children.items() if child.life.state is State.FATAL},
            log_changed=log != self._log,
            restart_sources=restart_sources,
        )
        self._log = log
        for name in changes.removed:
            child = self._children.pop(name)
            child.stop(now, STOP_GRACE_S)
            self._leaving.append(child)
        for name in changes.added:
            self.add(roles[name])
        for name in changes.restarted:
            logger.info("%s: its configuration has changed; it is restarted", name)
            self.replace(name, roles[name], now)
        return changes

    def replace(self, name: str, role: Role, now: float) -> None:
        """Restart a child in another role."""
        child = self._children[name]
        child.replace_role(role, self._log)
        self.restart(child, now)

    def restart(self, child: Child, now: float) -> None:
        """End an incarnation in order; `reap` sees it as an exit and starts the next one at once."""
        child.restart(now, STOP_GRACE_S if child.role.role != "writer" else WRITER_GRACE_S)

    def begin_stop(self, now: float) -> None:
        """Tell sources and the server to end; the writer is told when they have ended."""
        self.is_stopping = True
        for child in self._all_but_writer():
            child.stop(now, STOP_GRACE_S)

    def hurry(self) -> bool:
        """Kill everybody but the writer, which gets a moment; return False if that was done before."""
        if self._is_hurried:
            return False
        self._is_hurried = True
        for child in self._all_but_writer():
            child.kill()
        return True

    def stop_writer_last(self, now: float) -> None:
        """Tell the writer to end, as soon as nobody sends it anything any more."""
        writer = self.writer
        if any(child.life.state is not State.STOPPED for child in self.everybody() if child is not writer):
            return
        if writer.life.state is not State.STOPPING or self._is_hurried:
            writer.stop(now, HURRY_GRACE_S if self._is_hurried else WRITER_GRACE_S)

    def forget_ended(self) -> None:
        """Forget removed children that have ended."""
        self._leaving = [child for child in self._leaving if child.life.state is not State.STOPPED]

    @property
    def have_ended(self) -> bool:
        """Whether everything was stopped and has ended."""
        return self.is_stopping and all(child.life.state is State.STOPPED for child in self.everybody())

    def _all_but_writer(self) -> Iterable[Child]:
        return [child for child in self.everybody() if child.role.role != "writer"]
