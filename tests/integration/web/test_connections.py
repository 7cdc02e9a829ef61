"""A client that lets the server wait loses its connection; one that waits for the server does not."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

import pytest
import uvicorn
from starlette.requests import ClientDisconnect

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
    config = uvicorn.Config(application, http=connections.ImpatientProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        yield listener.getsockname()
        server.should_exit = True
        thread.join(60)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HEAD, HEAD + b"123"])
def test_a_client_that_does_not_finish_its_request_is_left(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(sent)
        with suppress(ConnectionResetError):
            assert client.recv(100) == b""


def test_a_client_that_waits_for_the_server_is_answered(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(HEAD + b"12345")
        assert client.recv(100).startswith(b"HTTP/1.1 200")


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
