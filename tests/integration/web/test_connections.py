"""A client that lets the server wait loses its connection; one that waits for the server does not."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, cast

import pytest
import uvicorn
from starlette.requests import ClientDisconnect
from waiting import wait_until

from pylantir.settings import HttpSettings
from pylantir.web.access import Gate
from pylantir.web.guard import Guard
from pylantir.web.ports import Ports
from workers.web import connections

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"


async def application(_scope: Any, receive: Any, send: Any) -> None:
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.disconnect":
        return
    await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(connections, "LOOK_EVERY_S", 0.05)
    yield from serve()


@pytest.fixture
def patient_address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 8)
    yield from serve(limit_concurrency=12)


def serve(**options: Any) -> Iterator[tuple[str, int]]:
    listener = connections.Listener(socket.create_server(("127.0.0.1", 0)))
    protocol: Any = partial(connections.ImpatientProtocol, listener)
    server = uvicorn.Server(uvicorn.Config(application, http=protocol, lifespan="off", log_config=None, **options))
    with listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        yield listener.getsockname()
        server.should_exit = True
        thread.join(60)


def test_of_unfinished_handshakes_the_oldest_of_the_most_crowded_address_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_HANDSHAKES", 3)
    with connections.Listener(socket.create_server(("127.0.0.1", 0))) as listener, ExitStack() as opened:

        def arrive(source: str) -> tuple[socket.socket, socket.socket]:
            client = socket.create_connection(listener.getsockname(), timeout=60, source_address=(source, 0))
            return opened.enter_context(client), opened.enter_context(listener.accept()[0])

        finished, there = arrive("127.0.0.3")
        listener.note_opened(there.fileno())
        quiet, _ = arrive("127.0.0.2")
        crowd = [arrive("127.0.0.1")[0] for _ in range(9)]
        assert [client.recv(1) for client in crowd[:7]] == 7 * [b""]
        for client in (finished, quiet, *crowd[7:]):
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(1)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HEAD, HEAD + b"123"])
def test_a_client_that_does_not_finish_its_request_is_left(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(sent)
        with suppress(ConnectionResetError):
            assert client.recv(100) == b""


def test_a_client_that_waits_for_the_server_is_answered(address: tuple[str, int]) -> None:
    """Its own pause between two steps may be too long for this server; the server's is ten times as long."""

    def is_answered() -> bool:
        with suppress(ConnectionError), socket.create_connection(address, timeout=60) as client:
            client.sendall(HEAD + b"12345")
            return client.recv(100).startswith(b"HTTP/1.1 200")
        return False

    wait_until(is_answered, "it is answered")


def test_when_all_places_are_taken_who_waited_longest_at_the_most_crowded_address_gives_way(
    patient_address: tuple[str, int],
) -> None:
    host, port = patient_address
    quiet = socket.create_connection((host, port), timeout=60, source_address=("127.0.0.2", 0))
    crowd = [socket.create_connection((host, port), timeout=60) for _ in range(9)]
    with quiet:
        for _ in range(2):
            with socket.create_connection((host, port), timeout=60) as client:
                client.sendall(HEAD + b"12345")
                assert client.recv(100).startswith(b"HTTP/1.1 200")
        # The crowd's oldest one has gone; the quiet one, which is older, has not.
        assert crowd[0].recv(100) == b""
        quiet.sendall(HEAD + b"12345")
        assert quiet.recv(100).startswith(b"HTTP/1.1 200")
    for one in crowd:
        one.close()


def test_a_client_that_goes_away_is_no_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    async def leave(_scope: Any, _receive: Any, _send: Any) -> None:
        raise ClientDisconnect

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    http = HttpSettings()
    guard = Guard(leave, http, Gate(http), cast("Ports", None))
    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "POST", "path": "/x", "headers": headers, "query_string": b"", "client": None}
    asyncio.run(guard(scope, cast("Any", None), send))
    assert sent == caplog.records == []
