"""Assembles messages from their fragments, bounded in size, number and time, and keeps them until they are served.

Lives in the server process, in the association's thread. Presentation data values come in, whole messages go out, one
after the other. What a peer sends beyond a bound is not kept in memory.

Source: DICOM PS3.7 6.3 (messages), PS3.8 E.1 (fragments).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pylantir.dicom.net.commands import Command, Operation, read_command
from pylantir.dicom.net.pdus import IS_COMMAND, IS_LAST
from pylantir.dicom.net.refusals import ProtocolError, Reason

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_COMMAND_BYTES = 64 * 1024
MAX_IDENTIFIER_BYTES = 256 * 1024
"""Longest identifier of a C-FIND; a longer one is read to its end, not kept, and refused."""
LARGE_MESSAGE_BYTES = 1024 * 1024
MAX_LARGE_BYTES = 128 * 1024 * 1024
"""What the messages of all associations may take together beyond the first megabyte of each; a report for which there
is no room is read to its end, not kept, and put off."""
MESSAGE_TIMEOUT_S = 60.0
MAX_WAITING_MESSAGES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A whole request.

    Attributes:
        data: Its data set, empty if it has none.
        data_bytes: How long that was; more than `data` holds if it was too long to be kept.
        room_bytes: What it takes of the room for large messages.
        is_put_off: It was not kept, because there was no room.
    """

    context_id: int
    command: Command
    data: bytes = b""
    data_bytes: int = 0
    room_bytes: int = 0
    is_put_off: bool = False


class Room:
    """The memory for large messages, which all associations share. For any thread."""

    def __init__(self, limit: int = MAX_LARGE_BYTES) -> None:
        self._left = limit
        self._lock = threading.Lock()

    def take(self, wanted: int) -> bool:
        """Take bytes if there are so many left."""
        with self._lock:
            is_there = wanted <= self._left
            self._left -= wanted if is_there else 0
        return is_there

    def give_back(self, taken: int) -> None:
        """Give bytes back."""
        with self._lock:
            self._left += taken


class MessageAssembler:
    """The message that is being received on one association."""

    def __init__(self, room: Room | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._room = room or Room()
        self._clock = clock
        self._started_at: float | None = None
        self._context_id = 0
        self._command: Command | None = None
        self._kept = bytearray()
        self._received_bytes = 0
        self._room_bytes = 0
        self._is_put_off = False
        self._ignored_context: int | None = None

    def add(self, context_id: int, control: int, fragment: bytes) -> Message | None:
        """Add a fragment; return the message if this was its last.

        Raises:
            ProtocolError: A fragment that does not belong here, or a message beyond the bounds.
        """
        if self._is_ignored(context_id, control):
            return None
        self._check_place(context_id, control, len(fragment))
        self._keep(fragment)
        if not control & IS_LAST:
            return None
        if self._command is None:
            command = read_command(bytes(self._kept))
            if command.has_data:
                self._command, self._kept, self._received_bytes = command, bytearray(), 0
                return None
            self._ignored_context = context_id if command.ignores_data else None
            return self._finish(Message(context_id=context_id, command=command))
        whole = Message(
            context_id=context_id, command=self._command, data=bytes(self._kept), data_bytes=self._received_bytes,
            room_bytes=self._room_bytes, is_put_off=self._is_put_off,
        )  # fmt: skip
        return self._finish(whole)

    def leave(self) -> None:
        """Give back the room of a message that will not be finished."""
        self._room.give_back(self._room_bytes)
        self._room_bytes = 0

    def _keep(self, fragment: bytes) -> None:
        length = len(self._kept) + len(fragment)
        if self._is_put_off or length > self._limit:
            return
        more = max(0, length - LARGE_MESSAGE_BYTES - self._room_bytes)
        if more and not self._room.take(more):
            self.leave()
            self._kept, self._is_put_off = bytearray(), True
            return
        self._room_bytes += more
        self._kept += fragment

    @property
    def _limit(self) -> int:
        if self._command is None:
            return MAX_COMMAND_BYTES
        return MAX_IDENTIFIER_BYTES if self._command.operation is Operation.C_FIND else MAX_MESSAGE_BYTES

    def _is_ignored(self, context_id: int, control: int) -> bool:
        """Whether a fragment is the data set of a request that can have none and was answered without it."""
        if control & IS_COMMAND or self._started_at is not None or context_id != self._ignored_context:
            return False
        if control & IS_LAST:
            self._ignored_context = None
        return True

    def _check_place(self, context_id: int, control: int, length: int) -> None:
        if self._started_at is None:
            self._started_at, self._context_id = self._clock(), context_id
        if context_id != self._context_id or bool(control & IS_COMMAND) != (self._command is None):
            raise ProtocolError(Reason.PROTOCOL, "the fragments of its message are not in order")
        self._received_bytes += length
        limit = MAX_MESSAGE_BYTES if self._command else min(MAX_COMMAND_BYTES, MAX_MESSAGE_BYTES)
        if self._received_bytes > limit:
            raise ProtocolError(Reason.LIMIT, f"its message has more than {limit} bytes")
        if self._clock() - self._started_at > MESSAGE_TIMEOUT_S:
            raise ProtocolError(Reason.TOO_SLOW, f"its message took more than {MESSAGE_TIMEOUT_S:.0f} s")

    def _finish(self, message: Message) -> Message:
        self._started_at, self._command, self._kept, self._received_bytes = None, None, bytearray(), 0
        self._room_bytes, self._is_put_off = 0, False
        return message


class Inbox:
    """The requests of one association that are not served yet; a C-CANCEL does not wait among them.

    Args:
        room: What all associations share for large messages.
    """

    def __init__(self, room: Room | None = None) -> None:
        self._room = room or Room()
        self._assembler = MessageAssembler(self._room)
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._served: Message | None = None
        self._cancelled: set[int] = set()

    def add(self, context_id: int, control: int, fragment: bytes) -> None:
        """Add a fragment.

        Raises:
            ProtocolError: A fragment that does not belong here, or more than the bounds allow.
        """
        message = self._assembler.add(context_id, control, fragment)
        if message is None:
            return
        if message.command.operation is Operation.C_CANCEL:
            self._cancel(message.command.responded_to)
            return
        self._waiting.append(message)
        self._waiting_bytes += len(message.data)
        if len(self._waiting) > MAX_WAITING_MESSAGES or self._waiting_bytes > MAX_MESSAGE_BYTES:
            raise ProtocolError(Reason.LIMIT, "it sends requests without waiting for answers")

    def take(self) -> Message | None:
        """Take the oldest request, as the one before is answered; None if no whole one has come."""
        if self._served is not None:
            # Message IDs come again: a C-CANCEL that comes too late must not end a later query.
            self._cancelled.discard(_id_of(self._served))
            self._room.give_back(self._served.room_bytes)
            self._served = None
        if self._waiting:
            self._served = self._waiting.popleft()
            self._waiting_bytes -= len(self._served.data)
        return self._served

    def leave(self) -> None:
        """Give back the room of all requests: the association ends."""
        self._assembler.leave()
        while self.take() is not None:
            pass

    def is_cancelled(self, message_id: int) -> bool:
        """Whether a C-CANCEL has come for this request, which is being served."""
        return message_id in self._cancelled

    def _cancel(self, message_id: int | None) -> None:
        """Note a C-CANCEL, if its request is being served or waits: it may come together with its request."""
        if any(_id_of(message) == message_id for message in (self._served, *self._waiting) if message is not None):
            self._cancelled.add(message_id or 0)


def _id_of(message: Message) -> int:
    return message.command.message_id or 0
