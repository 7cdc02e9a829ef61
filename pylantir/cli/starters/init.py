"""`pylantir init`: writes a starter configuration, converts an old one, or proposes one for an export."""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import json
import os
import shlex
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

from pylantir.cli.output import print_table
from pylantir.cli.starters.files import refuse_existing, write_new
from pylantir.config.document import read_document
from pylantir.config.environment import complete_environment
from pylantir.config.locate import resolve_path
from pylantir.config.sections import legacy
from pylantir.config.sections.sources import PROCESS_NAMES
from pylantir.config.sections.turned import turn_sources
from pylantir.errors import ConfigurationError, ExitStatus, PylantirError
from pylantir.printing import printable

DEFAULT_FILE = "pylantir.json"
SAMPLE_FILE = "bookings.csv"
_KEYS_OF_CONFIGURATIONS = ("redcap2wl", "data_sources")
_LARGEST_CONFIGURATION = 8 << 20
_PATHS = ("db_path", "runtime_dir")
_PATHS_OF_SOURCES = {"file_path", "query_file", "ca_bundle"}


def write_configuration(options: argparse.Namespace) -> int:
    """Write a starter configuration with sample data, convert an old configuration, or propose one for an export.

    Raises:
        PylantirError: A file of that name exists already; Pylantir overwrites nothing.
    """
    target = options.file or options.config
    if options.old:
        old = Path(options.old)
        return (_convert if is_configuration(old) else _propose)(old, Path(target or DEFAULT_FILE))
    path = Path(target or DEFAULT_FILE)
    sample = path.with_name(SAMPLE_FILE)
    refuse_existing(path, sample)
    write_new(path, _as_text(starter_configuration()))
    write_new(sample, sample_bookings(datetime.date.today()))  # noqa: DTZ011 - the operator's day
    named = "" if target is None else f" --config {path}"
    print(f"written: {path}, {sample}\nnext: pylantir-supervisor start{named}, then pylantir query-db{named}")
    return ExitStatus.OK


def starter_configuration() -> dict[str, object]:
    """Return a configuration that serves the sample bookings on this machine; its comments say what to change."""
    return {
        "_comment": "Keys that start with _ are comments. Relative paths start from this file's folder.",
        "db_path": "worklist.db",
        "dicom": {
            "_comment": "127.0.0.1 is this machine alone; 0.0.0.0 lets scanners in. 104 is the usual port.",
            "ae_title": "PYLANTIR",
            "host": "127.0.0.1",
            "port": 4242,
        },
        "_allowed_aet": 'AE titles of your scanners, as ["MRI_1", "MRI_2"]; an empty list serves everybody.',
        "allowed_aet": [],
        "mwl": {"_comment": "Undone items are shown until the day after theirs.", "expire_after_days": 1},
        "data_sources": [
            {
                "_comment": "Put your own file here, with its columns on the left of field_mapping.",
                "name": "bookings",
                "type": "csv",
                "sync_interval": 60,
                "config": {"file_path": SAMPLE_FILE, "watch_for_changes": True},
                "field_mapping": {
                    "booking": "source_record_id",
                    "patient": "patient_id",
                    "name": "patient_name",
                    "born": "patient_birth_date",
                    "sex": "patient_sex",
                    "date": "scheduled_start_date",
                    "time": "scheduled_start_time",
                    "exam": "procedure_description",
                },
                "defaults": {"modality": "MR"},
            }
        ],
    }


def sample_bookings(today: datetime.date) -> str:
    """Write a CSV with two bookings whose names nobody can mistake for real patients."""
    tomorrow = today + datetime.timedelta(days=1)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [
            ("booking", "patient", "name", "born", "sex", "date", "time", "exam"),
            ("1", "EXAMPLE-1", "EXAMPLE^FIRST", "1980-01-31", "F", today, "09:30", "Head"),
            ("2", "EXAMPLE-2", "EXAMPLE^SECOND", "1975-12-01", "M", tomorrow, "14:00", "Knee"),
        ]
    )
    return text.getvalue()


def is_configuration(path: Path) -> bool:
    """Say whether a file is a configuration, old or new, rather than an export of bookings."""
    if not path.is_file():
        return False
    try:
        text = "" if path.stat().st_size > _LARGEST_CONFIGURATION else path.read_text(encoding="utf-8-sig")
        document = json.loads(text)
    except (OSError, UnicodeDecodeError, RecursionError):
        return False
    except ValueError:
        # A configuration with a syntax error is reported as one, rather than treated as an export.
        return any(f'"{key}"' in text for key in _KEYS_OF_CONFIGURATIONS)
    return isinstance(document, dict) and any(key in document for key in _KEYS_OF_CONFIGURATIONS)


def _propose(data: Path, path: Path) -> int:
    """Write a configuration for an export, and print how each column was understood."""
    from pylantir.cli.proposal.propose import propose
    from pylantir.cli.proposal.sample import read_sample

    refuse_existing(path)
    sample = read_sample(data)
    proposal = propose(sample)
    notes = [*sample.notes, *proposal.unknown]
    zone = _local_zone() if proposal.has_offsets else ""
    if zone:
        notes.append(f"times with an offset are converted to {zone}")
    source: dict[str, object] = {
        "_comment": "Proposed from the header and the first records; look at it with pylantir preview.",
        "_look_at": notes,
        "name": data.stem if data.stem not in PROCESS_NAMES else f"{data.stem}_source",
        "type": sample.kind,
        "sync_interval": 60,
        "config": {
            "file_path": os.path.relpath(data.absolute(), path.absolute().parent),
            **sample.options,
            "watch_for_changes": True,
        },
        "field_mapping": proposal.field_mapping,
    }
    if proposal.empty_values:
        source["empty_values"] = proposal.empty_values
    if zone:
        source["timezone"] = zone
    if "modality" not in {guess.target for guess in proposal.guesses}:
        source["defaults"] = {"modality": "MR"}
    write_new(path, _as_text({**starter_configuration(), "data_sources": [source]}))
    rows = [
        {"field": one.target, "columns": ", ".join(one.columns), "sure": one.confidence, "remark": one.remark}
        for one in proposal.guesses
    ]
    print_table({"field": "WORKLIST FIELD", "columns": "COLUMN", "sure": "HOW SURE", "remark": "REMARK"}, rows)
    for text in notes:
        print(f"look at: {printable(text)}")
    print(f"written: {path}\nnext: pylantir preview {shlex.quote(str(source['name']))} --config {path}")
    return ExitStatus.OK


def _local_zone() -> str:
    """Return the name of this machine's time zone, or ""."""
    for name in (os.environ.get("TZ", "").lstrip(":"), os.path.realpath("/etc/localtime").partition("zoneinfo/")[2]):
        if name:
            try:
                ZoneInfo(name)
            except (ValueError, OSError, LookupError):
                continue
            return name
    return ""


def _convert(old: Path, target: Path) -> int:
    document, problems = read_document(old.absolute())
    if problems:
        raise ConfigurationError([problem.line(old.name, {}) for problem in problems])
    converted = dict(document)
    if legacy.is_old(document):
        environment, _ = complete_environment(os.environ, (old.absolute().parent, Path.cwd()))
        converted = legacy.convert_with(document, environment)
        # Relative paths of the old form start from the working directory, those of the new form from the file's folder.
        _move_paths(converted, Path.cwd())
    turned = turn_sources(converted)
    for finding in turned:
        print(finding.line(old.name, {}), file=sys.stderr)
    if not turned and not legacy.is_old(document):
        reason = "has data_sources already, and mappings of today's form; there is nothing to convert"
        raise PylantirError(f"{old}: {reason}")
    if turned and not legacy.is_old(document) and target.absolute().parent != old.absolute().parent:
        _move_paths(converted, old.absolute().parent)
    refuse_existing(target)
    write_new(target, _as_text(converted))
    print(f"written: {target}\nnext: pylantir-supervisor check --config {target}")
    return ExitStatus.OK


def _move_paths(document: dict[str, object], base: Path) -> None:
    """Write relative paths in full, so that they do not depend on where the new file stands."""
    for key in _PATHS:
        value = document.get(key)
        if isinstance(value, str) and not value.startswith("~"):
            document[key] = str(resolve_path(value, base))
    folders = document.get("plugin_dirs")
    if isinstance(folders, list):
        document["plugin_dirs"] = [str(resolve_path(str(folder), base)) for folder in folders]
    listed = document.get("data_sources")
    for source in listed if isinstance(listed, list) else ():
        config = source.get("config") if isinstance(source, dict) else None
        if isinstance(config, dict):
            for key in _PATHS_OF_SOURCES & config.keys():
                config[key] = str(resolve_path(str(config[key]), base))


def _as_text(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
