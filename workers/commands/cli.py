"""`pylantir-supervisor`: start, watch and stop the processes.

Every spawned child imports this module again as its main module, so each command imports what it needs itself.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from pylantir.errors import ConfigurationError, ExitStatus, PylantirError, SocketGone
from pylantir.programs.arguments import ProgramParser, completion, read_port
from pylantir.programs.closed import forbid_inspection, wipe_initial_environment
from pylantir.programs.failure import tell_failure
from pylantir.programs.progress import progress
from pylantir.programs.streams import complete_standard_streams

_ORDER_TIMEOUT_S = 60.0
_DESCRIPTION = """\
Run Pylantir: one process per source, a writer, and a server that gives the scanners their worklist. A process that
crashes is restarted. The configuration file is the one that --config names, else $PYLANTIR_CONFIG, else
./pylantir.json, else /etc/pylantir/pylantir.json. `pylantir-supervisor COMMAND --help` explains a command and gives
examples. Another program, pylantir, shows the worklist itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    complete_standard_streams()
    options = make_parser().parse(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except (PylantirError, OSError) as error:
        status = tell_failure("pylantir-supervisor", error)
        if isinstance(error, ConfigurationError) and command is _start:
            count = len(error.problems)
            print(f"{count} error{'s' if count > 1 else ''}; nothing was started", file=sys.stderr)
        return status
    except KeyboardInterrupt:
        return ExitStatus.FAILURE


def make_parser() -> ProgramParser:
    """Make the parser of all commands."""
    parser = ProgramParser("pylantir-supervisor", description=_DESCRIPTION)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = parser.add_command(name, text)
        command.add_argument(
            "--config", metavar="FILE", help="the configuration file; default: see `pylantir-supervisor --help`"
        )
        command.set_defaults(run=run)
        return command

    start = add("start", _start, "check the configuration, then run everything until Ctrl-C or SIGTERM")
    start.add_argument(
        "--detach", action="store_true", help="run in the background; the command returns when everything is ready"
    )
    start.add_argument("--AEtitle", metavar="T", dest="ae_title", help="AE title, instead of dicom.ae_title")
    start.add_argument("--ip", metavar="A", dest="host", help="address to listen on, instead of dicom.host")
    start.add_argument("--port", metavar="N", type=read_port, help="port to listen on, instead of dicom.port")
    start.add_argument(
        "--log-file", metavar="FILE", help="write the log into this file; it may be moved away at any time"
    )
    status = add("status", _status, "show how processes and sources are doing")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.add_argument(
        "--problems", action="store_true", help="one line per process and source, those with a problem first"
    )
    status.add_argument("--watch", action="store_true", help="show it again every second until Ctrl-C")
    stop = add("stop", _stop, "stop everything, and wait until it has stopped")
    stop.add_argument("--timeout", metavar="S", type=_seconds, default=30.0, help="seconds to wait (default: 30)")
    add("reload", _reload, "read the configuration again, and restart only what changed")
    for name, text, names in (
        ("restart", "restart one process", "writer, mwl-scp, web or a source, as `status` shows it"),
        ("sync", "fetch a source now", "the source's name, as `status` shows it"),
    ):
        command = add(name, _order(name), text)
        command.add_argument("name", metavar="NAME", help=names)
    add("check", _check, "check the configuration and its plugins, without starting anything")
    log = add("log", _log, "show the log, or one process's lines of it")
    log.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="only the lines of this process: supervisor, writer, mwl-scp, web or a source",
    )
    log.add_argument("-f", "--follow", action="store_true", help="go on showing new lines until Ctrl-C")
    unit = add("install-unit", _unit, "print a systemd unit with the paths of this installation")
    unit.add_argument("--print", action="store_true", required=True, help="on stdout; nothing is installed")
    parser.add_completion().set_defaults(run=lambda options: _complete(parser, options))
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f'expected a number of seconds, got "{text}"')
    return seconds


def _status(options: argparse.Namespace) -> int:
    from pylantir.cli.supervisor import find_named
    from workers.commands.status_view import show_status, watch_status

    path = find_named(options.config)
    if options.watch:
        return watch_status(path, problems=options.problems)
    return show_status(path, as_json=options.json, problems=options.problems)


def _stop(options: argparse.Namespace) -> int:
    import signal

    from pylantir.cli.supervisor import ask_instance, find_instance, find_named
    from workers.commands.ending import family, wait_until_gone

    path = find_named(options.config)
    try:
        status = ask_instance(path, {"command": "status"})
        supervisor = find_instance(path)
    except SocketGone as error:
        pids = family(error.pid)
    else:
        processes = cast("list[dict[str, int | None]]", status["processes"])
        pids = [process["pid"] for process in processes if process["pid"]]
        if supervisor and supervisor not in pids[:1]:
            # It counts its processes in a container. What it says is never the process that gets the signal.
            pids = family(supervisor)
    os.kill(pids[0], signal.SIGTERM)
    with progress("waiting until everything has stopped"):
        left = wait_until_gone(pids, options.timeout)
    if left:
        print(f"pylantir-supervisor: still there after {options.timeout:g} s: {left}", file=sys.stderr)
        return ExitStatus.FAILURE
    print("stopped")
    return ExitStatus.OK


def _reload(options: argparse.Namespace) -> int:
    from pylantir.cli.supervisor import ask_instance, find_named

    with progress("reading the configuration again"):
        answer = ask_instance(find_named(options.config), {"command": "reload"}, timeout_s=_ORDER_TIMEOUT_S)
    problems = cast("list[str]", answer["problems"])
    if problems:
        print(*problems, "refused; the configuration before stays in force", sep="\n", file=sys.stderr)
        return ExitStatus.CONFIGURATION
    for warning in cast("list[str]", answer["warnings"]):
        print(f"warning: {warning}", file=sys.stderr)
    changes = [
        f"{what}: {', '.join(cast('list[str]', answer[key]))}"
        for key, what in (("restarted", "restarted"), ("added", "added"), ("removed", "taken out"))
        if answer[key]
    ]
    print("the configuration is in force;", "; ".join(changes) or "nothing has changed")
    return ExitStatus.OK


def _order(command: str) -> Callable[[argparse.Namespace], int]:
    def order(options: argparse.Namespace) -> int:
        from pylantir.cli.supervisor import ask_instance, find_named

        request = {"command": command, "name": options.name}
        with progress(f"waiting for {command} {options.name}"):
            answer = ask_instance(find_named(options.config), request, timeout_s=_ORDER_TIMEOUT_S)
        print(answer["text"])
        return ExitStatus.OK

    return order


def _check(options: argparse.Namespace) -> int:
    from workers.commands.last_run import warnings_of_last_run
    from workers.supervisor.check import check_configuration
    from workers.supervisor.listening import find_host

    path = _find(options.config)
    wipe_initial_environment()
    with progress("checking"):
        checked = check_configuration(path, os.environ, {})
    for warning in checked.settings.warnings if checked.settings else checked.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    problems = list(checked.problems)
    # `start` goes on without such a source; whoever checks before it should hear of it.
    broken = [one for one in checked.settings.enabled_sources if one.plugin.is_broken] if checked.settings else []
    problems += [f"{path.name}: source {one.name}: its plugin {one.plugin.path} cannot be used" for one in broken]
    sections = {"dicom": checked.settings.dicom, "http": checked.settings.http} if checked.settings else {}
    for section, listening in sections.items():
        if listening and (problem := find_host(listening.host, section)):
            problems.append(f"{path.name}: {section}.host: {problem}")
    if problems or checked.settings is None:
        print(*problems, sep="\n", file=sys.stderr)
        return ExitStatus.CONFIGURATION
    for line in warnings_of_last_run(checked.settings):
        print(f"warning: {line}", file=sys.stderr)
    sources = checked.settings.enabled_sources
    print(f"{path}: valid; {len(sources)} source{'' if len(sources) == 1 else 's'} enabled")
    return ExitStatus.OK


def _log(options: argparse.Namespace) -> int:
    from pylantir.cli.supervisor import find_named
    from workers.commands.log_view import show_log

    return show_log(find_named(options.config), options.name, follow=options.follow)


def _unit(options: argparse.Namespace) -> int:
    from workers.commands.unit import make_unit, places_of

    print(make_unit(places_of(options.config, os.environ)), end="")
    return ExitStatus.OK


def _complete(parser: ProgramParser, options: argparse.Namespace) -> int:
    print(completion(parser, options.shell), end="")
    return ExitStatus.OK


def _start(options: argparse.Namespace) -> int:
    from workers.commands.start import start

    path = _find(options.config)
    overrides = {
        name: value
        for name, value in (("ae_title", options.ae_title), ("host", options.host), ("port", options.port))
        if value is not None
    }
    log_path = Path(options.log_file).absolute() if options.log_file else None
    if options.detach:
        from workers.commands.detach import start_detached

        return start_detached(path, overrides, log_path)
    return start(path, overrides, log_path)


def _find(argument: str | None) -> Path:
    from pylantir.config.locate import find_configuration

    return find_configuration(argument, os.environ)


if __name__ == "__main__":
    forbid_inspection()
    sys.exit(main())
