"""`status` for people and for scripts: a table, or one JSON object. Lives in the command."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pylantir.cli.supervisor import ask_instance
from pylantir.errors import ControlError, ExitStatus, NotRunning
from pylantir.ipc.frames import Frame

_WATCH_EVERY_S = 1.0


def show_status(config_path: Path, *, as_json: bool) -> int:
    """Print the status once; the exit status says whether all is well."""
    status = ask_instance(config_path, {"command": "status"})
    if as_json:
        print(json.dumps(status, indent=2, ensure_ascii=False))
    else:
        _print_tables(Console(), status)
    return ExitStatus.OK if status["health"] == "healthy" else ExitStatus.FAILURE


def watch_status(config_path: Path) -> int:
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
            _print_tables(console, status)
            time.sleep(_WATCH_EVERY_S)
    except KeyboardInterrupt:
        return ExitStatus.OK


def _print_tables(console: Console, status: Frame) -> None:
    processes: list[dict[str, object]] = status["processes"]  # type: ignore[assignment]
    console.print(f"Pylantir is [bold]{status['health']}[/bold]  ({status['config']})", highlight=False)
    table = Table(box=None, header_style="bold")
    for heading in ("PROCESS", "STATE", "PID", "UPTIME", "RESTARTS", "CPU %", "MEMORY"):
        table.add_column(heading, justify="left" if heading in {"PROCESS", "STATE"} else "right", no_wrap=True)
    for process in processes:
        table.add_row(
            str(process["name"]),
            _describe_state(process),
            _or_dash(process["pid"]),
            _duration(process["uptime_s"]),
            str(process["restarts"]),
            _or_dash(process["cpu_percent"]),
            "-" if process["memory_mb"] is None else f"{process['memory_mb']} MB",
        )
    console.print(table)
    sources = [process for process in processes if "entries" in process]
    if sources:
        console.print()
        table = Table(box=None, header_style="bold")
        for heading in ("SOURCE", "LAST SYNC", "LAG", "ENTRIES", "REJECTED", "NEXT SYNC"):
            table.add_column(heading, justify="left" if heading == "SOURCE" else "right", no_wrap=True)
        for source in sources:
            table.add_row(
                str(source["name"]),
                _ago(source["last_success"]),
                _duration(source["lag_s"]),
                _or_dash(source["entries"]),
                _or_dash(source["rejected"]),
                _ahead(source["next_sync"]),
            )
        console.print(table)
    for process in processes:
        if process.get("warning"):
            console.print(f"{process['name']}: {process['warning']}", style="yellow", highlight=False, markup=False)
        if process.get("last_error"):
            console.print(f"{process['name']}: {process['last_error']}", style="red", highlight=False, markup=False)


def _describe_state(process: dict[str, object]) -> str:
    if "only_items" in process:
        return f"{process['state']} ({process['only_items']} items)"
    retry_in_s = process.get("retry_in_s")
    return f"{process['state']} {retry_in_s:.0f}s" if isinstance(retry_in_s, float) else str(process["state"])


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _duration(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return "-"
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _ago(moment: object) -> str:
    if not isinstance(moment, str):
        return "never"
    return f"{_duration((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())} ago"


def _ahead(moment: object) -> str:
    if not isinstance(moment, str):
        return "-"
    seconds = (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()
    return f"in {_duration(max(0.0, seconds))}"
