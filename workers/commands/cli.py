"""`pylantir-supervisor`: start, watch and stop the processes.

Every spawned child imports this module again as its main module: what a command needs, the command itself imports.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from pylantir.errors import (
    AlreadyRunning,
    ConfigurationError,
    ControlError,
    ExitStatus,
    NotRunning,
    PylantirError,
    SocketGone,
)
from pylantir.streams import complete_standard_streams

_ORDER_TIMEOUT_S = 60.0
_DESCRIPTION = """\
Serve a DICOM modality worklist from the sources of a configuration file: one process per source, one writer, one
server, restarted when they crash. The file is the one named by --config, else $PYLANTIR_CONFIG, else
./pylantir.json, else /etc/pylantir/pylantir.json."""

_EPILOG = """\
exit status: 0 done (status: healthy), 1 failed (status: starting or degraded), 3 not running, 4 running but not
answering, 73 already running, 78 invalid configuration

examples:
  pylantir-supervisor check                  is my configuration right?
  pylantir-supervisor start                  run in the foreground, stop with Ctrl-C
  pylantir-supervisor start --detach         run in the background
  pylantir-supervisor status --watch         what is everybody doing?
  pylantir-supervisor sync site_b_csv        fetch now instead of waiting"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    complete_standard_streams()
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except ConfigurationError as error:
        count = len(error.problems)
        print(*error.problems, sep="\n", file=sys.stderr)
        print(f"{count} error{'s' if count > 1 else ''}; nothing was started", file=sys.stderr)
        return ExitStatus.CONFIGURATION
    except AlreadyRunning as error:
        print(f"pylantir-supervisor: {error}", file=sys.stderr)
        return ExitStatus.LOCKED
    except NotRunning:
        print("pylantir-supervisor: not running with this configuration", file=sys.stderr)
        return ExitStatus.NOT_RUNNING
    except ControlError as error:
        print(f"pylantir-supervisor: {error}", file=sys.stderr)
        return ExitStatus.UNREACHABLE
    except (PylantirError, OSError) as error:
        print(f"pylantir-supervisor: {error}", file=sys.stderr)
        return ExitStatus.FAILURE
    except KeyboardInterrupt:
        return ExitStatus.FAILURE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pylantir-supervisor",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument("--config", metavar="FILE", help="the configuration file")
        command.set_defaults(run=run)
        return command

    start = add("start", _start, "validate the configuration, then run everything until SIGTERM or Ctrl-C")
    start.add_argument("--detach", action="store_true", help="run in the background; returns when everything is ready")
    start.add_argument("--AEtitle", metavar="T", dest="ae_title", help="AE title, instead of dicom.ae_title")
    start.add_argument("--ip", metavar="A", dest="host", help="address to listen on, instead of dicom.host")
    start.add_argument("--port", metavar="N", type=int, help="port to listen on, instead of dicom.port")
    status = add("status", _status, "show processes and sources")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.add_argument("--watch", action="store_true", help="show it again every second until Ctrl-C")
    stop = add("stop", _stop, "stop everything, and wait until it is gone")
    stop.add_argument("--timeout", metavar="S", type=float, default=30.0, help="seconds to wait (default: 30)")
    add("reload", _reload, "read the configuration again and restart only what changed")
    for name, text in (
        ("restart", "restart one process"),
        ("sync", "let a source fetch now"),
    ):
        command = add(name, _order(name), text)
        command.add_argument("name", metavar="NAME", help="writer, mwl-scp, web or a source, as `status` shows it")
    add("check", _check, "validate the configuration, plugins included, without touching database or port")
    return parser


def _start(options: argparse.Namespace) -> int:
    path = _find(options.config)
    overrides = {
        name: value
        for name, value in (("ae_title", options.ae_title), ("host", options.host), ("port", options.port))
        if value is not None
    }
    if options.detach:
        from workers.commands.detach import start_detached

        return start_detached(path, overrides)
    import gc
    import signal

    # Of what is imported here nothing is garbage.
    gc.disable()
    # One that comes while the modules are loaded waits for its handler, instead of ending us with another status.
    asking = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, asking)
    # Before setproctitle is first imported: it would overwrite the environment as /proc shows it.
    os.environ.setdefault("SPT_NOENV", "1")
    from workers.child.bootstrap import set_names
    from workers.supervisor.configuration import ConfigurationCheck, wait_for_settings
    from workers.supervisor.signals import Signals

    signals = Signals()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, asking)
    set_names("supervisor")
    check = ConfigurationCheck(path, overrides)
    # Loaded while the child checks: a scanner is waiting.
    from workers.supervisor.instance import supervise

    gc.freeze()
    gc.enable()
    settings = wait_for_settings(check, signals)
    if settings is None:
        return ExitStatus.OK
    return supervise(settings, overrides, signals)


def _status(options: argparse.Namespace) -> int:
    from pylantir.cli.supervisor import find_named
    from workers.commands.status_view import show_status, watch_status

    path = find_named(options.config)
    if options.watch:
        return watch_status(path)
    return show_status(path, as_json=options.json)


def _stop(options: argparse.Namespace) -> int:
    import signal

    from pylantir.cli.supervisor import ask_instance, find_named
    from workers.commands.ending import family, wait_until_gone

    try:
        status = ask_instance(find_named(options.config), {"command": "status"})
    except SocketGone as error:
        pids = family(error.pid)
    else:
        processes = cast("list[dict[str, int | None]]", status["processes"])
        pids = [process["pid"] for process in processes if process["pid"]]
    os.kill(pids[0], signal.SIGTERM)
    left = wait_until_gone(pids, options.timeout)
    if left:
        print(f"pylantir-supervisor: still there after {options.timeout:g} s: {left}", file=sys.stderr)
        return ExitStatus.FAILURE
    print("stopped")
    return ExitStatus.OK


def _reload(options: argparse.Namespace) -> int:
    from pylantir.cli.supervisor import ask_instance, find_named

    answer = ask_instance(find_named(options.config), {"command": "reload"}, timeout_s=_ORDER_TIMEOUT_S)
    problems = cast("list[str]", answer["problems"])
    if problems:
        print(*problems, "refused; the configuration before stays in force", sep="\n", file=sys.stderr)
        return ExitStatus.CONFIGURATION
    print("the configuration is in force")
    return ExitStatus.OK


def _order(command: str) -> Callable[[argparse.Namespace], int]:
    def order(options: argparse.Namespace) -> int:
        from pylantir.cli.supervisor import ask_instance, find_named

        request = {"command": command, "name": options.name}
        print(ask_instance(find_named(options.config), request, timeout_s=_ORDER_TIMEOUT_S)["text"])
        return ExitStatus.OK

    return order


def _check(options: argparse.Namespace) -> int:
    from workers.commands.last_run import warnings_of_last_run
    from workers.supervisor.check import check_configuration

    path = _find(options.config)
    checked = check_configuration(path, os.environ, {})
    if checked.settings is None:
        print(*checked.problems, sep="\n", file=sys.stderr)
        return ExitStatus.CONFIGURATION
    for warning in checked.settings.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for line in warnings_of_last_run(checked.settings):
        print(f"warning: {line}", file=sys.stderr)
    sources = checked.settings.enabled_sources
    print(f"{path}: valid; {len(sources)} source{'' if len(sources) == 1 else 's'} enabled")
    return ExitStatus.OK


def _find(argument: str | None) -> Path:
    from pylantir.config.locate import find_configuration

    return find_configuration(argument, os.environ)


if __name__ == "__main__":
    sys.exit(main())
