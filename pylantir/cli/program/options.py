"""What may be written behind `pylantir`: its commands, their options, and the help that it prints."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from pylantir.cli.program import commands
from pylantir.entry import STATUSES
from pylantir.errors import ExitStatus
from pylantir.programs.arguments import ProgramParser, completion, nearest, read_ae_title, read_port

_DESCRIPTION = """\
Show and check the worklist: what is on it, which source gives it, what happened to it. Another program,
pylantir-supervisor, runs the processes. The configuration file is the one that --config names, else $PYLANTIR_CONFIG,
else ./pylantir.json, else /etc/pylantir/pylantir.json. `pylantir COMMAND --help` explains a command and gives
examples."""

_DAYS = "a day (2026-08-03, today) or a range (2026-08-01..2026-08-31, today..)"

Run = Callable[[argparse.Namespace], int]
Add = Callable[..., argparse.ArgumentParser]


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
    start = add("start", commands.start, "start everything: sources, worklist and server", json=False)
    start.add_argument("--detach", action="store_true", help="run in the background; returns when everything is ready")
    start.add_argument("--AEtitle", metavar="T", dest="ae_title", help="AE title, instead of dicom.ae_title")
    start.add_argument("--ip", metavar="A", dest="host", help="address to listen on, instead of dicom.host")
    start.add_argument("--port", metavar="N", type=read_port, help="port to listen on, instead of dicom.port")


def _add_worklist(add: Add) -> None:
    query = add("query-db", commands.query_db, "show the worklist, and which sources give each item", csv=True)
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

    client = add("test-client", commands.test_client, "ask the server as a scanner does (C-FIND), and show the matches")
    _add_peer(client)
    client.add_argument("--patient", metavar="ID", help="match this patient ID; * and ? are wildcards")
    client.add_argument("--name", metavar="PN", help="match this patient name, as 'DOE^J*'")
    client.add_argument("--date", metavar="DAYS", help=f"match the start date: {_DAYS}")
    client.add_argument("--modality", metavar="M", help="match this modality")
    client.add_argument("--station", metavar="T", help="match this station AE title")
    client.add_argument("--echo", action="store_true", help="only ask whether the server answers (C-ECHO)")

    report = add(
        "test-mpps", commands.test_mpps, "report an exam as a scanner does (MPPS); this changes the item's status"
    )
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
        "--AEtitle",
        metavar="T",
        dest="ae_title",
        type=read_ae_title,
        help="the server's AE title, instead of dicom.ae_title",
    )
    command.add_argument(
        "--calling",
        "--callingAEtitle",
        type=read_ae_title,
        metavar="T",
        help="the scanner's AE title; default: the first of allowed_aet, else PYLANTIR_TEST",
    )


def _add_sources(add: Add) -> None:
    preview = add(
        "preview", commands.preview, "fetch a source once and show what its records would become; nothing is written"
    )
    preview.add_argument("source", metavar="SOURCE", help="the source's name in the configuration")
    preview.add_argument(
        "--limit",
        metavar="N",
        type=_positive,
        help="stop after N records; default: fetch all, and show the first 10 in the table",
    )

    add("plugins", commands.plugins, "list the source types and where each comes from, or why a file has none")
    explain = add("explain", commands.explain, "show why a scanner does or does not get an item")
    explain.add_argument(
        "item", metavar="ITEM", type=_item, nargs="?", help="the item, by the number that query-db shows"
    )
    explain.add_argument(
        "--last",
        metavar="AE",
        nargs="?",
        const=commands.EVERYBODY,
        help="instead of an item: what this scanner asked last, what it got, and why it was refused; "
        "without an AE title: who asked and who was refused",
    )
    explain.add_argument("--calling", metavar="T", help="the scanner's AE title; default: the first of allowed_aet")
    explain.add_argument(
        "--key",
        metavar="K=V",
        action="append",
        help="a key of the query, as PatientName=DOE* or Modality=CT; may be repeated",
    )
    conflicts = add("conflicts", commands.conflicts, "show where the sources differ, and what to do about it", csv=True)
    conflicts.add_argument("--source", metavar="NAME", help="only differences that concern this source")
    rejects = add("rejects", commands.rejects, "show the records that were refused, and why", csv=True)
    rejects.add_argument("--source", metavar="NAME", help="only records of this source")
    rejects.add_argument(
        "--warnings", action="store_true", help="instead: values that were left out or changed in accepted records"
    )
    audit = add("audit", commands.audit, "show who changed what in the worklist, the oldest first", csv=True)
    audit.add_argument("--patient", metavar="ID", help="only changes of this patient's items")
    audit.add_argument("--source", metavar="NAME", help="only what this source changed")
    audit.add_argument("--entry", metavar="ITEM", type=_item, help="only this item, by the number that query-db shows")
    audit.add_argument(
        "--since", metavar="WHEN", help="only from this day or moment on: 2026-08-03, 2026-08-03T14:30, today"
    )
    access = add("access", commands.access, "show who was shown which items, the oldest first", csv=True)
    access.add_argument("--patient", metavar="ID", help="only answers that showed this patient")
    access.add_argument("--scanner", metavar="AE", help="only answers to this scanner or user")
    access.add_argument(
        "--since", metavar="WHEN", help="only from this day or moment on: 2026-08-03, 2026-08-03T14:30, today"
    )


def _add_changes(add: Add) -> None:
    accept = add("accept", commands.accept, "cancel the items of a source whose removal was held back")
    accept.add_argument("source", metavar="SOURCE", help="the source's name, as `status` shows it")
    accept.add_argument("--show", action="store_true", help="only list the held records; changes nothing")
    _add_dry_run(accept)
    forget = add(
        "forget", commands.forget, "cancel the items of a source that is disabled or no longer configured", json=False
    )
    forget.add_argument("source", metavar="SOURCE", help="the source's name, as `status` shows it")
    _add_dry_run(forget)
    host = add("forget-host", commands.forget_host, "forget a host that does not run Pylantir any more", json=False)
    host.add_argument("host", metavar="HOST", help="the host's cluster.host, as `status` shows it")
    _add_dry_run(host)
    status = add(
        "set-status", commands.set_status, "set an item's status by hand, for scanners that do not report", json=False
    )
    status.add_argument("item", metavar="ITEM", type=_item, help="the item, by the number that query-db shows")
    status.add_argument(
        "status", metavar="STATUS", type=_status, choices=STATUSES, help=f"one of {', '.join(STATUSES)}"
    )
    status.add_argument("--reason", metavar="TEXT", required=True, help="why; it goes into the audit log")
    _add_dry_run(status)
    purge = add(
        "purge", commands.purge, "erase a patient, or delete old items that no source gives any more", json=False
    )
    what = purge.add_mutually_exclusive_group()
    what.add_argument(
        "--before", metavar="DAY", help="delete what was scheduled before this day, as 2026-08-03 or today"
    )
    what.add_argument("--patient", metavar="ID", help="erase everything that is known of this patient; needs --reason")
    purge.add_argument(
        "--reason", metavar="TEXT", help="why; it stays in the audit log, so it must not name the patient"
    )
    _add_dry_run(purge)

    copy = add(
        "copy-db", commands.copy_db, "copy the worklist into an empty database, SQLite or PostgreSQL", json=False
    )
    copy.add_argument(
        "--to", metavar="URL", required=True, help="the target: postgresql://… or sqlite:////ABSOLUTE/PATH"
    )


def _add_dry_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dry-run", action="store_true", help="only say what the command would do; changes nothing")


def _add_configuration(add: Add) -> None:
    add("schema", commands.schema, "print the JSON Schema of the configuration file, for editors", json=False)
    init = add("init", commands.init, "write a first configuration", json=False)
    init.add_argument("file", metavar="FILE", nargs="?", help="the file to write; default: pylantir.json")
    told = "an export (CSV, JSON) to propose a configuration for, or an old configuration to convert"
    init.add_argument("--from", metavar="FILE", dest="old", help=told)

    plugin = add("new-plugin", commands.new_plugin, "write a plugin for a source of your own, and its test", json=False)
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
