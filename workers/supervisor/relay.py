"""Commands that change data, on their way through the supervisor to the writer, and its answers on their way back.

Lives in the supervisor, which itself never touches the database.
"""

from __future__ import annotations

from collections.abc import Iterator

from pylantir.ipc.frames import Frame
from workers.supervisor.children import Child
from workers.supervisor.control import Reply

WRITER_COMMANDS = frozenset({"accept", "forget", "set-status", "purge"})


class WriterRelay:
    """The commands that wait for the writer."""

    def __init__(self) -> None:
        self._number = 0
        self._waiting: dict[int, tuple[Frame, Reply]] = {}
        self._pid: int | None = None

    def pass_on(self, writer: Child, request: Frame, reply: Reply) -> None:
        """Let the writer carry out a command; its result is the answer."""
        self._number += 1
        if not writer.say({**request, "kind": "command", "id": self._number}):
            reply({"error": "the writer does not run just now; try again when `status` shows RUNNING"})
            return
        self._waiting[self._number] = (request, reply)
        self._pid = writer.pid

    def deliver(self, writer: Child) -> Iterator[Frame]:
        """Give the results to those who wait; yields the commands that were carried out."""
        for result in writer.take_results():
            number = result.get("id")
            if not isinstance(number, int) or number not in self._waiting:
                continue
            request, reply = self._waiting.pop(number)
            reply({name: result[name] for name in ("text", "error") if name in result})
            if "error" not in result:
                yield request
        # Its successor may have been started already.
        if self._waiting and writer.pid != self._pid:
            for _, reply in self._waiting.values():
                reply({"error": "the writer ended meanwhile; look at the audit log, and try again"})
            self._waiting.clear()
