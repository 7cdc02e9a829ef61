"""What `--help` teaches about each command of both programs: what it is for, and examples.

Imported by every command, so it imports nothing that is slow. A test reads each example with the command's own parser.
"""

from __future__ import annotations

from typing import NamedTuple


class Lesson(NamedTuple):
    """What a command's `--help` says besides its options.

    Attributes:
        about: Sentences that follow the first line: what the command does, and what it leaves alone.
        examples: Command line -> what somebody learns or reaches with it.
    """

    about: str
    examples: dict[str, str]


LESSONS = {
    "pylantir-supervisor": Lesson(
        "exit status: 0 done (status: healthy), 1 failed (status: starting or degraded), 2 wrong options, 3 not"
        " running, 4 running but not answering, 73 already running, 78 invalid configuration",
        {
            "pylantir-supervisor check": "is my configuration right?",
            "pylantir-supervisor start": "run in this terminal, stop with Ctrl-C",
            "pylantir-supervisor start --detach": "run in the background",
            "pylantir-supervisor status --watch": "what is every process doing?",
            "pylantir-supervisor sync clinic_csv": "fetch now instead of waiting",
            "pylantir-supervisor log -f": "follow the log",
        },
    ),
    "pylantir": Lesson(
        "exit status: 0 done, 1 failed, 2 wrong options, 3 not running, 4 running but not answering, 78 invalid"
        " configuration",
        {
            "pylantir init": "write a first configuration",
            "pylantir preview clinic_csv": "what would this source's records become?",
            "pylantir start": "start everything",
            "pylantir query-db --date today": "what is on the worklist, and who says so?",
            "pylantir test-client": "what does a scanner see?",
            "pylantir rejects": "which records were refused, and why?",
            "pylantir explain 12": "why does item 12 not appear?",
            "pylantir audit --patient SUB001": "what happened to this patient's items?",
        },
    ),
    "pylantir-supervisor start": Lesson(
        "It starts the writer, the server for the scanners and one process per source, and restarts each that"
        " crashes. If the configuration has an error, all errors are printed, nothing is started, and the exit status"
        " is 78.",
        {
            "pylantir-supervisor start": "in this terminal; Ctrl-C stops it",
            "pylantir-supervisor start --detach": "in the background; the answer names the log file",
            "pylantir-supervisor start --port 11112": "on another port than dicom.port",
        },
    ),
    "pylantir-supervisor status": Lesson(
        "The first table has a line per process, the second one a line per source. Below them stand the problems, if"
        " there are any, and what to do. The exit status is 0 if everything is healthy, 1 while it starts or something"
        " is wrong, 3 if nothing runs.",
        {
            "pylantir-supervisor status": "is everything all right?",
            "pylantir-supervisor status --problems": "many sources: what is wrong comes first",
            "pylantir-supervisor status --watch": "look at it every second; Ctrl-C ends",
        },
    ),
    "pylantir-supervisor stop": Lesson(
        "Sources and server end first; the writer stores what it has received and ends last. The worklist stays in"
        " the database.",
        {
            "pylantir-supervisor stop": "stop, and wait until it has stopped",
            "pylantir-supervisor stop --timeout 120": "wait up to two minutes",
        },
    ),
    "pylantir-supervisor reload": Lesson(
        "The command prints which processes were restarted, added and taken out. A configuration with errors is"
        " refused, and everything goes on with the one before.",
        {
            "pylantir-supervisor check": "first: is the changed file right?",
            "pylantir-supervisor reload": "then: use it",
        },
    ),
    "pylantir-supervisor restart": Lesson(
        "The other processes go on. Nothing that was stored is lost. `reload` restarts what a changed configuration"
        " concerns; you seldom need this command.",
        {
            "pylantir-supervisor restart mwl-scp": "restart the server for the scanners",
            "pylantir-supervisor restart clinic_csv": "restart the process of the source clinic_csv",
        },
    ),
    "pylantir-supervisor sync": Lesson(
        "The source does not wait for its next time. `status` shows what the fetch brought.",
        {"pylantir-supervisor sync clinic_csv": "fetch the source clinic_csv now"},
    ),
    "pylantir-supervisor check": Lesson(
        "The command prints every error and every warning with its place in the file. It touches neither the database"
        " nor the port. The exit status is 0 if the configuration can be used, else 78.",
        {
            "pylantir-supervisor check": "is my configuration right?",
            "pylantir-supervisor check --config new.json": "is this file right?",
        },
    ),
    "pylantir-supervisor log": Lesson(
        "The command prints the log file of the instance, if it has one. A log that goes to a terminal or to the"
        " journal cannot be shown here; then the command says so.",
        {
            "pylantir-supervisor log -f": "follow the log; Ctrl-C ends",
            "pylantir-supervisor log mwl-scp": "what did the scanners ask?",
            "pylantir-supervisor log clinic_csv": "what did the source clinic_csv do?",
        },
    ),
    "pylantir-supervisor install-unit": Lesson(
        "Nothing is installed: write the output into a file, put it into /etc/systemd/system, and enable it as root.",
        {
            "pylantir-supervisor install-unit --print": "look at the unit",
            "pylantir-supervisor install-unit --print > pylantir.service": "write it into a file",
        },
    ),
    "pylantir-supervisor completion": Lesson(
        "The shell then completes commands, options and file names when you press Tab.",
        {
            "source <(pylantir-supervisor completion bash)": "bash: for this shell, or in ~/.bashrc",
            "pylantir-supervisor completion fish | source": "fish",
        },
    ),
    "pylantir start": Lesson(
        "The same as `pylantir-supervisor start`, with the options of earlier versions.",
        {
            "pylantir start": "in this terminal; Ctrl-C stops it",
            "pylantir start --AEtitle MWL --port 4242": "with options of earlier versions",
        },
    ),
    "pylantir query-db": Lesson(
        "Without options it shows what a scanner may be shown, in the scanner's order. Several conditions narrow the"
        " list together.",
        {
            "pylantir query-db --date today": "who comes today?",
            "pylantir query-db --patient 'P1*' --all": "also what is done or past",
            "pylantir query-db --source clinic_csv": "what does this source give?",
            "pylantir query-db --mpps": "what have the scanners reported?",
            "pylantir query-db --csv > worklist.csv": "for a spreadsheet",
        },
    ),
    "pylantir test-client": Lesson(
        "The command asks the running server over the network. Without conditions it asks for everything. The exit"
        " status is 0 if the server answers, with matches or without.",
        {
            "pylantir test-client --echo": "does the server answer?",
            "pylantir test-client --calling MRI_1": "what would MRI_1 see?",
            "pylantir test-client --modality MR": "ask with a filter",
            "pylantir test-client --host 10.1.2.3 --port 104": "ask another machine",
        },
    ),
    "pylantir test-mpps": Lesson(
        "The command finds one open item, reports the beginning and the end of its exam, and reads the report back."
        " Use a test patient: the item is done afterwards.",
        {
            "pylantir test-mpps --patient TEST-1": "the exam of TEST-1 is done",
            "pylantir test-mpps --patient TEST-1 --status DISCONTINUED": "the exam was broken off",
        },
    ),
    "pylantir preview": Lesson(
        "Each field of a record stands beside the worklist field that it becomes; below are the records that would be"
        " refused, each with the reason. The exit status is 1 if the source cannot be fetched.",
        {
            "pylantir preview clinic_csv --limit 1": "one record, to check the mapping",
            "pylantir preview clinic_csv --json": "everything, for a script",
        },
    ),
    "pylantir plugins": Lesson(
        "Pylantir looks into `plugin_dirs` and at installed packages. It runs no plugin.",
        {"pylantir plugins": "was my plugin file found? If not, why?"},
    ),
    "pylantir explain": Lesson(
        "One sentence says whether the item appears, and if not, what is in the way. The exit status is 0 if it"
        " appears, else 1.",
        {
            "pylantir explain 12 --calling MRI_1": "does the scanner MRI_1 get item 12?",
            "pylantir explain 12 --key Modality=CT": "… if it asks for CT?",
            "pylantir explain --last MRI_1": "what has MRI_1 asked last, and got? Why was it refused?",
            "pylantir explain --last": "which scanners have asked, and which were refused?",
        },
    ),
    "pylantir conflicts": Lesson(
        "The list has fields in which sources differ, bookings that were kept apart, wishes about exams that are"
        " done, and removals that are held back. An entry goes when the difference is gone.",
        {
            "pylantir conflicts": "is there anything to decide?",
            "pylantir conflicts --source clinic_csv": "where does this source differ from the others?",
        },
    ),
    "pylantir rejects": Lesson(
        "Each line has the source, the record, the field and the reason. A record leaves the list when it is"
        " corrected in its source, or gone from it.",
        {
            "pylantir rejects --source clinic_csv": "which records of this source are not on the worklist?",
            "pylantir rejects --warnings": "which values are missing although the record is there?",
        },
    ),
    "pylantir audit": Lesson(
        "Changes are made by sources, scanners and operators' commands. Each line has the moment, who made the"
        " change, and what changed from what to what.",
        {
            "pylantir audit --patient SUB001": "what happened to this patient's items?",
            "pylantir audit --entry 12": "what happened to item 12?",
            "pylantir audit --since today --json": "today's changes, for a script",
        },
    ),
    "pylantir access": Lesson(
        "Answers to scanners, web pages and commands that show patients are recorded, unless the configuration turns"
        " that off (`access.log`).",
        {
            "pylantir access --patient SUB001": "who was shown this patient?",
            "pylantir access --scanner MRI_1 --since today": "what was MRI_1 shown today?",
        },
    ),
    "pylantir accept": Lesson(
        "When a fetch lacks unusually many records, Pylantir does not cancel them at once. This command says that"
        " they are cancelled indeed. It covers exactly the records that are held now.",
        {
            "pylantir accept clinic_csv --show": "first: which records are held?",
            "pylantir accept clinic_csv": "then: cancel them",
        },
    ),
    "pylantir forget": Lesson(
        "Pylantir keeps the items of a source that you disable or take out of the configuration. This command cancels"
        " them, unless another source gives them or a scanner has reported on them.",
        {
            "pylantir forget old_csv --dry-run": "how many items would go?",
            "pylantir forget old_csv": "cancel them",
        },
    ),
    "pylantir forget-host": Lesson(
        "For several hosts on one PostgreSQL database: what that host's configuration says about sources no longer"
        " counts. Refused while the host runs.",
        {
            "pylantir forget-host north --dry-run": "what would change?",
            "pylantir forget-host north": "the host north is gone for good",
        },
    ),
    "pylantir set-status": Lesson(
        "From then on no source changes the item; SCHEDULED gives it back to its sources. The exit status is 0 only"
        " if the item has the status afterwards.",
        {
            "pylantir set-status 12 COMPLETED --reason 'no MPPS'": "the exam was done",
            "pylantir set-status 12 CANCELED --reason 'called off'": "the scanner shows it no more",
            "pylantir set-status 12 SCHEDULED --reason 'a mistake'": "the item is open again",
        },
    ),
    "pylantir purge": Lesson(
        "With --patient, everything that is known of a patient is erased; a line of the audit log remains that does"
        " not name the patient. With --before, old items go that no source gives any more. Neither can be undone.",
        {
            "pylantir purge --patient SUB001 --reason 'request 17' --dry-run": "what would go?",
            "pylantir purge --patient SUB001 --reason 'request 17'": "erase this patient",
            "pylantir purge --before 2026-01-01 --dry-run": "how many old items would go?",
        },
    ),
    "pylantir copy-db": Lesson(
        "The command copies every table and compares counts and checksums. The target has to be empty or absent. Stop"
        " the supervisor first: what it stores meanwhile is not copied.",
        {
            "pylantir copy-db --to postgresql://user:password@db/worklist": "move to PostgreSQL",
            "pylantir copy-db --to sqlite:////var/lib/pylantir/copy.db": "… and back, or a copy",
        },
    ),
    "pylantir schema": Lesson(
        "An editor that knows the schema completes the keys and marks errors while you write.",
        {"pylantir schema > pylantir.schema.json": 'name it under "$schema" in the configuration'},
    ),
    "pylantir init": Lesson(
        "With --from it reads an export of your bookings and proposes how its columns become worklist fields, or"
        " converts an old configuration. It overwrites nothing.",
        {
            "pylantir init": "with two made-up bookings, to try it",
            "pylantir init --from export.csv": "for your own bookings",
            "pylantir init new.json --from old.json": "convert a configuration",
        },
    ),
    "pylantir new-plugin": Lesson(
        "The command writes plugins/NAME.py and plugins/tests/test_NAME.py beside the configuration. Both work;"
        " change them step by step. It overwrites nothing.",
        {
            "pylantir new-plugin ward_list": "a source of the type ward_list",
            "pylantir preview my_ward_list": "then: what does it give?",
        },
    ),
    "pylantir completion": Lesson(
        "The shell then completes commands, options and file names when you press Tab.",
        {
            "source <(pylantir completion bash)": "bash: for this shell, or in ~/.bashrc",
            "pylantir completion fish | source": "fish",
        },
    ),
}
"""Program, or program and command -> its lesson. A program's `about` stands at the end of its help."""
