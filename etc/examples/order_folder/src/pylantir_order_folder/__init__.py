"""Orders in a folder, one JSON file each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pylantir.data_sources.base import RECORD_LABEL, BadRecord, DataSourcePlugin
from pylantir.errors import SourceUnavailable


class OrderFolderPlugin(DataSourcePlugin):
    """Gives the orders that changed; the files' names say which orders there are."""

    def validate_config(self, config: dict[str, Any]) -> tuple[bool, str]:
        self.folder = Path(str(config.get("folder", "")))
        self.last_look: dict[str, int] = {}
        return bool(config.get("folder")), "folder: expected the path of a folder"

    def supports_incremental_sync(self) -> bool:
        return True

    def fetch_entries(self, field_mapping: dict[str, Any], interval: float) -> Iterator[dict[str, Any] | BadRecord]:
        self.last_look = self.look()
        oldest_ns = (time.time() - interval) * 1e9
        for name in sorted(name for name, changed_ns in self.last_look.items() if changed_ns >= oldest_ns):
            try:
                order = json.loads((self.folder / name).read_text(encoding="utf-8"))
            except FileNotFoundError:
                continue  # done meanwhile; `current_record_ids` no longer names it
            except ValueError:
                order = None
            if isinstance(order, dict):
                entry = self.map_record(order, field_mapping)
                yield {"source_record_id": Path(name).stem, RECORD_LABEL: name, **entry}
            else:
                yield BadRecord(record=name, field="", reason="is no JSON object")

    def current_record_ids(self) -> Iterator[str]:
        return (Path(name).stem for name in self.look())

    def has_changed(self) -> bool:
        return self.look() != self.last_look

    def look(self) -> dict[str, int]:
        """Give each file's name and when it changed."""
        if not self.folder.is_dir():
            raise SourceUnavailable(f"{self.folder}: there is no such folder")
        return {path.name: path.stat().st_mtime_ns for path in self.folder.glob("*.json")}

    def get_source_name(self) -> str:
        return "folder of orders"
