"""One campaign: attack the server for a while, and watch it, another client and its memory meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from . import seeds
from .mutations import conversation
from .server import PATIENCE_S

ANSWER_S = 10 * PATIENCE_S
WITNESS_EVERY = 25
SILENT_EVERY = 200
WARM_UP = 300
MAX_GROWTH_BYTES = 8 * 1024 * 1024
MISSED_S = PATIENCE_S / 2
"""Who has taken longer for its part has stood still, and the server may have lost patience."""
_INTERNAL = ("Traceback", "failed:", "Exception in thread", "Fatal Python")
_DATA, _RELEASED, _ABORT = 0x04, 0x06, 0x07


class Finding(Exception):
    """What the server should not have done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a campaign came to."""

    attacks: int
    growth_bytes: int


def run_campaign(seconds: float, seed: int, *, keep_in: Path = seeds.KEPT) -> Report:
    """Attack for so long.

    Args:
        seconds: Duration; the kept seeds are all sent whatever it is.
        seed: Of the chances taken.
        keep_in: Where the input of a finding is written.

    Raises:
        Finding: With the file of the input that led to it.
    """
    chance = random.Random(seed)
    corpus = seeds.conversations()
    with (
        tempfile.NamedTemporaryFile() as written,
        Path(written.name).open() as log,
        _server(written) as (process, port),
    ):
        server = psutil.Process(process.pid)
        deadline = time.monotonic() + seconds
        attacks, baseline = 0, 0
        while attacks < len(corpus) + WARM_UP or time.monotonic() < deadline:
            sent = corpus[attacks] if attacks < len(corpus) else conversation(chance, corpus)
            try:
                _attack(port, sent, silent=attacks % SILENT_EVERY == SILENT_EVERY - 1, hasty=chance.random() < 0.1)
                if attacks % WITNESS_EVERY == 0:
                    _witness(port)
                _inspect(process, log)
            except (Finding, OSError) as error:
                file = keep_in / f"{hashlib.sha256(sent).hexdigest()[:16]}.bin"
                file.write_bytes(sent)
                raise Finding(f"{error} (attack {attacks} of seed {seed}, kept as {file})") from error
            attacks += 1
            if attacks == len(corpus) + WARM_UP:
                baseline = server.memory_info().rss
        growth = server.memory_info().rss - baseline
        if growth > MAX_GROWTH_BYTES:
            raise Finding(f"memory grew by {growth} bytes in {attacks} attacks of seed {seed}")
        return Report(attacks=attacks, growth_bytes=growth)


@contextlib.contextmanager
def _server(log: IO[bytes]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    here = Path(__file__).parents[1]
    command = [sys.executable, "-m", "fuzz.server"]
    process = subprocess.Popen(command, cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def _attack(port: int, sent: bytes, *, silent: bool, hasty: bool) -> None:
    """Send, and see that the server ends the connection: at our end of it, or by its own clock."""
    is_whole = sent.startswith(seeds.associate_request()) and sent.endswith(seeds.release_request())
    first = 6 + int.from_bytes(sent[2:6], "big") if not hasty else len(sent)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as connection:
        answered = b""
        with contextlib.suppress(OSError):
            connection.sendall(sent[:first])
            if len(sent) > first:
                answered = connection.recv(65536)
                connection.sendall(sent[first:])
            # Who hangs up before the end waits for no answer.
            if not (silent or is_whole):
                connection.shutdown(socket.SHUT_WR)
        is_late = time.monotonic() - began > MISSED_S
        answered += _read_to_the_end(connection)
    if (
        is_whole
        and not is_late
        and _ABORT not in _kinds(sent)
        and answered[:1] == b"\x02"
        and not _kinds(answered) & {_ABORT, _DATA, _RELEASED}
    ):
        raise Finding("an association was accepted and then ended without any answer")


def _read_to_the_end(connection: socket.socket) -> bytes:
    data = b""
    try:
        while part := connection.recv(65536):
            data += part
    except ConnectionError:
        pass
    except TimeoutError:
        raise Finding(f"the connection was still open after {ANSWER_S:.0f} s") from None
    return data


def _kinds(answered: bytes) -> set[int]:
    kinds = set()
    while len(answered) >= 6:
        kinds.add(answered[0])
        answered = answered[6 + int.from_bytes(answered[2:6], "big") :]
    return kinds


def _witness(port: int) -> None:
    """Be a well-behaved scanner: associate, ask, release."""
    asked = seeds.find_request(seeds.element(0x0010, 0x0020, b"P1"))
    for _ in range(3):
        began, answered = time.monotonic(), b""
        with (
            socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as connection,
            contextlib.suppress(ConnectionError),
        ):
            connection.sendall(seeds.associate_request())
            answered = connection.recv(65536)
            connection.sendall(asked + seeds.release_request())
            answered += _read_to_the_end(connection)
        if b"P1" in answered and _kinds(answered) >= {0x02, _DATA, _RELEASED}:
            return
        if time.monotonic() - began < MISSED_S:
            break
    raise Finding("another scanner was not served")


def _inspect(process: subprocess.Popen[str], log: IO[str]) -> None:
    if process.poll() is not None:
        raise Finding(f"the server ended with status {process.returncode}")
    for line in log:
        if any(word in line for word in _INTERNAL):
            raise Finding(f"the server stumbled: {line.strip()}")
