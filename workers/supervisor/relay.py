"""Passes commands to the process that carries them out, and passes its answers back.

Lives in the supervisor, which itself never touches the database.
"""

from __future__ import annotations

from pylantir.ipc.frames import Frame
from workers.supervisor.children.child import Child
from workers.supervisor.control import Reply

WRITER_COMMANDS = frozenset({"accept", "forget", "forget-host", "set-status", "purge", "note-access"})
SERVER_COMMANDS = frozenset({"last-query", "scanners"})


class Relay:
    """The commands that wait for one process."""

    def __init__(self) -> None:
        self._number = 0
        self._waiting: dict[int, tuple[Frame, Reply]] = {}
        self._pid: int | None = None

    def pass_on(self, child: Child, request: Frame, reply: Reply) -> None:
        """Pass a command to the process; its result is the answer."""
        self._number += 1
        if not child.say({**request, "kind": "command", "id": self._number}):
            reply({"error": f"the {child.role.name} does not run just now; try again when `status` shows RUNNING"})
            return
        self._waiting[self._number] = (request, reply)
        self._pid = child.pid

    def deliver(self, child: Child) -> list[Frame]:
        """Answer the waiting requests with their results; return the commands that were carried out."""
        done = []
        for result in child.take_results():
            number = result.get("id")
            if not isinstance(number, int) or number not in self._waiting:
                continue
            request, reply = self._waiting.pop(number)
            reply({name: result[name] for name in ("text", "error") if name in result})
            if "error" not in result:
                done.append(request)
        # The next incarnation may have been started already.
        if self._waiting and child.pid != self._pid:
            for _, reply in self._waiting.values():
                reply({"error": f"the {child.role.name} ended meanwhile; look at what came of it, and try again"})
            self._waiting.clear()
        return done
