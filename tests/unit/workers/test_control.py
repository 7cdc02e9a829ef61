"""The control socket: whatever comes in, the next request is answered."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pylantir.ipc.frames import Frame, FrameSocket, encode_frame
from pylantir.ipc.sockets import connect_to, listen_at
from workers.supervisor.control import ANSWER_S, MAX_CLIENTS, REQUEST_BYTES, STRANGER_S, ControlServer, Reply


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def obey(request: Frame, reply: Reply) -> None:
    match request["command"]:
        case "raise":
            raise LookupError("a defect")
        case "wait":
            return
        case "long":
            reply({"text": "x" * 9_000_000})
        case _:
            reply({"text": "done"})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(tmp_path: Path, clock: Clock) -> Iterator[ControlServer]:
    made = ControlServer(listen_at(tmp_path / "c"), obey, clock)
    yield made
    made.close()


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[], FrameSocket]]:
    made: list[FrameSocket] = []

    def connect() -> FrameSocket:
        made.append(FrameSocket(connect_to(tmp_path / "c")))
        return made[-1]

    yield connect
    for one in made:
        one.close()


def ask(server: ControlServer, client: FrameSocket, request: bytes | Mapping[str, object]) -> Frame | None:
    client.send(request if isinstance(request, bytes) else encode_frame(request))
    for _ in range(10):
        server.service()
        answers = client.receive()
        if answers:
            return answers[0]
    return None


def frame(body: str) -> bytes:
    return len(body.encode()).to_bytes(4, "big") + body.encode()


@pytest.mark.parametrize(
    "body",
    [
        "[]", "1", "null", '"status"', "{", "{}", '{"command":[]}', '{"command":{}}', '{"command":null}',
        '{"command":1e999}', '{"command":true}', '{"command":["status"]}', '{"name":"a"}', '{"command":' + "[" * 9000,
        "{" * 9000, "\x00", '{"command":"raise"}', '{"command":"long"}',
    ],
)  # fmt: skip
def test_an_odd_request_is_answered_with_an_error_and_the_next_one_as_ever(
    server: ControlServer, connect: Callable[[], FrameSocket], body: str
) -> None:
    answer = ask(server, connect(), frame(body))
    assert answer
    assert set(answer) == {"error"}
    assert ask(server, connect(), {"command": "status"}) == {"text": "done"}


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0", (REQUEST_BYTES + 1).to_bytes(4, "big"), b""])
def test_what_is_no_frame_disturbs_nobody(
    server: ControlServer, connect: Callable[[], FrameSocket], sent: bytes
) -> None:
    connect().send(sent)
    server.service()
    assert ask(server, connect(), {"command": "status"}) == {"text": "done"}


def test_strangers_give_way_to_a_command(server: ControlServer, connect: Callable[[], FrameSocket]) -> None:
    waiting = connect()
    assert ask(server, waiting, {"command": "wait"}) is None
    silent = [connect() for _ in range(3 * MAX_CLIENTS)]
    assert ask(server, connect(), {"command": "status"}) == {"text": "done"}
    for client in silent[:MAX_CLIENTS]:
        client.receive()
        assert client.closed
    waiting.receive()
    assert not waiting.closed


def test_a_silent_connection_is_closed_after_a_while_and_one_that_waits_for_an_answer_later(
    server: ControlServer, connect: Callable[[], FrameSocket], clock: Clock
) -> None:
    silent, waiting = connect(), connect()
    ask(server, waiting, {"command": "wait"})
    clock.now = STRANGER_S + 0.1
    assert (server.deadline() or 0) <= clock.now
    server.service()
    silent.receive()
    waiting.receive()
    assert (silent.closed, waiting.closed) == (True, False)
    clock.now = ANSWER_S + 0.1
    server.service()
    waiting.receive()
    assert waiting.closed
    assert server.deadline() is None


class Exhausted(socket.socket):
    """A listening socket of a process that has no descriptor left."""

    def accept(self) -> tuple[socket.socket, object]:
        raise OSError(errno.EMFILE, "Too many open files")


def test_without_a_free_descriptor_the_loop_does_not_spin_and_a_waiting_command_is_answered_later(
    tmp_path: Path, connect: Callable[[], FrameSocket], clock: Clock
) -> None:
    listener = listen_at(tmp_path / "c")
    server = ControlServer(Exhausted(fileno=socket.socket.detach(listener)), obey, clock)
    client = connect()
    assert ask(server, client, {"command": "status"}) is None
    assert server.filenos() == []
    assert server.deadline() == 1.0
    clock.now = 1.0
    assert len(server.filenos()) == 1
    server.close()


def test_an_answer_is_one_json_object(
    server: ControlServer, connect: Callable[[], FrameSocket], tmp_path: Path
) -> None:
    with connect_to(tmp_path / "c") as sock:
        sock.send(encode_frame({"command": "status"}))
        server.service()
        data = sock.recv(1000)
    assert json.loads(data[4:]) == {"text": "done"}
