"""`log`: the log of an instance, or one process's lines of it; `-f` follows. Lives in the command."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from pylantir.cli.supervisor import ask_instance
from pylantir.errors import ExitStatus, NotRunning, PylantirError, WrongUsage
from pylantir.programs.arguments import unknown_name
from workers.commands.detach import default_log_path

_LOOK_EVERY_S = 0.2
_OWN = ("supervisor", "writer", "mwl-scp", "web", "check")
_HEAD = re.compile(r"^\S+Z +[A-Z]+ +(?:source (?P<source>.*?)|(?P<process>\S+)): ")
"""The beginning of an event in the text form; a source's name may have a colon, but hardly one before a space."""


def show_log(config_path: Path, name: str | None, *, follow: bool) -> int:
    """Print the log, or the lines of one process.

    Raises:
        PylantirError: There is no log file; the message says where the log is.
        WrongUsage: No process has this name.
    """
    path, names = _find_log(config_path)
    if name is not None and name not in {*names, *_OWN}:
        raise WrongUsage(unknown_name("process", name, [*_OWN[:3], *(one for one in names if one not in _OWN)]))
    is_wanted = wanted_lines(name)
    try:
        for line in _lines(path, follow=follow):
            if is_wanted(line):
                sys.stdout.write(line)
                if follow:
                    sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # The reader (`head`, say) has closed the pipe; the interpreter would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitStatus.OK


def wanted_lines(name: str | None) -> Callable[[str], bool]:
    """Make the test whether a line belongs to a process; a line without a head belongs to the previous event."""
    wanted = name is None

    def is_wanted(line: str) -> bool:
        nonlocal wanted
        if name is not None:
            who = _who(line)
            wanted = wanted if who is None else who == name
        return wanted

    return is_wanted


def _who(line: str) -> str | None:
    if line.startswith("{"):
        try:
            event = json.loads(line)
        except ValueError:
            return None
        return str(event.get("source") or event.get("process")) if isinstance(event, dict) else None
    match = _HEAD.match(line)
    return (match["source"] or match["process"]) if match else None


def _find_log(config_path: Path) -> tuple[Path, list[str]]:
    try:
        status = ask_instance(config_path, {"command": "status"})
    except NotRunning:
        from pylantir.config.loading import load_settings
        from pylantir.data_sources.registry import discover

        settings = load_settings(config_path, discover=discover, environ=os.environ)
        path = default_log_path(settings, os.environ)
        if not path.is_file():
            msg = f"not running, and there is no log file at {path}; under systemd: journalctl -u pylantir"
            raise PylantirError(msg) from None
        return path, [source.name for source in settings.sources]
    processes = cast("list[dict[str, object]]", status["processes"])
    if not isinstance(status.get("log"), str):
        msg = (
            f"the log of process {processes[0]['pid']} goes to its standard error: "
            "to the terminal where it was started; under systemd: journalctl -u pylantir"
        )
        raise PylantirError(msg)
    return Path(str(status["log"])), [str(process["name"]) for process in processes]


def _lines(path: Path, *, follow: bool) -> Iterator[str]:
    """Yield the lines of a file; when following, also new ones, and those of a file that replaces it."""
    file = path.open(encoding="utf-8", errors="replace")
    try:
        while True:
            yield from _whole_lines(file, follow=follow)
            if not follow:
                return
            time.sleep(_LOOK_EVERY_S)
            if _was_replaced(file, path):
                yield from _whole_lines(file, follow=False)
                file.close()
                file = path.open(encoding="utf-8", errors="replace")
    finally:
        file.close()


def _whole_lines(file: IO[str], *, follow: bool) -> Iterator[str]:
    while True:
        begin = file.tell()
        line = file.readline()
        if not line:
            return
        if follow and not line.endswith("\n"):
            # The rest of it is still being written.
            file.seek(begin)
            return
        yield line


def _was_replaced(file: IO[str], path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    here = os.fstat(file.fileno())
    if found.st_size < file.tell() and os.path.samestat(found, here):
        # Cut off in its place (copytruncate).
        file.seek(0)
    return not os.path.samestat(found, here)
