"""A writer in which something raises that nobody expected: wherever the patient ID or the command says so."""

from __future__ import annotations

import socket
import sqlite3
from typing import Any

from sqlalchemy.exc import OperationalError

from pylantir.ipc.cycles import CycleEnd, EntryBatch
from pylantir.store.intake.cycle import SourceIngest
from workers.child.bootstrap import Context
from workers.writer import checkpoints, chores
from workers.writer import worker as writer
from workers.writer.queue import EntryQueue
from workers.writer.settings import WriterSettings

BODY = f"{__name__}:run"


def run(context: Context, settings: WriterSettings, listener: socket.socket) -> None:
    """The body of the process, in the writer's place."""
    apply_batch, finish_cycle, take = SourceIngest.apply_batch, SourceIngest.finish_cycle, EntryQueue.take

    def apply(ingest: SourceIngest, batch: EntryBatch) -> list[int]:
        patients = batch.records.patients if batch.records else ()
        if "RAISES" in patients:
            raise ValueError(f"what {patients[0]} said")
        if "REFUSED" in patients:
            raise OperationalError("insert", {}, sqlite3.OperationalError("too many SQL variables"))
        if "THREAD" in patients:
            checkpoints.sqlite_uri = broken
        return apply_batch(ingest, batch)

    def finish(ingest: SourceIngest, end: CycleEnd) -> Any:
        if end.cycle == "bad-end" and end.error is None:
            raise KeyError("P1")
        return finish_cycle(ingest, end)

    def next_frame(queue: EntryQueue) -> Any:
        taken = take(queue)
        if taken and taken[1].get("cycle") == "loop":
            raise RuntimeError("the loop itself")
        return taken

    def refuse(*_: object) -> str:
        raise LookupError("no such thing")

    def broken(*_: object) -> str:
        raise RuntimeError("the thread itself")

    SourceIngest.apply_batch = apply  # type: ignore[method-assign]
    SourceIngest.finish_cycle = finish  # type: ignore[method-assign]
    EntryQueue.take = next_frame  # type: ignore[method-assign]
    chores.carry_out = refuse  # type: ignore[assignment]
    writer.run(context, settings, listener)
