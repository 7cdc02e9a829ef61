"""`pylantir`: shows and checks the data. Starts no process; each command imports the modules that it needs."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pylantir.entry import STATUSES
from pylantir.errors import (
    ConfigurationError,
    ControlError,
    ExitStatus,
    NotRunning,
    PylantirError,
    StoreError,
    WrongUsage,
)
from pylantir.programs.arguments import ProgramParser, completion, nearest, read_port
from pylantir.programs.streams import complete_standard_streams
from pylantir.settings import DicomSettings, Settings

_DESCRIPTION = """\
Show and check the worklist: what is on it, which source gives it, what happened to it. Another program,
pylantir-supervisor, runs the processes. The configuration file is the one that --config names, else $PYLANTIR_CONFIG,
else ./pylantir.json, else /etc/pylantir/pylantir.json. `pylantir COMMAND --help` explains a command and gives
examples."""

_DAYS = "a day (2026-08-03, today) or a range (2026-08-01..2026-08-31, today..)"

Run = Callable[[argparse.Namespace], int]
Add = Callable[..., argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    import logging

    complete_standard_streams()
    options = make_parser().parse(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s")
    command: Run = options.run
    try:
        status = command(options)
        sys.stdout.flush()
        if hasattr(options, "shown"):
            from pylantir.cli.accesses.shown import tell_shown

            tell_shown(options, status)
    except ConfigurationError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return ExitStatus.CONFIGURATION
    except WrongUsage as error:
        print(f"pylantir: {error}", file=sys.stderr)
        return ExitStatus.USAGE
    except NotRunning as error:
        print(f"pylantir: {error}", file=sys.stderr)
        return ExitStatus.NOT_RUNNING
    except ControlError as error:
        print(f"pylantir: {error}", file=sys.stderr)
        return ExitStatus.UNREACHABLE
    except BrokenPipeError:
        # The reader (`head`, say) has closed the pipe; the interpreter's own flush at its end would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.FAILURE
    except (PylantirError, OSError) as error:
        print(f"pylantir: {error}", file=sys.stderr)
        return ExitStatus.FAILURE
    except KeyboardInterrupt:
        return ExitStatus.FAILURE
    return status


def make_parser() -> ProgramParser:
    """Make the parser of all commands."""
    parser = ProgramParser("pylantir", description=_DESCRIPTION)

    def add(name: str, run: Run, text: str, *, json: bool = True, csv: bool = False) -> argparse.ArgumentParser:
        command = parser.add_command(name, text)
        command.add_argument(
            "--config",
            "--pylantir_config",
            metavar="FILE",
            help="the configuration file; default: see `pylantir --help`",
        )
        if json:
            forms = command.add_mutually_exclusive_group()
            forms.add_argument("--json", action="store_true", help="print JSON instead of a table")
        if csv:
            forms.add_argument("--csv", action="store_true", help="print CSV instead: a header, and a line per row")
        command.set_defaults(run=run, command=name)
        return command

    _add_start(add)
    _add_worklist(add)
    _add_sources(add)
    _add_changes(add)
    _add_configuration(add)
    parser.add_completion().set_defaults(run=lambda options: _complete(parser, options))
    return parser


def _complete(parser: ProgramParser, options: argparse.Namespace) -> int:
    print(completion(parser, options.shell), end="")
    return ExitStatus.OK


def _add_start(add: Add) -> None:
    start = add("start", _start, "start everything: sources, worklist and server", json=False)
    start.add_argument("--detach", action="store_true", help="run in the background; returns when everything is ready")
    start.add_argument("--AEtitle", metavar="T", dest="ae_title", help="AE title, instead of dicom.ae_title")
    start.add_argument("--ip", metavar="A", dest="host", help="address to listen on, instead of dicom.host")
    start.add_argument("--port", metavar="N", type=read_port, help="port to listen on, instead of dicom.port")


def _add_worklist(add: Add) -> None:
    query = add("query-db", _query_db, "show the worklist, and which sources give each item", csv=True)
    query.add_argument("--patient", metavar="ID", help="only this patient ID; * and ? are wildcards")
    query.add_argument("--date", metavar="DAYS", help=f"only what is scheduled on {_DAYS}")
    query.add_argument("--source", metavar="NAME", help="only what this source gives")
    query.add_argument(
        "--status",
        metavar="S",
        type=_status,
        action="append",
        help=f"only with this status ({', '.join(STATUSES)}); may be repeated",
    )
    query.add_argument("--modality", metavar="M", help="only this modality; * and ? are wildcards")
    query.add_argument("--all", action="store_true", help="also what no scanner is shown: done, cancelled, past")
    query.add_argument(
        "--mpps", action="store_true", help="show the scanners' reports instead; only --patient selects among them"
    )

    client = add("test-client", _test_client, "ask the server as a scanner does (C-FIND), and show the matches")
    _add_peer(client)
    client.add_argument("--patient", metavar="ID", help="match this patient ID; * and ? are wildcards")
    client.add_argument("--name", metavar="PN", help="match this patient name, as 'DOE^J*'")
    client.add_argument("--date", metavar="DAYS", help=f"match the start date: {_DAYS}")
    client.add_argument("--modality", metavar="M", help="match this modality")
    client.add_argument("--station", metavar="T", help="match this station AE title")
    client.add_argument("--echo", action="store_true", help="only ask whether the server answers (C-ECHO)")

    report = add("test-mpps", _test_mpps, "report an exam as a scanner does (MPPS); this changes the item's status")
    _add_peer(report)
    report.add_argument("--patient", metavar="ID", help="report the exam of this patient ID")
    report.add_argument("--study", metavar="UID", help="report the exam with this study instance UID")
    report.add_argument(
        "--status",
        choices=("COMPLETED", "DISCONTINUED"),
        default="COMPLETED",
        help="how the exam ends; default: COMPLETED",
    )


def _add_peer(command: argparse.ArgumentParser) -> None:
    command.add_argument("--host", "--ip", metavar="A", help="the server's address, instead of dicom.host")
    command.add_argument("--port", metavar="N", type=read_port, help="the server's port, instead of dicom.port")
    command.add_argument(
        "--AEtitle", metavar="T", dest="ae_title", help="the server's AE title, instead of dicom.ae_title"
    )
    command.add_argument(
        "--calling",
        "--callingAEtitle",
        metavar="T",
        help="the scanner's AE title; default: the first of allowed_aet, else PYLANTIR_TEST",
    )


def _add_sources(add: Add) -> None:
    preview = add("preview", _preview, "fetch a source once and show what its records would become; nothing is written")
    preview.add_argument("source", metavar="SOURCE", help="the source's name in the configuration")
    preview.add_argument(
        "--limit",
        metavar="N",
        type=_positive,
        help="stop after N records; default: fetch all, and show the first 10 in the table",
    )

    add("plugins", _plugins, "list the source types and where each comes from, or why a file has none")
    explain = add("explain", _explain, "show why a scanner does or does not get an item")
    explain.add_argument(
        "item", metavar="ITEM", type=_item, nargs="?", help="the item, by the number that query-db shows"
    )
    explain.add_argument("--last", metavar="AE", help="instead of an item: what this scanner asked last, and got")
    explain.add_argument("--calling", metavar="T", help="the scanner's AE title; default: the first of allowed_aet")
    explain.add_argument(
        "--key",
        metavar="K=V",
        action="append",
        help="a key of the query, as PatientName=DOE* or Modality=CT; may be repeated",
    )
    conflicts = add("conflicts", _conflicts, "show where the sources differ, and what to do about it", csv=True)
    conflicts.add_argument("--source", metavar="NAME", help="only differences that concern this source")
    rejects = add("rejects", _rejects, "show the records that were refused, and why", csv=True)
    rejects.add_argument("--source", metavar="NAME", help="only records of this source")
    rejects.add_argument(
        "--warnings", action="store_true", help="instead: values that were left out or changed in accepted records"
    )
    audit = add("audit", _audit, "show who changed what in the worklist, the oldest first", csv=True)
    audit.add_argument("--patient", metavar="ID", help="only changes of this patient's items")
    audit.add_argument("--source", metavar="NAME", help="only what this source changed")
    audit.add_argument("--entry", metavar="ITEM", type=_item, help="only this item, by the number that query-db shows")
    audit.add_argument(
        "--since", metavar="WHEN", help="only from this day or moment on: 2026-08-03, 2026-08-03T14:30, today"
    )
    access = add("access", _access, "show who was shown which items, the oldest first", csv=True)
    access.add_argument("--patient", metavar="ID", help="only answers that showed this patient")
    access.add_argument("--scanner", metavar="AE", help="only answers to this scanner or user")
    access.add_argument(
        "--since", metavar="WHEN", help="only from this day or moment on: 2026-08-03, 2026-08-03T14:30, today"
    )


def _add_changes(add: Add) -> None:
    accept = add("accept", _accept, "cancel the items of a source whose removal was held back")
    accept.add_argument("source", metavar="SOURCE", help="the source's name, as `status` shows it")
    accept.add_argument("--show", action="store_true", help="only list the held records; changes nothing")
    _add_dry_run(accept)
    forget = add("forget", _forget, "cancel the items of a source that is disabled or no longer configured", json=False)
    forget.add_argument("source", metavar="SOURCE", help="the source's name, as `status` shows it")
    _add_dry_run(forget)
    host = add("forget-host", _forget_host, "forget a host that does not run Pylantir any more", json=False)
    host.add_argument("host", metavar="HOST", help="the host's cluster.host, as `status` shows it")
    _add_dry_run(host)
    status = add("set-status", _set_status, "set an item's status by hand, for scanners that do not report", json=False)
    status.add_argument("item", metavar="ITEM", type=_item, help="the item, by the number that query-db shows")
    status.add_argument(
        "status", metavar="STATUS", type=_status, choices=STATUSES, help=f"one of {', '.join(STATUSES)}"
    )
    status.add_argument("--reason", metavar="TEXT", required=True, help="why; it goes into the audit log")
    _add_dry_run(status)
    purge = add("purge", _purge, "erase a patient, or delete old items that no source gives any more", json=False)
    what = purge.add_mutually_exclusive_group()
    what.add_argument(
        "--before", metavar="DAY", help="delete what was scheduled before this day, as 2026-08-03 or today"
    )
    what.add_argument("--patient", metavar="ID", help="erase everything that is known of this patient; needs --reason")
    purge.add_argument(
        "--reason", metavar="TEXT", help="why; it stays in the audit log, so it must not name the patient"
    )
    _add_dry_run(purge)

    copy = add("copy-db", _copy_db, "copy the worklist into an empty database, SQLite or PostgreSQL", json=False)
    copy.add_argument(
        "--to", metavar="URL", required=True, help="the target: postgresql://… or sqlite:////ABSOLUTE/PATH"
    )


def _add_dry_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dry-run", action="store_true", help="only say what the command would do; changes nothing")


def _add_configuration(add: Add) -> None:
    add("schema", _schema, "print the JSON Schema of the configuration file, for editors", json=False)
    init = add("init", _init, "write a first configuration", json=False)
    init.add_argument("file", metavar="FILE", nargs="?", help="the file to write; default: pylantir.json")
    told = "an export (CSV, JSON) to propose a configuration for, or an old configuration to convert"
    init.add_argument("--from", metavar="FILE", dest="old", help=told)

    plugin = add("new-plugin", _new_plugin, "write a plugin for a source of your own, and its test", json=False)
    plugin.add_argument("name", metavar="NAME", help="the name of the source type, and of the file without .py")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a number of at least 1, got "{text}"')
    return int(text)


def _item(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) < 2**63:
        raise argparse.ArgumentTypeError(f'expected the number of an item, as query-db shows it, got "{text}"')
    return int(text)


def _status(text: str) -> str:
    status = text.upper()
    if status in STATUSES:
        return status
    near = nearest(status, STATUSES)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(STATUSES)}"
    raise argparse.ArgumentTypeError(f'no status "{text}": {hint}')


def _start(options: argparse.Namespace) -> int:
    from pylantir.cli.supervisor import become_supervisor

    become_supervisor(options)


def _accept(options: argparse.Namespace) -> int:
    if options.show:
        from pylantir.cli.records import show_held

        return show_held(_load(options), options)
    return _change(options, {"command": "accept", "name": options.source, "dry_run": options.dry_run})


def _forget(options: argparse.Namespace) -> int:
    from pylantir.cli.database import check_source, reading

    # What cannot be read here is no reason to refuse: the writer decides.
    with contextlib.suppress(ConfigurationError, StoreError):
        settings = _load(options)
        with reading(settings) as connection:
            check_source(options.source, settings.config_path, connection)
    return _change(options, {"command": "forget", "name": options.source, "dry_run": options.dry_run})


def _forget_host(options: argparse.Namespace) -> int:
    return _change(options, {"command": "forget-host", "name": options.host, "dry_run": options.dry_run})


def _set_status(options: argparse.Namespace) -> int:
    arguments = {"item": options.item, "status": options.status, "reason": options.reason, "dry_run": options.dry_run}
    return _change(options, {"command": "set-status", **arguments})


def _purge(options: argparse.Namespace) -> int:
    import datetime

    from pylantir.cli.periods import read_day
    from pylantir.config.locate import user_name

    if options.patient is None and options.before is None:
        raise WrongUsage("purge needs --before DAY or --patient ID")
    if options.patient is not None:
        if not options.patient.strip() or not (options.reason or "").strip():
            raise WrongUsage("purge --patient needs an ID and a --reason, which stays in the audit log")
        erasure = {"patient": options.patient, "reason": options.reason, "by": user_name(os.geteuid())}
        return _change(options, {"command": "purge", **erasure, "dry_run": options.dry_run})
    today = datetime.datetime.now().astimezone().date()
    day = read_day(options.before, today)
    return _change(options, {"command": "purge", "before": day, "dry_run": options.dry_run})


def _copy_db(options: argparse.Namespace) -> int:
    from pylantir.cli.copy_db import copy_worklist

    return copy_worklist(_load(options), options)


def _change(options: argparse.Namespace, request: dict[str, object]) -> int:
    from pylantir.cli.supervisor import change_data

    return change_data(options, request)


def _query_db(options: argparse.Namespace) -> int:
    from pylantir.cli.mpps import show_reported
    from pylantir.cli.query_db import show_worklist

    return (show_reported if options.mpps else show_worklist)(_load(options), options)


def _test_client(options: argparse.Namespace) -> int:
    from pylantir.cli.client import ask_server

    return ask_server(_peer_settings(options), options)


def _test_mpps(options: argparse.Namespace) -> int:
    from pylantir.cli.mpps import report_to_server

    return report_to_server(_peer_settings(options), options)


def _peer_settings(options: argparse.Namespace) -> DicomSettings:
    """Return the configured server; no configuration is needed if the options give the address and the titles."""
    try:
        return _load(options).dicom
    except ConfigurationError:
        if options.config or options.host is None or options.port is None:
            raise
        return DicomSettings()


def _preview(options: argparse.Namespace) -> int:
    from pylantir.cli.preview import preview_source

    return preview_source(_load(options, with_sources=True), options)


def _plugins(options: argparse.Namespace) -> int:
    from pylantir.cli.describe import show_plugins

    return show_plugins(_load(options), options)


def _explain(options: argparse.Namespace) -> int:
    if (options.item is None) == (options.last is None):
        raise WrongUsage("explain takes an ITEM, or --last AE")
    if options.last is not None:
        from pylantir.cli.explaining.last import explain_last

        return explain_last(_load(options), options)
    from pylantir.cli.explaining.item import explain

    return explain(_load(options), options)


def _conflicts(options: argparse.Namespace) -> int:
    from pylantir.cli.conflicts import show_conflicts

    return show_conflicts(_load(options), options)


def _rejects(options: argparse.Namespace) -> int:
    from pylantir.cli.records import show_rejects, show_warnings

    return (show_warnings if options.warnings else show_rejects)(_load(options), options)


def _audit(options: argparse.Namespace) -> int:
    from pylantir.cli.records import show_audit

    return show_audit(_load(options), options)


def _access(options: argparse.Namespace) -> int:
    from pylantir.cli.accesses.listing import show_accesses

    return show_accesses(_load(options), options)


def _schema(options: argparse.Namespace) -> int:
    from pylantir.cli.describe import show_schema

    return show_schema()


def _init(options: argparse.Namespace) -> int:
    from pylantir.cli.starters.init import write_configuration

    return write_configuration(options)


def _new_plugin(options: argparse.Namespace) -> int:
    from pylantir.cli.starters.new_plugin import write_plugin

    return write_plugin(options)


def _load(options: argparse.Namespace, *, with_sources: bool = False) -> Settings:
    """Read the configuration; by default without the sources, whose variables this shell may not have."""
    from pylantir.config.loading import load_settings
    from pylantir.config.locate import find_configuration
    from pylantir.data_sources.registry import discover

    path: Path = find_configuration(options.config, os.environ)
    return load_settings(path, discover=discover, environ=os.environ, with_sources=with_sources)


if __name__ == "__main__":
    sys.exit(main())
