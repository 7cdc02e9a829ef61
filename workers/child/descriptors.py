"""Passes a descriptor to a spawned process. Lives in the supervisor and in every child.

`multiprocessing` can pass its own connections, too, but the child would load their module and what that imports: 0.6 MB
in each of many source workers.
"""

from __future__ import annotations

from multiprocessing.reduction import DupFd
from typing import Any


class PassedDescriptor:
    """A descriptor among the arguments of a process that is being started; the child gets a copy of its own.

    Args:
        fd: The descriptor.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (DupFd(self.fd),)


def _receive(passed: Any) -> PassedDescriptor:
    return PassedDescriptor(passed.detach())
