"""The texts that `pylantir new-plugin` writes: a plugin that works as it stands, and its test. Pure."""

from __future__ import annotations

_PLUGIN = '''\
"""Bookings from a file with one JSON object per line. Change `read_records`, and this sentence, to fit your source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pylantir.data_sources.base import RECORD_LABEL, BadRecord, DataSourcePlugin
from pylantir.errors import SourceUnavailable


class {class_name}(DataSourcePlugin):
    """A source of the type "{name}"."""

    type_name = "{name}"

    def validate_config(self, config: dict[str, Any]) -> tuple[bool, str]:
        """Check and keep what the source's `config` says; an absent file is for `fetch_entries` to find out."""
        self.path = Path(str(config.get("file_path", "")))
        return bool(config.get("file_path")), "file_path: expected the path of a file"

    def fetch_entries(self, field_mapping: dict[str, Any], interval: float) -> Iterator[dict[str, Any] | BadRecord]:
        """Give every booking that there is: Pylantir cancels those that a later fetch no longer gives."""
        for label, record in self.read_records():
            if record is None:
                yield BadRecord(record=label, field="", reason="is no JSON object")
            else:
                yield {{**self.map_record(record, field_mapping), RECORD_LABEL: label}}

    def read_records(self) -> Iterator[tuple[str, dict[str, Any] | None]]:
        """Yield for each record where it stands, and its values by their names in the source."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise SourceUnavailable(f"{{self.path}}: cannot be read ({{error.strerror}})") from None
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            yield f"line {{number}}", record if isinstance(record, dict) else None

    def get_source_name(self) -> str:
        """Say what this is, for people."""
        return "file with a JSON object per line"
'''

_TEST = '''\
"""What becomes of the records of plugins/{name}.py. Run: pytest {test}"""

from __future__ import annotations

from pathlib import Path

import pytest
from pylantir.errors import ConfigurationError, SourceUnavailable
from pylantir.testing import load_plugin_class, run_plugin

PLUGIN = load_plugin_class(Path(__file__).parents[1] / "{name}.py")
MAPPING = {{
    "booking": "source_record_id",
    "patient": "patient_id",
    "name": "patient_name",
    "start": "scheduled_start",
}}


def test_bookings_become_entries(tmp_path: Path) -> None:
    file = tmp_path / "bookings.jsonl"
    file.write_text(
        '{{"booking": 1, "patient": "EXAMPLE-1", "name": "EXAMPLE^FIRST", "start": "2030-01-31T09:30"}}\\n'
        "no booking at all\\n"
        '{{"booking": 3, "patient": "EXAMPLE-3", "name": "EXAMPLE^THIRD", "start": "soon"}}\\n',
        encoding="utf-8",
    )
    config = {{"file_path": str(file)}}
    result = run_plugin(PLUGIN, config=config, field_mapping=MAPPING, defaults={{"modality": "MR"}})
    assert result.entries == [
        {{
            "source_record_id": "1",
            "patient_id": "EXAMPLE-1",
            "patient_name": "EXAMPLE^FIRST",
            "scheduled_start_date": "20300131",
            "scheduled_start_time": "093000",
            "modality": "MR",
        }}
    ]
    assert [(one.record, one.field) for one in result.rejected] == [("line 2", ""), ("line 3", "scheduled_start")]


def test_a_file_that_is_absent_fails_the_fetch_and_cancels_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable):
        run_plugin(PLUGIN, config={{"file_path": str(tmp_path / "absent")}}, field_mapping=MAPPING)


def test_a_configuration_without_a_file_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="file_path"):
        run_plugin(PLUGIN, config={{}}, field_mapping=MAPPING)
'''


def plugin_text(name: str) -> str:
    """Write the plugin file of a type."""
    words = [word for word in name.split("_") if word]
    class_name = "".join(word[0].upper() + word[1:] for word in words) + "Plugin"
    return _PLUGIN.format(name=name, class_name=class_name)


def plugin_test_text(name: str, test: str) -> str:
    """Write the plugin's test, which stands at the path `test`."""
    return _TEST.format(name=name, test=test)
