"""A writer that is killed at the worst moment: after the COMMIT of a frame, before its acknowledgement, once for each."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

from pylantir.store.schema.sqlite_file import sqlite_path
from workers.child.bootstrap import Context
from workers.writer import worker as writer
from workers.writer.queue import Producer
from workers.writer.settings import WriterSettings

BODY = f"{__name__}:run"


def run(context: Context, settings: WriterSettings, listener: socket.socket) -> None:
    """The body of the process, in the writer's place."""
    database = sqlite_path(settings.db_url)
    assert database
    answer = Producer.answer

    def die_first(producer: Producer, value: Mapping[str, object]) -> None:
        note = deaths(database.parent) / f"{value.get('cycle')}-{value.get('seq')}"
        if value.get("kind") == "ack" and not note.exists():
            note.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        answer(producer, value)

    Producer.answer = die_first  # type: ignore[method-assign]
    writer.run(context, settings, listener)


def deaths(folder: Path) -> Path:
    """Where each death is noted."""
    noted = folder / "deaths"
    noted.mkdir(exist_ok=True)
    return noted
