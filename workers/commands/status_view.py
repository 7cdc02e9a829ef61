"""`status` for people and for scripts: a table, or one JSON object. Lives in the command."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from pylantir.cli.output import print_table
from pylantir.cli.supervisor import ask_instance
from pylantir.errors import ControlError, ExitStatus, NotRunning
from pylantir.ipc.frames import Frame
from pylantir.printing import printable
from pylantir.web.pages.steps import next_steps

_WATCH_EVERY_S = 1.0
_BARS = "▁▂▃▄▅▆▇█"

Process = dict[str, object]
_PROCESS_COLUMNS = {
    "name": "PROCESS",
    "state": "STATE",
    "pid": "PID",
    "uptime": "UPTIME",
    "restarts": "RESTARTS",
    "cpu": "CPU %",
    "memory": "MEMORY",
}
_SOURCE_COLUMNS = {
    "name": "SOURCE",
    "last_sync": "LAST SYNC",
    "lag": "LAG",
    "entries": "ENTRIES",
    "rejected": "REJECTED",
    "next_sync": "NEXT SYNC",
}


def show_status(config_path: Path, *, as_json: bool, problems: bool = False) -> int:
    """Print the status once; the exit status says whether all is well."""
    status = ask_instance(config_path, {"command": "status"})
    if as_json:
        print(json.dumps(status, indent=2, ensure_ascii=False))
    else:
        print_status(Console(), status, problems=problems)
    return ExitStatus.OK if status["health"] == "healthy" else ExitStatus.FAILURE


def watch_status(config_path: Path, *, problems: bool = False) -> int:
    """Print the status every second until Ctrl-C, or until the instance has gone."""
    console = Console()
    try:
        while True:
            try:
                status = ask_instance(config_path, {"command": "status"})
            except (OSError, ControlError, NotRunning) as error:
                print(f"pylantir-supervisor: gone ({error})", file=sys.stderr)
                return ExitStatus.NOT_RUNNING
            console.clear()
            print_status(console, status, problems=problems, watching=True)
            time.sleep(_WATCH_EVERY_S)
    except KeyboardInterrupt:
        return ExitStatus.OK


def print_status(console: Console, status: Frame, *, problems: bool, watching: bool = False) -> None:
    """Print what `status` shows: tables, or with `problems` one line each, the worst first.

    Args:
        console: Where to print.
        status: What the supervisor says.
        problems: One line for each process.
        watching: Add each source's recent cycles, and what to do next.
    """
    processes = cast("list[Process]", status["processes"])
    # As Text, because a path may look like rich's markup.
    head = Text.assemble("Pylantir is ", (str(status["health"]), "bold"), f"  ({printable(status['config'])})")
    console.print(head, soft_wrap=True)
    if problems:
        _print_problems(console, processes)
    else:
        _print_tables(console, processes, watching=watching)
    _print_cluster(console, cast("dict[str, dict[str, bool]]", status.get("cluster") or {}))
    for process in processes:
        if process.get("database_role") == "standby":
            _print_line(console, "scanners are answered from a standby server of the database, which may be behind")
    for problem in cast("list[str]", status.get("reload_problems") or []):
        _print_line(console, f"the last reload was refused: {problem}", style="red")
    if status.get("log_dropped"):
        console.print(f"{status['log_dropped']} lines of the log are lost: whoever reads it has stalled", markup=False)
    if status.get("log"):
        console.print(f"log: {status['log']}", highlight=False, markup=False, soft_wrap=True)


def _print_line(console: Console, text: str, *, style: str | None = None) -> None:
    """Print a text that others may have chosen, such as the name of a host."""
    console.print(printable(text), style=style, highlight=False, markup=False)


def _print_cluster(console: Console, cluster: dict[str, dict[str, bool]]) -> None:
    hosts = cluster.get("hosts") or {}
    if len(hosts) > 1:
        said = ", ".join(f"{name} {'is there' if is_alive else 'is away'}" for name, is_alive in hosts.items())
        _print_line(console, f"hosts: {said}; this one is {cluster['host']}")


def _print_problems(console: Console, processes: list[Process]) -> None:
    """Print a line for each process; a problem that does not fit beside its process stands on the next line."""
    rows = [("NAME", "STATE", "LAST SYNC", "ENTRIES", "PROBLEM", "bold")]
    for process in worst_first(processes):
        is_source = "entries" in process
        problem = printable(" ".join(str(process.get("problem") or "").split()))
        rows.append(
            (
                str(process["name"]),
                str(_describe_state(process)),
                _last_sync(process) if is_source else "",
                str(_or_dash(process["entries"])) if is_source else "",
                problem,
                "red" if problem else "",
            )
        )
    widths = [max(len(row[place]) for row in rows) for place in range(4)]
    for name, state, last_sync, entries, problem, style in rows:
        head = f"{name:{widths[0]}}  {state:{widths[1]}}  {last_sync:>{widths[2]}}  {entries:>{widths[3]}}"
        fits = len(head) + 2 + len(problem) <= console.width
        line = f"{head}  {problem}" if fits else head
        console.print(Text(line.rstrip(), style=style), soft_wrap=True)
        if problem and not fits:
            console.print(Padding(Text(problem, style=style), (0, 0, 0, 4)))


def worst_first(processes: list[Process]) -> list[Process]:
    """Sort processes: those with a problem, then those that are not ready, then the others, each as configured."""
    return sorted(processes, key=lambda process: (not process.get("problem"), bool(process["ready"])))


def _print_tables(console: Console, processes: list[Process], *, watching: bool) -> None:
    rows = [
        {
            "name": process["name"],
            "state": _describe_state(process),
            "pid": _or_dash(process["pid"]),
            "uptime": _duration(process["uptime_s"]),
            "restarts": process["restarts"],
            "cpu": _or_dash(process["cpu_percent"]),
            "memory": "-" if process["memory_mb"] is None else f"{process['memory_mb']} MB",
        }
        for process in processes
    ]
    print_table(_PROCESS_COLUMNS, rows, right=_PROCESS_COLUMNS.keys() - {"name", "state"}, console=console)
    sources = [process for process in processes if "entries" in process]
    if sources:
        console.print()
        rows = [
            {
                "name": source["name"],
                "last_sync": _fetching(source) or _last_sync(source),
                "lag": _duration(source["lag_s"]),
                "entries": _or_dash(source["entries"]),
                "rejected": _or_dash(source["rejected"]),
                "next_sync": _ahead(source["next_sync"]),
                "cycles": draw_cycles(source.get("recent_cycles")),
            }
            for source in sources
        ]
        columns = {**_SOURCE_COLUMNS, **({"cycles": "RECENT CYCLES"} if watching else {})}
        print_table(columns, rows, right=_SOURCE_COLUMNS.keys() - {"name"}, console=console)
    for process in processes:
        if process.get("warning"):
            _print_line(console, f"{process['name']}: {process['warning']}", style="yellow")
        if process.get("problem"):
            _print_line(console, f"{process['name']}: {process['problem']}", style="red")
        for step in next_steps(process, held=0) if watching and process.get("role") == "source" else ():
            console.print(f"  → {step.replace('`', '')}", highlight=False, markup=False)


def draw_cycles(recent: object) -> str:
    """Draw a bar for each of a source's last cycles: the longer it took the higher; a cross where it failed."""
    seconds = list(recent) if isinstance(recent, list) else []
    longest = max((one for one in seconds if isinstance(one, int | float)), default=0) or 1
    return "".join(
        _BARS[min(len(_BARS) - 1, int(one / longest * len(_BARS)))] if isinstance(one, int | float) else "✗"
        for one in seconds
    )


def _describe_state(process: Process) -> str:
    if "only_items" in process:
        return f"{process['state']} ({process['only_items']} items)"
    retry_in_s = process.get("retry_in_s")
    return f"{process['state']} {retry_in_s:.0f}s" if isinstance(retry_in_s, float) else str(process["state"])


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _fetching(source: Process) -> str:
    """Say how far a fetch is, if the source is at it."""
    progress = source.get("progress")
    return f"fetched {progress['fetched']}" if isinstance(progress, dict) and progress.get("fetched") else ""


def _duration(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return "-"
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _last_sync(source: Process) -> str:
    """Say how long ago a source was fetched; another host that fetches it does not tell this one each time."""
    return "-" if str(source["state"]).startswith("STANDBY") else _ago(source["last_success"])


def _ago(moment: object) -> str:
    if not isinstance(moment, str):
        return "never"
    # The clock may have been set back since.
    return f"{_duration(max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))} ago"


def _ahead(moment: object) -> str:
    if not isinstance(moment, str):
        return "-"
    seconds = (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()
    return f"in {_duration(max(0.0, seconds))}"
