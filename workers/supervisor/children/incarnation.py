"""One running process and the channel to it. Lives in the supervisor."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from multiprocessing.context import SpawnProcess

from pylantir.ipc.frames import Frame, FrameSocket, encode_frame
from workers.child.bootstrap import ChildSpec, run_child
from workers.child.descriptors import PassedDescriptor
from workers.supervisor.children.output import ChildOutput
from workers.supervisor.children.resources import keep_reserve
from workers.supervisor.children.roles import Role

_MESSAGE_BYTES = 64 * 1024
_spawn = multiprocessing.get_context("spawn")


class Incarnation:
    """A process that was started, until its end has been noticed."""

    def __init__(self, process: SpawnProcess, frames: FrameSocket) -> None:
        self._process = process
        self._frames = frames

    @classmethod
    def start(cls, role: Role, spec: ChildSpec, output: ChildOutput) -> Incarnation:
        """Start a process.

        Args:
            role: What it runs.
            spec: What it gets to know of itself.
            output: Reads its stdout and stderr.

        Raises:
            OSError: The system gives no process, or no descriptor.
        """
        ours, theirs = socket.socketpair()
        pipe, their_pipe = _spawn.Pipe(duplex=False)
        passed = PassedDescriptor(their_pipe.fileno())
        process = _spawn.Process(target=run_child, args=(spec, theirs, passed, role.arguments), name=role.name)
        try:
            if role.source:
                keep_reserve(their_pipe.fileno())
            # Close our copies of the child's ends, or we would not see the end of the file when the child dies.
            with theirs, their_pipe:
                process.start()
        except BaseException:
            ours.close()
            pipe.close()
            raise
        output.attach(pipe, role.secrets)
        return cls(process, FrameSocket(ours, limit=_MESSAGE_BYTES))

    @property
    def pid(self) -> int | None:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit status, or the number of a signal as a negative number; None while the process runs."""
        return self._process.exitcode

    @property
    def is_heard(self) -> bool:
        """Whether the channel is open: the process closes it shortly before it ends."""
        return not self._frames.closed

    def filenos(self) -> Iterator[int]:
        """What the supervisor's loop should wait for."""
        yield self._process.sentinel
        if self.is_heard:
            yield self._frames.fileno()

    def receive(self) -> list[Frame]:
        """Return the messages that have arrived.

        Raises:
            ProtocolError: What has arrived is no message.
        """
        return self._frames.receive()

    def flush(self) -> None:
        """Send what the channel has not taken yet."""
        self._frames.flush()

    def say(self, message: Mapping[str, object]) -> bool:
        """Send the process a message; return False if it reads none any more."""
        if not self.is_heard:
            return False
        self._frames.send(encode_frame(message))
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        if self._process.pid and self._process.exitcode is None:
            os.kill(self._process.pid, number)

    def close(self) -> None:
        """Let go of a process that has ended."""
        self._process.close()
        self._frames.close()


def describe_exit(code: int) -> str:
    """Say how a process has ended, from its exit code."""
    if code >= 0:
        return f"status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        # Most real-time signals have no name.
        return f"signal {-code}"
