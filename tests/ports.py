"""Ports for servers that a test starts by number.

Not those that the system hands out itself: such a port may be the near end of anybody's connection a moment later.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
from contextlib import suppress

_PER_WORKER = 1000
_FIRST = 15_000 + _PER_WORKER * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_numbers = itertools.count(random.randrange(_PER_WORKER))


def free_port() -> int:
    """A port of this worker's own that nobody uses just now; another one each time."""
    for number in itertools.islice(_numbers, _PER_WORKER):
        port = _FIRST + number % _PER_WORKER
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    msg = f"all ports from {_FIRST} on are taken"
    raise OSError(msg)
