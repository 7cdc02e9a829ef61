"""A source worker loads what it needs and no more: there is one per source, for months."""

from __future__ import annotations

import os
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


def loaded_with(*modules: str, site_packages: bool = False) -> set[str]:
    """Every module that is there once these have been imported.

    Args:
        modules: What is imported.
        site_packages: Whether installed packages can be found; a development environment's own start-up files import
            something besides.
    """
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {', '.join(modules)}; print(*sys.modules, sep='\\n')"
    command = [sys.executable, *([] if site_packages else ["-S"]), "-c", code]
    # What counts the lines would load its own modules.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    return set(done.stdout.split())


def test_file_sources_load_nothing_expensive() -> None:
    assert HEAVY.isdisjoint(loaded_with(*LEAN))


def test_a_source_worker_loads_little_of_what_its_start_could_load() -> None:
    loaded = loaded_with("workers.child.bootstrap", "workers.source.worker", site_packages=True)
    assert {"multiprocessing.connection", "tempfile", "subprocess", "random"}.isdisjoint(loaded)


def test_what_every_process_loads_again_is_small() -> None:
    assert (HEAVY - {"typing", "pathlib", "urllib.parse"}).isdisjoint(loaded_with("workers.commands.cli"))


def test_the_supervisor_loads_no_library_that_only_its_children_need() -> None:
    loaded = loaded_with("workers.supervisor.configuration", "workers.supervisor.instance", site_packages=True)
    assert {"sqlalchemy", "pydantic", "rich", "pynetdicom", "pydicom", "requests", "ssl"}.isdisjoint(loaded)


def test_the_server_loads_no_client() -> None:
    loaded = loaded_with("workers.server.worker", site_packages=True)
    assert {"pynetdicom", "starlette", "redcap"}.isdisjoint(loaded)


def test_writer_and_server_load_no_dialect_of_another_database() -> None:
    loaded = loaded_with("workers.writer.worker", "workers.server.worker", site_packages=True)
    assert {"sqlalchemy.dialects.postgresql", "psycopg", "pydantic", "rich"}.isdisjoint(loaded)
