"""`pylantir init`: a first configuration that works as it stands, or the new form of an old one."""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import json
import os
from pathlib import Path

from pylantir.config import legacy
from pylantir.config.document import read_document
from pylantir.config.environment import complete_environment
from pylantir.config.loading import convert_old
from pylantir.config.locate import resolve_path
from pylantir.errors import ConfigurationError, ExitStatus, PylantirError

DEFAULT_FILE = "pylantir.json"
SAMPLE_FILE = "bookings.csv"
_PATHS = ("db_path", "runtime_dir")


def write_configuration(options: argparse.Namespace) -> int:
    """Write a starter configuration with a sample of data, or convert an old configuration.

    Raises:
        PylantirError: A file of that name exists already; nothing is overwritten.
    """
    target = options.file or options.config
    if options.old:
        return _convert(Path(options.old), target)
    path = Path(target or DEFAULT_FILE)
    sample = path.with_name(SAMPLE_FILE)
    _refuse_existing(path, sample)
    _write_new(path, _as_text(starter_configuration()))
    _write_new(sample, sample_bookings(datetime.date.today()))  # noqa: DTZ011 - the operator's day
    named = "" if target is None else f" --config {path}"
    print(f"written: {path}, {sample}\nnext: pylantir-supervisor start{named}, then pylantir query-db{named}")
    return ExitStatus.OK


def starter_configuration() -> dict[str, object]:
    """Give a configuration that serves the sample's bookings on this machine, with a comment on what to change."""
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
    """Write a CSV with two bookings that nobody takes for patients."""
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


def _convert(old: Path, target: str | None) -> int:
    document, problems = read_document(old.absolute())
    if problems:
        raise ConfigurationError([problem.line(old.name, {}) for problem in problems])
    if not legacy.is_old(document):
        raise PylantirError(f"{old}: has no redcap2wl, or data_sources already; there is nothing to convert")
    environment, _ = complete_environment(os.environ, (old.absolute().parent, Path.cwd()))
    converted = convert_old(document, environment)
    # The old form's relative paths start from the working directory, the new form's from the file's folder.
    for key in _PATHS:
        value = converted.get(key)
        if isinstance(value, str) and not value.startswith("~"):
            converted[key] = str(resolve_path(value, Path.cwd()))
    folders = converted.get("plugin_dirs")
    if isinstance(folders, list):
        converted["plugin_dirs"] = [str(resolve_path(str(folder), Path.cwd())) for folder in folders]
    text = _as_text(converted)
    if target is None:
        print(text, end="")
    else:
        _refuse_existing(Path(target))
        _write_new(Path(target), text)
        print(f"written: {target}\nnext: pylantir-supervisor check --config {target}")
    return ExitStatus.OK


def _as_text(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _refuse_existing(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise PylantirError(f"{path}: exists already and is not overwritten; name another file")


def _write_new(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
