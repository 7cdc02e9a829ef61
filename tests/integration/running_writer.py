"""A real writer process on a real socket, and producers that keep to the protocol or do not."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from waiting import wait_until

from pylantir.ipc.frames import Frame, FrameReader, encode_frame
from pylantir.ipc.sockets import connect_to, listen_at
from pylantir.settings import LogSettings, PluginType, Settings, SourceSettings
from pylantir.store.clock import utc_now
from workers.supervisor.children.child import Child
from workers.supervisor.children.lifecycle import State
from workers.supervisor.children.roles import QUEUE_SOCKET_NAME, plan_roles
from workers.writer.queue import make_token

PATIENCE_S = 60.0
KEY = b"k" * 32
CSV = PluginType(type_name="csv", module="pylantir.data_sources.csv_file", class_name="CsvPlugin", builtin=True)


def hello(source: str, generation: int = 1, **changes: object) -> Frame:
    token = make_token(KEY, "source", source, generation)
    return {
        "kind": "hello",
        "role": "source",
        "source": source,
        "generation": generation,
        "token": token,
        **changes,
    }


NAMES = ("patient_id", "scheduled_start_date", "modality", "patient_name")


def record(patient: str, patient_name: object = None, modality: str = "MR") -> list[object]:
    return [f"id:{patient}", patient, "20300101", modality, patient_name]


@functools.cache
def began(cycle: str) -> str:
    """When a cycle began: at its first frame."""
    return utc_now()


def batch(seq: int, *records: list[object], cycle: str = "c1", **changes: object) -> Frame:
    keys, *columns = zip(*records, strict=True) if records else ((),)
    place = {"cycle": cycle, "seq": seq, "started_at": began(cycle)}
    return {
        "kind": "batch",
        **place,
        "snapshot": True,
        "keys": keys,
        "values": dict(zip(NAMES, columns, strict=False)),
        "present": [],
        "rejected": [],
    } | changes


def end(seq: int, *, cycle: str = "c1", complete: bool = True) -> Frame:
    place = {"cycle": cycle, "seq": seq, "started_at": began(cycle)}
    return {"kind": "end", **place, "complete": complete, "error": None}


class RawProducer:
    """A connection to the writer that can send anything."""

    def __init__(self, address: Path) -> None:
        self.sock = connect_to(address)
        self.sock.settimeout(PATIENCE_S)
        self._reader = FrameReader()
        self._frames: list[Frame] = []

    def send(self, frame: Mapping[str, object]) -> None:
        self.sock.sendall(encode_frame(frame))

    def receive(self, timeout_s: float = PATIENCE_S) -> Frame | None:
        """The next frame; None when the writer has closed the connection.

        Raises:
            TimeoutError: Nothing came.
        """
        self.sock.settimeout(timeout_s)
        while not self._frames:
            try:
                data = self.sock.recv(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            self._frames += self._reader.feed(data)
        return self._frames.pop(0)

    def ask(self, frame: Mapping[str, object]) -> Frame | None:
        self.send(frame)
        return self.receive()

    def greet(self, source: str, generation: int = 1) -> Frame:
        welcome = self.ask(hello(source, generation))
        assert welcome is not None
        assert welcome["kind"] == "welcome"
        return welcome

    def close(self) -> None:
        self.sock.close()


class RunningWriter:
    """The writer as the supervisor starts it, or another body in its place; its socket outlives it."""

    def __init__(
        self, folder: Path, *sources: str, database: Path | None = None, body: str = "workers.writer.worker:run"
    ) -> None:
        self.database = database or folder / "worklist.db"
        self.address = folder / QUEUE_SOCKET_NAME
        self._listener = listen_at(self.address)
        self._dicom = socket.socket()
        settings = Settings(
            config_path=str(folder / "pylantir.json"),
            base_dir=str(folder),
            db_url=f"sqlite:///{self.database}",
            runtime_dir=str(folder),
            sources=tuple(SourceSettings(name=name, plugin=CSV) for name in sources or ("a", "b")),
        )
        role = replace(plan_roles(settings, KEY, self._listener, self._dicom)["writer"], body=body)
        began.cache_clear()
        self.child = Child(role, KEY, LogSettings(), itertools.count(1), time.monotonic())
        self.generation = 0
        self._producers: list[RawProducer] = []

    def start(self) -> None:
        self.child.spawn(time.monotonic())
        wait_until(self.is_ready, "the writer is ready")

    def listen(self) -> None:
        """What the supervisor's loop does."""
        now = time.monotonic()
        self.child.listen(now)
        if self.child.reap(now, 0.0):
            self.child.spawn(now)

    def is_ready(self) -> bool:
        self.listen()
        return self.child.life.state is State.RUNNING

    def kill(self) -> None:
        """Kill the process; `listen` starts its successor."""
        assert self.child.pid
        os.kill(self.child.pid, signal.SIGKILL)

    def connect(self, source: str | None = None, generation: int | None = None) -> RawProducer:
        """Connect, as a newer incarnation of a source unless another generation is given, or as a stranger."""
        producer = RawProducer(self.address)
        self._producers.append(producer)
        if source:
            self.generation += generation is None
            producer.greet(source, generation or self.generation)
        return producer

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(statement).fetchall()

    def patients(self) -> list[str]:
        return [patient for (patient,) in self.rows("select patient_id from worklist_items order by 1")]

    def close(self) -> None:
        for producer in self._producers:
            producer.close()
        self.child.kill()
        wait_until(lambda: self.child.reap(time.monotonic(), 0.0) or self.child.pid is None, "the writer has ended")
        self._listener.close()
        self._dicom.close()
        with suppress(FileNotFoundError):
            self.address.unlink()
