"""Frames on local sockets: four bytes of length (big endian), then one JSON object.

Never pickle: unpickling runs code of the sender, and a source's process runs a plugin, which is somebody else's code.
Used between a source and the writer, between a child and the supervisor, and by the control commands. In: bytes as they
come; out: whole objects. A frame that is too long, or is not an object, raises a ProtocolError.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping

from pylantir.errors import ProtocolError

MAX_FRAME_BYTES = 8 * 1024 * 1024
MAX_REPORT_FRAME_BYTES = 64 * 1024 * 1024
"""The limit for a scanner's report: a DICOM message of 16 MiB as JSON."""
_HEADER_BYTES = 4
_RECEIVE_BYTES = 256 * 1024

Frame = dict[str, object]


def encode_frame(value: Mapping[str, object]) -> bytes:
    """Turn an object into a frame."""
    return frame_bytes(encode_body(value))


def encode_body(value: Mapping[str, object]) -> bytes:
    """Turn an object into a frame's JSON, without the length."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def frame_bytes(body: bytes, limit: int = MAX_FRAME_BYTES) -> bytes:
    """Put the length before an encoded JSON object."""
    if len(body) > limit:
        msg = f"a frame of {len(body)} bytes exceeds the limit of {limit}"
        raise ProtocolError(msg)
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


class FrameReader:
    """Cuts a stream of bytes into frames.

    Args:
        limit: Longest frame in bytes; a longer one is refused as soon as its length is read.
    """

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Add received bytes and yield the frames that are whole now.

        Raises:
            ProtocolError: The frame is too long or no JSON object.
        """
        self._buffer += data
        while len(self._buffer) >= _HEADER_BYTES:
            length = int.from_bytes(self._buffer[:_HEADER_BYTES], "big")
            if length > self.limit:
                msg = f"a frame of {length} bytes exceeds the limit of {self.limit}"
                raise ProtocolError(msg)
            end = _HEADER_BYTES + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_HEADER_BYTES:end])
            del self._buffer[:end]
            yield _decode(body)


def _decode(body: bytes) -> Frame:
    try:
        value = json.loads(body.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        msg = f"a frame that is no JSON ({type(error).__name__})"
        raise ProtocolError(msg) from None
    if not isinstance(value, dict):
        msg = "a frame that is no JSON object"
        raise ProtocolError(msg)
    return value


class FrameSocket:
    """A non-blocking stream socket that carries frames both ways.

    Nothing here waits: `receive` returns what has come, `send` and `flush` write what the peer takes, and
    `wants_to_write` tells the caller's selector whether there is more.
    """

    def __init__(self, sock: socket.socket, *, limit: int = MAX_FRAME_BYTES) -> None:
        sock.setblocking(False)
        self.reader = FrameReader(limit)
        self.closed = False
        self._socket = sock
        self._outgoing = bytearray()

    def fileno(self) -> int:
        """The descriptor for a selector."""
        return self._socket.fileno()

    @property
    def wants_to_write(self) -> bool:
        """Whether bytes wait for the peer."""
        return bool(self._outgoing)

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait for the peer."""
        return len(self._outgoing)

    def receive(self) -> list[Frame]:
        """Return the frames that are complete now; set `closed` when the peer has gone.

        Raises:
            ProtocolError: As `FrameReader.feed`.
        """
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return []
        return list(self.reader.feed(data))

    def send(self, frame: bytes) -> None:
        """Write an encoded frame, now or as soon as the peer takes it."""
        self._outgoing += frame
        self.flush()

    def flush(self) -> None:
        """Write as much as the peer takes now; set `closed` when it has gone."""
        while self._outgoing:
            try:
                sent = self._socket.send(self._outgoing)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self.closed = True
                self._outgoing.clear()
                return
            del self._outgoing[:sent]

    def close(self) -> None:
        """Close the socket."""
        self.closed = True
        self._socket.close()
