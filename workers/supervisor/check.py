"""Checks a configuration, with the plugins' own checks, outside the supervisor's process.

Lives in a short-lived child of the supervisor, and in the `check` command. In: a path and an environment; out:
`Settings`, or every error at once. A dropped-in plugin file is checked in a further child, which may raise, hang or
exit.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from pylantir.errors import ConfigurationError, ProtocolError, PylantirError, kind_of
from pylantir.ipc.frames import Frame, FrameSocket, encode_frame
from pylantir.printing import make_redactor, printable
from pylantir.programs.closed import forbid_inspection, wipe_initial_environment, without_variables
from pylantir.programs.import_path import restore_import_path
from pylantir.settings import Settings, SourceSettings
from workers.child.bootstrap import die_with_parent, lead_group, leave_signals_to_the_supervisor
from workers.child.names import set_names
from workers.supervisor.children.output import PRINTED, ChildOutput, Heard

WHOLE_CHECK_S = 1.4
"""When plugins' own checks must be over: errors must be reported within 2 seconds of the start."""
PLUGIN_CHECK_S = 0.5
"""How long such a check may take at least, in case the machine is busy with other things."""
BUSY_MACHINE_S = 10.0
"""How long a check may take if the machine is so busy that a check's process hardly gets a processor."""
PROCESSOR_S = 1.0
"""How much of a processor such a process may use on a busy machine, its start included."""
_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The result of a check: settings, or problems; warnings beside problems concern the file's form only."""

    settings: Settings | None = None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check_in_child(
    connection: Connection, parent_pid: int, path: str, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> None:
    """The target of the supervisor's short-lived child: send back one `Checked`."""
    leave_signals_to_the_supervisor()
    die_with_parent(parent_pid)
    set_names("check")
    forbid_inspection()
    wipe_initial_environment()
    gc.disable()
    connection.send(check_configuration(Path(path), environ, overrides))
    connection.close()


def check_configuration(path: Path, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Checked:
    """Validate everything; touches neither the database nor a port."""
    answer_at = time.monotonic() + WHOLE_CHECK_S
    from pylantir.config.loading import load_settings
    from pylantir.data_sources.registry import discover

    try:
        settings = load_settings(path, discover=discover, environ=environ, overrides=overrides)
    except ConfigurationError as error:
        return Checked(problems=error.problems, warnings=error.warnings)
    with without_variables(settings.secret_env):
        problems, warnings = _check_plugins(settings, answer_at)
    if problems:
        return Checked(problems=tuple(problems), warnings=(*settings.warnings, *warnings))
    return Checked(settings=replace(settings, warnings=(*settings.warnings, *warnings)))


def _check_plugins(settings: Settings, answer_at: float) -> tuple[list[str], list[str]]:
    """Let each enabled source's plugin check its `config`: a refusal is a problem, a broken plugin a warning."""
    problems: list[str] = []
    warnings: list[str] = []
    children = []
    for source in settings.enabled_sources:
        if source.plugin.builtin:
            is_right, message = _validate_here(source)
            if not is_right:
                problems.append(f"{_place(settings, source)}: {message}")
        else:
            children.append(
                (source, _PluginCheck(source, settings.base_dir, answer_at, messages=settings.log.level == "DEBUG"))
            )
    _wait_for([child for _, child in children])
    for source, child in children:
        is_valid, message = child.finish()
        plugin = f"{_place(settings, source)}: plugin {source.plugin.type_name} ({source.plugin.origin})"
        warnings += [f"{plugin} {remark}" for remark in child.describe_prints()]
        if is_valid is False:
            problems.append(f"{_place(settings, source)}: {message}")
        elif is_valid is None:
            warnings.append(
                f"{plugin}: {message}; the source will be tried again and again, the others are not affected"
            )
    return problems, warnings


def _place(settings: Settings, source: SourceSettings) -> str:
    return f"{Path(settings.config_path).name}: source {source.name}: config"


def _validate_here(source: SourceSettings) -> tuple[bool, str]:
    """Validate in this process, with the source's environment variables set meanwhile."""
    before = dict(os.environ)
    os.environ.update(source.env_values)
    try:
        return _validate(source)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _validate(source: SourceSettings) -> tuple[bool, str]:
    from pylantir.data_sources.registry import ask_validity, load_source

    is_valid, message = ask_validity(load_source(source), source)
    return is_valid, make_redactor(source.secrets)(message)


class _PluginCheck:
    """One plugin's `validate_config`, in a child of its own, which first reports that it has started."""

    def __init__(self, source: SourceSettings, base_dir: str, answer_at: float, *, messages: bool) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = socket.socketpair()
        output, their_output = context.Pipe(duplex=False)
        self._shows_prints = messages
        self._prints: list[str] = []
        self._printed = 0
        self._output = ChildOutput(of_plugin=True)
        self._output.attach(output, source.secrets)
        self._answer_at = answer_at
        self.deadline = self._last_moment = time.monotonic() + BUSY_MACHINE_S
        self._frames = FrameSocket(ours, limit=64 * 1024)
        self._answer: Frame | None = None
        self._process: SpawnProcess = context.Process(
            target=_validate_in_child, args=(source, base_dir, os.getpid(), theirs, their_output),
            kwargs={"messages": messages},
        )  # fmt: skip
        with theirs, their_output:
            self._process.start()

    def filenos(self, now: float) -> list[int]:
        """What to wait for."""
        return [self._frames.fileno(), *self._output.filenos(now)]

    def look_at(self, now: float) -> float:
        """When to look again (monotonic seconds), if nothing comes before."""
        return min(self.deadline, self._output.deadline(now) or self.deadline)

    @property
    def is_over(self) -> bool:
        """Whether the answer has come, or can no longer come."""
        if self._answer is not None or self._frames.closed:
            return True
        now = time.monotonic()
        if self.deadline <= now < self._last_moment and self._lacks_processor():
            self.deadline = now + _LOOK_AGAIN_S
        return now >= self.deadline

    def _lacks_processor(self) -> bool:
        from workers.supervisor.children.resources import lacks_processor

        return lacks_processor(self._process.pid, PROCESSOR_S)

    def listen(self, now: float) -> None:
        """Read the child's messages and output."""
        self._hear(self._output.take(now))
        try:
            for frame in self._frames.receive():
                if frame.get("begun"):
                    self.deadline = min(self._last_moment, max(self._answer_at, time.monotonic() + PLUGIN_CHECK_S))
                else:
                    self._answer = frame
        except ProtocolError:
            self._frames.closed = True

    def finish(self) -> tuple[bool | None, str]:
        """End the child; return (valid, message), or (None, what went wrong) if the plugin gave no answer."""
        hangs = not self._frames.closed
        if self._process.pid:
            # With what the plugin has started. Before `join`, which gives the number of the group away.
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._frames.close()
        self._hear(self._output.detach(time.monotonic()))
        if self._answer is None:
            return None, "its check hangs" if hangs else "its check ended the process"
        is_valid = self._answer.get("is_valid")
        return (is_valid if isinstance(is_valid, bool) else None), str(self._answer.get("message"))

    def describe_prints(self) -> list[str]:
        """Say what the plugin has printed, or at levels other than DEBUG only how many lines."""
        if self._shows_prints:
            return [f"prints: {printable(line)}" for line in self._prints]
        return [PRINTED % self._printed] if self._printed else []

    def _hear(self, heard: Heard) -> None:
        self._prints += heard.lines + heard.prints
        self._printed += heard.printed


def _wait_for(checks: list[_PluginCheck]) -> None:
    """Wait until every check is over; they run side by side."""
    while waiting := [check for check in checks if not check.is_over]:
        now = time.monotonic()
        pause_s = min(check.look_at(now) for check in waiting) - now
        wait([number for check in waiting for number in check.filenos(now)], max(0.0, pause_s))
        for check in waiting:
            check.listen(time.monotonic())


def _validate_in_child(
    source: SourceSettings,
    base_dir: str,
    parent_pid: int,
    sock: socket.socket,
    output: Connection,
    *,
    messages: bool,
) -> None:
    """The target of a plugin's check: what the plugin prints, and its exceptions' messages, are for DEBUG only."""
    leave_signals_to_the_supervisor()
    die_with_parent(parent_pid)
    lead_group()
    set_names("check")
    restore_import_path()
    os.environ.update(source.env_values)
    os.chdir(base_dir)
    for fd in (1, 2):
        os.dup2(output.fileno(), fd)
    output.close()
    sock.setblocking(True)
    sock.sendall(encode_frame({"begun": True}))
    try:
        is_valid, message = _validate(source)
        answer: dict[str, object] = {"is_valid": is_valid, "message": message}
    except BaseException as error:  # noqa: BLE001 - SystemExit too: this process exists for the plugin's sake
        said = make_redactor(source.secrets)(str(error))
        text = f"{type(error).__name__}: {said}" if messages else kind_of(error)
        message = said if isinstance(error, PylantirError) else f"its check raised {text}"
        if messages and error.__cause__:
            message += f" ({type(error.__cause__).__name__}: {make_redactor(source.secrets)(str(error.__cause__))})"
        answer = {"is_valid": None, "message": printable(message)}
    with contextlib.suppress(Exception):
        # The process is killed after its answer; a plugin may have put anything in the place of these.
        sys.stdout.flush()
        sys.stderr.flush()
    sock.sendall(encode_frame(answer))
