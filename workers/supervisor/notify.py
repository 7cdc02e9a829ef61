"""Reports the state to a service manager by systemd's notification protocol, over a plain datagram socket.

Lives in the supervisor's loop, so that a hanging loop sends no watchdog messages. Without a service manager it does
nothing.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterable, MutableMapping

from workers.supervisor.children.child import Child
from workers.supervisor.children.lifecycle import State

_LONGEST_STATUS = 200
_RETRY_S = 0.2


class Notifier:
    """The connection to the service manager.

    Args:
        environ: Has the service manager's variables; they are removed, because they are not meant for the children.
        pid: Our process id.
    """

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        usec, watched_pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", str(pid))
        is_watched = address and usec.isdecimal() and int(usec) and watched_pid == str(pid)
        # An abstract address begins with a zero byte, written as @.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket:
            self._socket.setblocking(False)
        self._watchdog_every_s = int(usec) / 2e6 if is_watched else None
        self._watchdog_at = 0.0
        self._is_ready = False
        self._status = ""
        self._waiting: deque[str] = deque()
        self._retry_at = 0.0

    def deadline(self) -> float | None:
        """When the next message is due (monotonic seconds)."""
        if self._waiting:
            return self._retry_at
        return self._watchdog_at if self._watchdog_every_s else None

    def tell(self, children: Iterable[Child], now: float) -> None:
        """Report changes, and that the loop is running."""
        if self._socket is None:
            return
        self._flush()
        if self._watchdog_every_s and now >= self._watchdog_at and not self._waiting:
            self._watchdog_at = now + self._watchdog_every_s
            self._send("WATCHDOG=1")
        children = list(children)
        if not self._is_ready and any(_serves(child) for child in children):
            self._is_ready = True
            self._send("READY=1")
        status = describe(children)
        if status != self._status:
            self._status = status
            # Only the last one is of interest.
            self._waiting = deque(text for text in self._waiting if not text.startswith("STATUS="))
            self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """A reload is over, whether it succeeded or not."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The end begins."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket:
            self._socket.close()

    def _send(self, *lines: str) -> None:
        self._waiting.append("\n".join(lines))
        self._flush()

    def _flush(self) -> None:
        """Send waiting messages as far as the service manager takes them; its queue is short, and READY must arrive."""
        while self._waiting:
            if self._socket:
                try:
                    self._socket.sendto(self._waiting[0].encode(), os.fsencode(self._address))
                except BlockingIOError:
                    self._retry_at = time.monotonic() + _RETRY_S
                    return
                except OSError:
                    # A service manager that does not listen is no reason to stop serving.
                    pass
            self._waiting.popleft()


def describe(children: Iterable[Child]) -> str:
    """One line for `systemctl status`."""
    children = list(children)
    running = sum(child.life.state is State.RUNNING for child in children)
    troubles = []
    for child in children:
        error = child.news.values.get("last_error") or child.news.values.get("database")
        if child.life.state is not State.RUNNING:
            troubles.append(f"{child.role.name} {child.life.state}")
        elif error:
            troubles.append(f"{child.role.name}: {error}")
    text = f"{running} of {len(children)} processes running" + "".join(f"; {trouble}" for trouble in troubles)
    return " ".join(text.split())[:_LONGEST_STATUS]


def _serves(child: Child) -> bool:
    return child.role.role == "mwl-scp" and child.life.state is State.RUNNING
