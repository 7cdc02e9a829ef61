"""Ports for servers that a test starts by number.

Not those that the system hands out itself: such a port may be the near end of anybody's connection a moment later. The
last ones stay marked until the servers are there: two runs of the tests may go on beside each other.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections import deque
from contextlib import suppress

_PER_WORKER = 1000
_FIRST = 15_000 + _PER_WORKER * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_MARKED = 8
_numbers = itertools.count(random.randrange(_PER_WORKER))
_marks: deque[socket.socket] = deque()


def free_port() -> int:
    """A port of this worker's own that nobody uses just now; another one each time."""
    for number in itertools.islice(_numbers, _PER_WORKER):
        port = _FIRST + number % _PER_WORKER
        mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with suppress(OSError):
            # A name without a file, which only one process can have.
            mark.bind(f"\0pylantir-tests-port-{port}")
            socket.create_server(("127.0.0.1", port)).close()
            _marks.append(mark)
            if len(_marks) > _MARKED:
                _marks.popleft().close()
            return port
        mark.close()
    msg = f"all ports from {_FIRST} on are taken"
    raise OSError(msg)
