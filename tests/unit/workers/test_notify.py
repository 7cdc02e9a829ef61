"""The line to the service manager: what must not get lost waits until there is room for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from workers.supervisor.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def fill(manager: socket.socket) -> None:
    """Send so much that nothing more finds room."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, suppress(BlockingIOError):
        sender.setblocking(False)
        while True:
            sender.sendto(b"noise", manager.getsockname())


def hear(manager: socket.socket) -> list[str]:
    """Everything that is in the queue, without the noise and the figures."""
    heard = []
    with suppress(BlockingIOError):
        while True:
            heard.append(manager.recv(4096).decode().partition("\n")[0])
    return [text for text in heard if text != "noise"]


def test_what_finds_no_room_is_said_later_in_its_order(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname()}
    notifier = Notifier(environ, os.getpid())
    notifier.tell([], 0.0)
    assert hear(manager) == ["STATUS=0 of 0 processes running"]
    assert notifier.deadline() is None

    fill(manager)
    notifier.reloading()
    notifier.reloaded()
    assert notifier.deadline() is not None
    assert hear(manager) == []
    notifier.tell([], 1.0)
    assert hear(manager) == ["RELOADING=1", "READY=1"]
    assert notifier.deadline() is None
    notifier.close()


def test_a_service_manager_that_is_gone_holds_up_nothing(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "1000000"}, os.getpid())
    Path(manager.getsockname()).unlink()
    notifier.tell([], 0.0)
    notifier.stopping()
    assert notifier.deadline() == 0.5
    notifier.close()


def test_without_a_service_manager_there_is_nothing_to_say() -> None:
    notifier = Notifier({}, os.getpid())
    notifier.tell([], 0.0)
    notifier.stopping()
    assert notifier.deadline() is None
    notifier.close()
