"""Starts and ends every child: name, signals, the parent's death, log, and the last resort for exceptions.

Lives in each child. In: a `ChildSpec` and the body's arguments; out: an exit status. Bodies are module-level functions
`body(context, ...)`; only this child loads what they import.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import io
import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from pylantir.errors import ConfigurationError, ExitStatus, PylantirError
from pylantir.programs.closed import forbid_inspection, wipe_initial_environment
from pylantir.programs.import_path import restore_import_path
from pylantir.settings import LogSettings
from workers.child.channel import Channel
from workers.child.descriptors import PassedDescriptor
from workers.child.log_file import LogFile
from workers.child.logs import configure_logging
from workers.child.names import set_names

SOURCE_NICENESS = 5
"""The niceness of source workers: on a busy machine the writer and the scanners come first."""
_PR_SET_PDEATHSIG = 1
_UNWANTED = {"mwl-scp": ("requests",)}
"""Modules that a library loads for unused features (pydicom: downloads), and that would slow down the start."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What a child needs to know about itself.

    Attributes:
        role: `writer`, `mwl-scp`, `web` or `source`.
        source: The source's name, for a source worker.
        generation: Counts the incarnations of this run, so that a newer one supersedes an older one.
        body: `module:function`, imported in the child.
        parent_pid: The supervisor's process id.
        token: Proves this incarnation's identity to the writer.
        secrets: Values that its log must not show.
        first_due: When a source's first fetch is due (monotonic seconds); None: at once.
        log_path: The log file, if there is one.
    """

    role: str
    source: str | None = None
    generation: int = 0
    body: str
    parent_pid: int
    token: str = field(default="", repr=False)
    log: LogSettings
    secrets: tuple[str, ...] = field(default=(), repr=False)
    first_due: float | None = None
    log_path: str | None = None

    @property
    def name(self) -> str:
        """The name that operators use: the role, or the source."""
        return self.source or self.role


class StopFlag:
    """Set by SIGTERM; the handler only records, and wakes the work loop through a pipe."""

    def __init__(self) -> None:
        self.is_set = False
        self._wakeup, theirs = socket.socketpair()
        self._wakeup.setblocking(False)
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self._theirs = theirs
        signal.signal(signal.SIGTERM, self._record)

    def fileno(self) -> int:
        """The descriptor for a selector: readable after a signal."""
        return self._wakeup.fileno()

    def drain(self) -> None:
        """Empty the pipe."""
        try:
            while self._wakeup.recv(512):
                pass
        except BlockingIOError:
            pass

    def _record(self, _signum: int, _frame: FrameType | None) -> None:
        self.is_set = True


@dataclass(frozen=True, slots=True)
class Context:
    """What every body gets: its identity, the channel to the supervisor, and the stop flag."""

    spec: ChildSpec
    channel: Channel
    stop: StopFlag


def leave_signals_to_the_supervisor() -> None:
    """Ignore what reaches the whole group, such as a terminal's Ctrl-C: the supervisor stops its children in order."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def run_child(spec: ChildSpec, sock: socket.socket, output: PassedDescriptor, arguments: tuple[object, ...]) -> None:
    """Run a body in this process and end it; the target of every spawned child."""
    # Garbage collection during the imports would take a sixth of the server's start.
    gc.disable()
    restore_import_path()
    log_fd = _redirect_output(output.fd)
    leave_signals_to_the_supervisor()
    stop = StopFlag()
    die_with_parent(spec.parent_pid)
    if spec.source:
        lead_group()
        # A service manager may forbid it.
        with contextlib.suppress(OSError):
            os.nice(SOURCE_NICENESS)
    faulthandler.enable()
    set_names(spec.role, spec.source)
    if not spec.source:
        forbid_inspection()
        wipe_initial_environment()
    channel = Channel(sock)
    if spec.log_path:
        channel.reopen_log = LogFile(Path(spec.log_path), log_fd).open
    configure_logging(
        spec.log, process=spec.role, source=spec.source, secrets=spec.secrets,
        fd=log_fd, tell_errors=channel.say_last_words,
    )  # fmt: skip
    log_ignored_exceptions()
    status = _run_body(spec, Context(spec, channel, stop), arguments)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a thread that a plugin left behind must not keep the process alive.
    os._exit(status)


def log_ignored_exceptions() -> None:
    """Log the exceptions that nobody can catch, as every other; Python would print their messages, too."""

    def in_thread(told: threading.ExceptHookArgs) -> None:
        name = told.thread.name if told.thread else "?"
        error = told.exc_value or told.exc_type()
        logger.error("thread %s: ended by an unexpected error", name, exc_info=error)

    def unraisable(told: sys.UnraisableHookArgs) -> None:
        logger.error("an unexpected error while something was cleaned up", exc_info=told.exc_value)

    threading.excepthook = in_thread
    sys.unraisablehook = unraisable


def _redirect_output(output: int) -> int:
    """Keep a separate descriptor for the log, so that it needs no supervisor; other output goes to the pipe."""
    log_fd = os.dup(2)
    for fd in (1, 2):
        os.dup2(output, fd)
    os.close(output)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    return log_fd


def _run_body(spec: ChildSpec, context: Context, arguments: tuple[object, ...]) -> int:
    module, function = spec.body.split(":")
    try:
        for unwanted in _UNWANTED.get(spec.role, ()):
            sys.modules.setdefault(unwanted, None)  # type: ignore[arg-type]  # as if it were not installed
        body = getattr(importlib.import_module(module), function)
        # Imported modules stay, and the rows of a batch are no garbage: frequent collections would be wasted.
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        gc.enable()
        body(context, *arguments)
    except ConfigurationError as error:
        logger.error("%s", error)  # noqa: TRY400 - the message says all
        return ExitStatus.CONFIGURATION
    except PylantirError as error:
        logger.error("%s", error, exc_info=error.__cause__)  # noqa: TRY400
        return ExitStatus.FAILURE
    except Exception:
        logger.exception("stopped by an unexpected error; it will be restarted")
        return ExitStatus.FAILURE
    return ExitStatus.OK


def lead_group() -> None:
    """Lead a process group of its own: the processes that a plugin starts are in it, and are ended with this one."""
    # From outside the terminal's group, a line of the log would stop the process under `stty tostop`.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)


def die_with_parent(parent_pid: int) -> None:
    """Arrange that this process does not outlive its parent, even a parent that is killed.

    Where the platform has no such signal, the end of the channel tells the child (`Channel.supervisor_gone`).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    # The kernel sends no signal if the parent has died already.
    if os.getppid() != parent_pid:
        os._exit(ExitStatus.FAILURE)
