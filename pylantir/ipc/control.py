"""Sends a command to the running supervisor: one request frame, one answer frame.

The supervisor's side is `workers.supervisor.control`.

Lives in the commands. In: the instance's runtime directory and a request. Out: the answer, or why there is none.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from pylantir.errors import CommandRefused, ControlError, ProtocolError, WrongUsage
from pylantir.ipc.frames import Frame, FrameSocket, encode_frame
from pylantir.ipc.sockets import connect_to, find_listener

SOCKET_NAME = "control.sock"
_NO_ANSWER = "the supervisor does not answer; if this lasts, look at its log and restart it"
_LONGEST_ANSWER_BYTES = 16 * 1024 * 1024


def ask_supervisor(runtime_dir: Path, request: Mapping[str, object], timeout_s: float = 5.0) -> Frame:
    """Send a command to the supervisor that runs in `runtime_dir`.

    Raises:
        FileNotFoundError, ConnectionRefusedError: No supervisor runs there.
        PermissionError: Another user's process listens there; only root asks that.
        ControlError: The supervisor did not answer.
        CommandRefused: The supervisor refused the command.
        WrongUsage: The command names something that does not exist.
    """
    frames = FrameSocket(_connect(runtime_dir), limit=_LONGEST_ANSWER_BYTES)
    deadline = time.monotonic() + timeout_s
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(frames, selectors.EVENT_READ)
            frames.send(encode_frame(request))
            while selector.select(max(0.0, deadline - time.monotonic())):
                for answer in frames.receive():
                    if answer.get("wrong_usage"):
                        raise WrongUsage(str(answer.get("error")))
                    if "error" in answer:
                        raise CommandRefused(str(answer["error"]))
                    return answer
                if frames.closed:
                    break
    except ProtocolError as error:
        raise ControlError(f"the supervisor's answer cannot be read: {error}") from None
    finally:
        frames.close()
    raise ControlError(_NO_ANSWER)


def find_supervisor(runtime_dir: Path) -> int | None:
    """Return the process that listens in `runtime_dir`, by the kernel's word: what a process says could be untrue.

    Returns:
        Its process id; 0 if it runs in a container that we cannot look into, None if this system does not say.

    Raises:
        FileNotFoundError, ConnectionRefusedError, PermissionError, ControlError: As `ask_supervisor`.
    """
    with _connect(runtime_dir) as sock:
        listener = find_listener(sock)
    return listener[0] if listener else None


def _connect(runtime_dir: Path) -> socket.socket:
    try:
        sock = connect_to(runtime_dir / SOCKET_NAME)
    except BlockingIOError:
        raise ControlError(_NO_ANSWER) from None
    listener = find_listener(sock)
    if listener and os.geteuid() not in {0, listener[1]}:
        # In the temporary directory, everybody can make a folder with a socket for others.
        sock.close()
        raise PermissionError(errno.EACCES, "another user's process listens there")
    return sock
