"""A process whose channel to the supervisor broke is replaced: it would work on, unheard, for ever."""

from __future__ import annotations

import time
from pathlib import Path

from running_writer import RunningWriter
from waiting import wait_until


def test_a_process_that_cannot_be_heard_any_more_is_replaced(tmp_path: Path) -> None:
    writer = RunningWriter(tmp_path)
    try:
        writer.start()
        pid = writer.child.pid
        assert writer.child._process
        # What a read without memory leaves behind.
        writer.child._process._frames.closed = True
        writer.child._unheard_at = time.monotonic()

        def is_replaced() -> bool:
            writer.child.check_deadlines(time.monotonic(), may_restart=True)
            return writer.is_ready() and writer.child.pid != pid

        wait_until(is_replaced, "another process has taken over")
        assert writer.child.last_exit == "signal SIGKILL"
    finally:
        writer.close()
