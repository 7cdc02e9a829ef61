"""A scanner that speaks over a bare socket: no thread of its own, so nothing but the server decides what it gets."""

from __future__ import annotations

import socket
from contextlib import suppress
from io import BytesIO

from fuzz import seeds
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode


class RawScanner:
    """One association for the worklist, in implicit VR little endian.

    Attributes:
        statuses: Those of the responses to the last query, the final one last.
    """

    def __init__(self, port: int, *, calling: str = "MR1", called: str = "PYLANTIR") -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(seeds.associate_request(called=called, calling=calling))
        self.statuses: list[int] = []
        assert self._read_pdu()[0] == 0x02, "no association"

    def find(self, identifier: Dataset | bytes) -> tuple[list[Dataset], int]:
        """Send one C-FIND: the matches, and the final status; `statuses` are those of all its responses."""
        self.send(identifier)
        matches, self.statuses = [], []
        while True:
            command = self._read_message(is_command=True)
            self.statuses.append(command.Status)
            if command.CommandDataSetType == 0x0101:
                return matches, command.Status
            matches.append(self._read_message(is_command=False))

    def send(self, identifier: Dataset | bytes) -> None:
        """Send one C-FIND and leave it at that."""
        asked = identifier if isinstance(identifier, bytes) else encode(identifier, True, True)
        assert asked is not None
        self._connection.sendall(seeds.find_request(asked))

    def wait_for_answer(self) -> None:
        """Wait until something comes, and leave it unread."""
        assert self._connection.recv(1, socket.MSG_PEEK), "the connection has ended"

    def rest(self) -> bytes:
        """Whatever comes until the connection ends, which is closed."""
        with self._connection, suppress(ConnectionResetError):
            data = b""
            while part := self._connection.recv(65536):
                data += part
        return data

    def release(self) -> None:
        """End the association."""
        self._connection.sendall(seeds.release_request())
        assert self._read_pdu()[0] == 0x06
        self._connection.close()

    def _read_message(self, *, is_command: bool) -> Dataset:
        """Read the fragments of one command or data set; a server sends at most one of them per PDU here."""
        data = b""
        while True:
            kind, body = self._read_pdu()
            assert kind == 0x04, f"PDU type {kind}"
            while body:
                length, control = int.from_bytes(body[:4], "big"), body[5]
                assert bool(control & 1) is is_command
                data, body = data + body[6 : 4 + length], body[4 + length :]
            if control & 2:
                return decode(BytesIO(data), True, True)

    def _read_pdu(self) -> tuple[int, bytes]:
        header = self._read(6)
        return header[0], self._read(int.from_bytes(header[2:], "big"))

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = self._connection.recv(length - len(data))
            assert part, "the connection has ended"
            data += part
        return data
