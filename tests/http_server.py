"""An HTTP server on loopback whose answers a test writes itself, hostile ones too.

`with HttpServer({"/today": answer_json([...])}) as server:` serves `server.url + "/today"`; `server.requests` holds what
was asked: path with query, and headers. A route is a function that gets the handler and writes the answer.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


def answer_bytes(
    body: bytes, *, status: int = 200, content_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> Answer:
    """Answer with a body; `Content-Length` may be overridden in `headers`."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(body)

    return write


def answer_json(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with JSON."""
    return answer_bytes(json.dumps(value).encode(), status=status, headers=headers)


def redirect_to(address: str, status: int = 302) -> Answer:
    """Answer with a redirect."""
    return answer_bytes(b"", status=status, headers={"Location": address})


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Begin an answer and never end it."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(600):
            handler.wfile.write(b"[ ")
            handler.wfile.flush()
            if threading.Event().wait(0.05):
                return


def stay_silent(handler: BaseHTTPRequestHandler) -> None:
    """Take the request and answer nothing until the client gives up."""
    with contextlib.suppress(OSError):
        handler.connection.settimeout(20)
        handler.connection.recv(1)


class HttpServer:
    """Serves `routes`: path (with query, or without) -> answer."""

    def __init__(self, routes: Mapping[str, Answer] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.routes: dict[str, Answer] = dict(routes or {})
        self.requests: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                route = outer.routes.get(self.path) or outer.routes.get(self.path.partition("?")[0])
                (route or answer_json({"error": "no such route"}, status=404))(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> HttpServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Hold a port that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
