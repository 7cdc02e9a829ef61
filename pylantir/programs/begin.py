"""Starts the two programs. Every child process imports this module again, so it imports nothing that is slow.

The package name `workers` is common. Another distribution with such a package, or a folder of that name in PYTHONPATH,
would cause baffling errors later, so this module checks for it and reports it in one line.
"""

from __future__ import annotations

import contextlib
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pylantir.programs.closed import forbid_inspection, wipe_initial_environment
from pylantir.programs.import_path import avoid_working_directory, ignore_empty_entries

_MARK = "The processes of Pylantir"
"""How `workers/__init__.py` begins, after the quotes."""


def run_pylantir() -> int:
    """Run the program `pylantir`."""
    forbid_inspection()
    ignore_empty_entries()
    wipe_initial_environment()
    from pylantir.cli.main import main

    status = main()
    _end_beside_threads(status)
    return status


def _end_beside_threads(status: int) -> None:
    """End the process at once if a thread is left that the interpreter would wait for: a plugin has forgotten it."""
    threads = sys.modules.get("threading")
    if threads and any(not thread.daemon for thread in threads.enumerate() if thread is not threads.main_thread()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def run_supervisor() -> int:
    """Run the program `pylantir-supervisor`."""
    complaint = foreign_workers()
    if complaint:
        print(f"pylantir-supervisor: {complaint}", file=sys.stderr)
        return 1
    forbid_inspection()
    ignore_empty_entries()
    avoid_working_directory()
    # By name: the library does not depend on the processes.
    main = import_module("workers.commands.cli").main
    return int(main())


def foreign_workers() -> str | None:
    """Return a one-line message if the package `workers` did not come with this `pylantir`; None if it did."""
    ours = Path(__file__).resolve().parents[2] / "workers"
    try:
        spec = find_spec("workers")
    except (ImportError, ValueError):
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = spec.origin if spec and spec.origin else (places[0] if places else None)
    advice = "install Pylantir alone in a virtual environment, and keep other folders of that name out of PYTHONPATH"
    if found is None:
        return f"its package `workers` is missing beside {ours.parent}; install Pylantir anew"
    if places and Path(places[0]).resolve() == ours:
        try:
            if _MARK in (ours / "__init__.py").read_text(encoding="utf-8"):
                return None
        except (OSError, UnicodeDecodeError):
            pass
        return f"another distribution has overwritten the package `workers` in {ours}; {advice}"
    return f"`workers` is another program's package here ({found}); {advice}"
