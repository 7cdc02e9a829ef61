"""Carries out the commands that come in at the control socket.

Lives in the supervisor, which itself never touches the database: what concerns the data is passed on to the writer,
what concerns queries to the server, and each answer goes back to whoever has asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from pylantir.ipc.frames import Frame
from pylantir.programs.arguments import unknown_name
from workers.supervisor.children.child import Child
from workers.supervisor.children.group import Group
from workers.supervisor.children.lifecycle import State
from workers.supervisor.control import Reply
from workers.supervisor.relay import SERVER_COMMANDS, WRITER_COMMANDS, Relay

logger = logging.getLogger(__name__)


class Commands:
    """The commands of operators.

    Args:
        children: The processes.
        describe: Makes the answer to `status`.
        reload: Reads the configuration again, and answers when that is done.
    """

    def __init__(
        self, children: Group, describe: Callable[[], Mapping[str, object]], reload: Callable[[Reply], None]
    ) -> None:
        self._children = children
        self._describe = describe
        self._reload = reload
        self._writer, self._server = Relay(), Relay()

    def obey(self, request: Frame, reply: Reply) -> None:
        """Carry out a command; its answer may come later."""
        command, name = request.get("command"), request.get("name")
        child = self._children.find(name)
        is_source = child is not None and child.role.source is not None
        if command == "status":
            reply(self._describe())
        elif self._children.is_stopping:
            reply({"error": "it is being stopped"})
        elif command == "reload":
            self._reload(reply)
        elif command in WRITER_COMMANDS and (command != "accept" or is_source):
            self._writer.pass_on(self._children.writer, request, reply)
        elif command in SERVER_COMMANDS:
            self._server.pass_on(self._children.server, request, reply)
        elif command in {"sync", "accept"} and not is_source:
            sources = [one.role.name for one in self._children.present if one.role.source]
            reply({"error": unknown_name("source", str(name), sources), "wrong_usage": True})
        elif child is None:
            # A request may have any JSON value as a name: it is shown as text.
            reply({"error": unknown_name("process", str(name), self._children.names), "wrong_usage": True})
        elif command == "restart":
            logger.info("%s: restart asked for", name)
            self._children.restart(child, time.monotonic())
            reply({"text": f"{name} is restarted"})
        elif command == "sync":
            reply(_sync(child))
        else:
            reply({"error": f'"{command}" cannot be done with {name}'})

    def deliver(self) -> None:
        """Pass on the answers that have come, and tell other processes what follows for them."""
        for done in self._writer.deliver(self._children.writer):
            source = self._children.find(done.get("name"))
            if done.get("command") == "accept" and source:
                source.say({"kind": "sync"})
            if done.get("command") == "purge" and done.get("patient") and not done.get("dry_run"):
                self._children.server.say({"kind": "erased"})
        self._server.deliver(self._children.server)


def _sync(child: Child) -> Mapping[str, object]:
    """Let a source begin a cycle now; return the answer to the operator."""
    name, host = child.role.name, child.news.values.get("standby")
    if isinstance(host, str):
        return {"text": f"{name} is fetched by {host}; nothing is done here"}
    if child.life.state is State.RUNNING and child.say({"kind": "sync"}):
        return {"text": f"{name} fetches now"}
    return {"error": f"{name} does not run just now; try again when `status` shows RUNNING"}
