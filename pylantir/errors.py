"""Every exception of Pylantir, in one tree, and the exit statuses of its commands.

A message says what is wrong, where, and what to do. It never holds a patient's name or birth date, nor a secret.
"""

from __future__ import annotations

import enum
import os
import traceback
from collections.abc import Iterable


class ExitStatus(enum.IntEnum):
    """The exit status of a command."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_RUNNING = 3
    UNREACHABLE = 4
    LOCKED = 73
    CONFIGURATION = 78


class PylantirError(Exception):
    """The root of all exceptions that Pylantir raises on purpose."""


class ConfigurationError(PylantirError):
    """A configuration that cannot be used.

    Attributes:
        problems: One line per error, complete with file and path; all of them, not just the first.
        warnings: What the user should look at besides, in the same form.
    """

    def __init__(self, problems: list[str] | tuple[str, ...], warnings: Iterable[str] = ()) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)


class PluginError(PylantirError):
    """A plugin that cannot be loaded or used; names the plugin and its file."""


class SourceUnavailable(PylantirError):
    """A source that cannot be read at present (absent file, server down): the cycle fails and is tried again."""


class RecordRejected(PylantirError):
    """One record that cannot become a worklist entry.

    Attributes:
        field: The worklist field at fault.
        reason: What is wrong with it, without any patient data.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def frames_of(error: BaseException) -> str:
    """Return an error's stack frames for the log, without its message, which may quote a patient."""
    return "".join(traceback.format_tb(error.__traceback__)).rstrip()


def traceback_of(error: BaseException) -> str:
    """Return an error's traceback for the log, with its causes, and without any message that may quote a patient.

    Messages that are made from no data stay: those of system calls, imports, syntax, SQLite, and our own.
    """
    lines: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        kind = type(current)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        frames = frames_of(current)
        lines.insert(0, f"Traceback (most recent call last):\n{frames}\n{name}{_safe_message(current)}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n\nthen, because of this or while it was handled:\n\n".join(lines)


def describe_os_error(error: OSError) -> str:
    """Say which file the system refused and why, without the number of the error."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


def kind_of(error: BaseException) -> str:
    """Say in a line what kind of error it is, without a message that may quote a patient."""
    return f"{type(error).__name__}{_safe_message(error)}"


def _safe_message(error: BaseException) -> str:
    if isinstance(error, PylantirError) or type(error).__module__ == "sqlite3":
        return f": {error}"
    if isinstance(error, SyntaxError):
        return f": {error.msg} ({error.filename}, line {error.lineno})"
    if isinstance(error, ImportError) and error.name:
        return f": {error.name}"
    if isinstance(error, OSError) and error.errno is not None:
        return f": [Errno {error.errno}] {os.strerror(error.errno)}"
    return " (its message is shown with the log level DEBUG only)" if str(error) else ""


class ProtocolError(PylantirError):
    """A peer that does not keep to the protocol of a local socket; its connection is closed."""


class BadRequest(PylantirError):
    """A request over HTTP that breaks a rule; the text says which, without any value of it."""


class InvalidQuery(PylantirError):
    """A C-FIND identifier that breaks the rules of its SOP class.

    Attributes:
        tag: The offending element, as an integer (0xGGGGEEEE).
    """

    def __init__(self, tag: int, comment: str) -> None:
        super().__init__(comment)
        self.tag = tag


class DicomPeerError(PylantirError):
    """A DICOM server that cannot be reached, refuses, or fails to answer."""


class StoreError(PylantirError):
    """A database that cannot be opened, read or written just now."""


class ClusterChanged(StoreError):
    """What the writer knew of the database is over; it reads anew and tries again."""


class RulesChanged(ClusterChanged):
    """The configuration of a host came into force; the order of priority may be another."""


class LeaseLost(ClusterChanged):
    """Another host fetches a source now."""


class HistoryLost(ClusterChanged):
    """The database does not have what was committed for a source.

    Attributes:
        source: The source's name.
    """

    def __init__(self, source: str) -> None:
        super().__init__(f"source {source}: the database does not have what was committed last")
        self.source = source


class SchemaMismatch(ConfigurationError):
    """A database whose tables cannot be converted to the needed form; trying again does not help."""


class MppsRefused(PylantirError):
    """A report of a scanner that breaks the rules of its SOP class.

    Attributes:
        status: The DIMSE status to answer.
        error_id: Which rule, for the answer's Error ID.
        tags: The attributes at fault, as eight hexadecimal digits each.
    """

    def __init__(self, status: int, error_id: int, comment: str, tags: tuple[str, ...] = ()) -> None:
        super().__init__(comment)
        self.status = status
        self.error_id = error_id
        self.tags = tags


class WriterUnavailable(PylantirError):
    """The writer did not commit something in time; it is not stored later either."""


class CommandRefused(PylantirError):
    """An operator's command that cannot be carried out; the message says why, and what is possible instead."""


class WrongUsage(PylantirError):
    """A command that names something that does not exist, or makes no sense: exit status 2."""


class AlreadyRunning(PylantirError):
    """Another instance holds the lock."""


class ControlError(PylantirError):
    """A running supervisor that did not answer, or refused a command."""


class SocketGone(ControlError):
    """A running supervisor whose socket was removed and has not been made again.

    Attributes:
        pid: Its process.
    """

    def __init__(self, text: str, pid: int) -> None:
        super().__init__(text)
        self.pid = pid


class NotRunning(PylantirError):
    """No supervisor runs with this configuration."""
