"""A source worker loads what it needs and no more: there is one per source, for months."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEAN = (
    "pylantir.entry",
    "pylantir.mapping",
    "pylantir.schedule",
    "pylantir.settings",
    "pylantir.data_sources.base",
    "pylantir.data_sources.registry",
    "pylantir.data_sources.csv_file",
    "pylantir.data_sources.json_file",
)
HEAVY = {
    *("sqlalchemy", "pydantic", "rich", "pynetdicom", "pydicom", "requests", "redcap", "numpy", "pandas"),
    *("typing", "pathlib", "decimal", "zoneinfo", "importlib.metadata", "urllib.parse", "multiprocessing"),
}


def test_file_sources_load_nothing_expensive() -> None:
    # -S: a development environment's own start-up files import some of these.
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {', '.join(LEAN)}; print(*sys.modules, sep='\\n')"
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert HEAVY.isdisjoint(done.stdout.split())
