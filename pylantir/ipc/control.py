"""Sends a command to the running supervisor: one request frame, one answer frame.

The supervisor's side is `workers.supervisor.control`.

Lives in the commands. In: the instance's runtime directory and a request. Out: the answer, or why there is none.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Mapping
from pathlib import Path

from pylantir.errors import CommandRefused, ControlError, ProtocolError, WrongUsage
from pylantir.ipc.frames import Frame, FrameSocket, encode_frame
from pylantir.ipc.sockets import connect_to

SOCKET_NAME = "control.sock"
_NO_ANSWER = "the supervisor does not answer; if this lasts, look at its log and restart it"
_LONGEST_ANSWER_BYTES = 16 * 1024 * 1024


def ask_supervisor(runtime_dir: Path, request: Mapping[str, object], timeout_s: float = 5.0) -> Frame:
    """Send a command to the supervisor that runs in `runtime_dir`.

    Raises:
        FileNotFoundError, ConnectionRefusedError: No supervisor runs there.
        ControlError: The supervisor did not answer.
        CommandRefused: The supervisor refused the command.
        WrongUsage: The command names something that does not exist.
    """
    try:
        frames = FrameSocket(connect_to(runtime_dir / SOCKET_NAME), limit=_LONGEST_ANSWER_BYTES)
    except BlockingIOError:
        raise ControlError(_NO_ANSWER) from None
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
