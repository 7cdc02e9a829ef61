"""Shows on a terminal that a command is still at work. Lives in the commands."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SHOWN_AFTER_S = 2.0


@contextmanager
def progress(text: str, *, after_s: float = SHOWN_AFTER_S) -> Iterator[None]:
    """Show a text and the elapsed seconds on stderr while the block runs, from the second second on.

    Nothing is shown in a pipe. The block must print nothing itself.
    """
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_show, args=(text, after_s, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show(text: str, after_s: float, done: threading.Event) -> None:
    began = time.monotonic()
    if done.wait(after_s):
        return
    from rich.console import Console
    from rich.text import Text

    def elapsed() -> Text:
        return Text(f"{text}: {time.monotonic() - began:.0f} s")

    with Console(stderr=True).status(elapsed()) as status:
        while not done.wait(1.0):
            status.update(elapsed())
