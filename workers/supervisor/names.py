"""Keeps the names by which commands find this instance: runtime folder, lock, sockets, and the note of the folder.

Lives in the supervisor. An instance runs for months; meanwhile temporary folders are cleaned and login sessions end,
which can remove names. `renew` checks the names and makes missing ones again. Until then, commands find the instance by
its beacon, a socket without a file (`pylantir.cli.supervisor.ask_instance`).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pylantir.config.locate import (
    LOCK_NAME,
    forget_runtime_dir,
    make_private_directory,
    remember_runtime_dir,
)
from pylantir.errors import AlreadyRunning, PylantirError
from pylantir.ipc.beacon import Beacon
from pylantir.ipc.control import SOCKET_NAME
from pylantir.ipc.sockets import listen_at
from pylantir.programs.locks import FileLock
from workers.supervisor.children.roles import QUEUE_SOCKET_NAME

LOOK_EVERY_S = 5.0
_ALREADY = "this configuration is being served already"

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class BoundSocket:
    """A listening socket and the name that it was bound to."""

    path: Path
    listener: socket.socket
    identity: tuple[int, int]

    @classmethod
    def bind(cls, path: Path) -> BoundSocket:
        """Listen at a path; replaces what is there."""
        listener = listen_at(path)
        return cls(path, listener, _identity(path) or (0, 0))

    @property
    def is_named(self) -> bool:
        """Whether the name still leads here."""
        return _identity(self.path) == self.identity

    def remove(self) -> None:
        """Close the socket, and remove its name if it still leads here."""
        if self.is_named:
            self.path.unlink(missing_ok=True)
        self.listener.close()


class Names:
    """The names of one instance.

    Args:
        config_path: The configuration that it serves.
        runtime_dir: Its folder.
        environ: The environment.

    Attributes:
        queue: The entry queue's socket.
        control: The control socket.
        trouble: Why a missing name cannot be made again; None if all is well.

    Raises:
        AlreadyRunning: Another instance of this configuration runs.
        PylantirError: The folder cannot be used.
    """

    def __init__(self, config_path: Path, runtime_dir: Path, environ: Mapping[str, str]) -> None:
        self.trouble: str | None = None
        self._config_path = config_path
        self._folder = runtime_dir
        self._environ = environ
        _make_folder(runtime_dir)
        self._lock = FileLock(runtime_dir / LOCK_NAME)
        self._lock.acquire(_ALREADY)
        self._beacon = Beacon(runtime_dir)
        if self._beacon.holder:
            # The folder was removed a moment ago: the file of the other's lock is gone.
            self._lock.release()
            raise AlreadyRunning(f"{_ALREADY} (process {self._beacon.holder})")
        self.queue = BoundSocket.bind(runtime_dir / QUEUE_SOCKET_NAME)
        self.control = BoundSocket.bind(runtime_dir / SOCKET_NAME)
        self._said = remember_runtime_dir(config_path, runtime_dir, environ)
        for problem in self._said:
            logger.warning("%s", problem)

    def renew(self) -> set[str]:
        """Make missing names again; return which sockets are new (`queue`, `control`)."""
        renewed = set()
        self._beacon.clear()
        try:
            if not self._lock.is_named:
                _make_folder(self._folder)
                self._lock.renew(_ALREADY)
                logger.warning("%s was removed; it is made anew", self._folder)
            for name in ("queue", "control"):
                bound: BoundSocket = getattr(self, name)
                if not bound.is_named:
                    setattr(self, name, BoundSocket.bind(bound.path))
                    bound.listener.close()
                    renewed.add(name)
                    logger.warning("%s was removed; it is made anew", bound.path)
            said = remember_runtime_dir(self._config_path, self._folder, self._environ)
            for problem in said:
                if problem not in self._said:
                    logger.warning("%s", problem)
            self._said = said
        except (PylantirError, OSError) as error:
            if str(error) != self.trouble:
                logger.error("commands and restarted processes do not find this instance: %s", error)  # noqa: TRY400
            self.trouble = str(error)
        else:
            self.trouble = None
        return renewed

    def give_up(self) -> None:
        """Remove the names: this instance ends."""
        forget_runtime_dir(self._config_path, self._environ)
        self.control.remove()
        self.queue.remove()
        self._beacon.put_out()
        self._lock.release()


def _make_folder(path: Path) -> None:
    try:
        make_private_directory(path)
    except PylantirError as error:
        raise PylantirError(f"runtime_dir: {error}") from None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
