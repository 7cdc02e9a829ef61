"""Tells why a command has failed: lines on stderr and an exit status, the same for both programs."""

from __future__ import annotations

import sys

from pylantir.errors import (
    AlreadyRunning,
    ConfigurationError,
    ControlError,
    ExitStatus,
    NotRunning,
    PylantirError,
    WrongUsage,
    describe_os_error,
)

_STATUSES = {
    WrongUsage: ExitStatus.USAGE,
    AlreadyRunning: ExitStatus.LOCKED,
    NotRunning: ExitStatus.NOT_RUNNING,
    ControlError: ExitStatus.UNREACHABLE,
    ConfigurationError: ExitStatus.CONFIGURATION,
}
"""The exit status of an error; every other error is a failure."""


def tell_failure(program: str, error: PylantirError | OSError) -> ExitStatus:
    """Print why a command of a program has failed; return the exit status."""
    if isinstance(error, ConfigurationError):
        print(*error.problems, sep="\n", file=sys.stderr)
    else:
        print(f"{program}: {describe_os_error(error) if isinstance(error, OSError) else error}", file=sys.stderr)
    return next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), ExitStatus.FAILURE)
