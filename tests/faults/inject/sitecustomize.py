"""Lets one system call fail in the process that loads this at its start: every process of an installation under test.

The folder of this file is on PYTHONPATH, and PYLANTIR_FAULTS names a folder for orders. An order is a file called like
the process id, or `next` for whichever process starts first: a JSON object with the call, the error's number, and how
many calls are let through before. A process that takes an order removes the file; when the call has failed, it makes
one that ends in `.fired`. The program itself knows nothing of this.

PYLANTIR_CLOCK names a file with one number (a C double): so many seconds the wall clock is off, in every process, from
the moment when it is written. Monotonic clocks and the times of files stay right.
"""

from __future__ import annotations

import datetime
import json
import mmap
import os
import posix
import selectors
import socket
import sqlite3
import stat
import struct
import subprocess
import threading
import time
from multiprocessing import util

FOLDER = os.environ.get("PYLANTIR_FAULTS", "")
CLOCK = os.environ.get("PYLANTIR_CLOCK", "")
SQLITE_TEXTS = {
    5: "database is locked",
    10: "disk I/O error",
    13: "database or disk is full",
    14: "unable to open database file",
}


class Faults:
    """The order that this process has, if it has one."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._order: dict | None = None

    def take(self, name: str) -> None:
        """Take an order of this name, if there is one."""
        path = f"{self._folder}/{name}"
        mine = f"{self._folder}/{posix.getpid()}.taken"
        try:
            posix.rename(path, mine)
            fd = posix.open(mine, posix.O_RDONLY)
            self._order = json.loads(posix.read(fd, 4096))
            posix.close(fd)
        except OSError:
            pass

    def pass_through(self, call: str) -> None:
        """Let a call through, or fail it."""
        if self._order is None:
            self.take(str(posix.getpid()))
        with self._lock:
            order = self._order
            if order is None or order["call"] != call:
                return
            order["after"] -= 1
            if order["after"] >= 0:
                return
            self._order = None
            posix.close(posix.open(f"{self._folder}/{posix.getpid()}.fired", posix.O_WRONLY | posix.O_CREAT))
        raise self.error_of(call, order["number"])

    @staticmethod
    def error_of(call: str, number: int) -> BaseException:
        """Make the exception that Python would raise."""
        if call == "thread":
            return RuntimeError("can't start new thread")
        if call != "sqlite":
            return OSError(number, posix.strerror(number))
        if number == sqlite3.SQLITE_NOMEM:
            return MemoryError()
        error = sqlite3.OperationalError(SQLITE_TEXTS[number])
        error.sqlite_errorcode = number
        return error


def install(faults: Faults) -> None:
    """Put a look at the order before every call that a loop of the program makes."""

    def wrap(owner: object, name: str, call: str) -> None:
        original = getattr(owner, name)

        def faulty(*args: object, **kwargs: object) -> object:
            faults.pass_through(call)
            return original(*args, **kwargs)

        setattr(owner, name, faulty)

    for name in ("accept", "recv", "send", "sendall", "connect", "bind", "listen"):
        wrap(socket.socket, name, name if name != "sendall" else "send")
    wrap(socket.socket, "__init__", "socket")
    wrap(socket, "socketpair", "socket")
    for name in ("open", "read", "dup", "pipe", "stat", "listdir", "scandir", "fsync", "unlink", "replace"):
        wrap(os, name, name)
    write = os.write

    def write_faulty(fd: int, data: bytes) -> int:
        # A pipe that has a reader does not fail; Python's own, to its resource tracker, must not seem to.
        if not stat.S_ISFIFO(posix.fstat(fd).st_mode):
            faults.pass_through("write")
        return write(fd, data)

    os.write = write_faulty
    for kind in (selectors.PollSelector, selectors.EpollSelector):
        wrap(kind, "select", "select")
        wrap(kind, "register", "register")
    wrap(selectors.EpollSelector, "__init__", "epoll")
    wrap(util, "spawnv_passfds", "spawn")
    wrap(subprocess, "_fork_exec", "spawn")
    wrap(threading.Thread, "start", "thread")

    class Cursor(sqlite3.Cursor):
        def execute(self, *args: object) -> sqlite3.Cursor:
            faults.pass_through("sqlite")
            return super().execute(*args)

        def executemany(self, *args: object) -> sqlite3.Cursor:
            faults.pass_through("sqlite")
            return super().executemany(*args)

    class Connection(sqlite3.Connection):
        def cursor(self, factory: type = Cursor) -> sqlite3.Cursor:
            return super().cursor(factory)

        def execute(self, *args: object) -> sqlite3.Cursor:
            faults.pass_through("sqlite")
            return super().execute(*args)

        def commit(self) -> None:
            faults.pass_through("sqlite")
            super().commit()

    connect = sqlite3.connect

    def connect_faulty(*args: object, **kwargs: object) -> sqlite3.Connection:
        faults.pass_through("sqlite")
        return connect(*args, **{"factory": Connection, **kwargs})

    sqlite3.connect = sqlite3.dbapi2.connect = connect_faulty


def shift_clock(path: str) -> None:
    """Let this process's wall clock be off by as many seconds as the file says at that moment."""
    with open(path, "rb") as file:  # noqa: PTH123 - nothing more is imported than needed
        shared = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
    really = {name: getattr(time, name) for name in ("time", "time_ns", "gmtime", "localtime", "strftime")}
    moment, day = datetime.datetime, datetime.date

    def now() -> float:
        return really["time"]() + struct.unpack("d", shared[:8])[0]

    class Kind(type):
        def __instancecheck__(cls, one: object) -> bool:
            return isinstance(one, cls.__mro__[1])

        def __subclasscheck__(cls, one: type) -> bool:
            return issubclass(one, cls.__mro__[1])

    class Moment(moment, metaclass=Kind):
        def __new__(cls, *args: object, **kwargs: object) -> datetime.datetime:
            return moment(*args, **kwargs)

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return moment.fromtimestamp(now(), tz)

    class Day(day, metaclass=Kind):
        def __new__(cls, *args: object, **kwargs: object) -> datetime.date:
            return day(*args, **kwargs)

        @classmethod
        def today(cls) -> datetime.date:
            return day.fromtimestamp(now())

    datetime.datetime, datetime.date = Moment, Day
    time.time, time.time_ns = now, lambda: int(now() * 1e9)
    time.gmtime = lambda seconds=None: really["gmtime"](now() if seconds is None else seconds)
    time.localtime = lambda seconds=None: really["localtime"](now() if seconds is None else seconds)
    time.strftime = lambda text, moment=None: really["strftime"](text, time.localtime() if moment is None else moment)


if CLOCK:
    shift_clock(CLOCK)
if FOLDER:
    _faults = Faults(FOLDER)
    _faults.take("next")
    install(_faults)
