"""Where the two programs begin. Every child process imports this module again: it imports nothing that is slow.

The name of the package `workers` is a common one. Another distribution that brings one too, or a folder of that name in
PYTHONPATH, would give baffling errors in the middle of the work: it is noticed here, in one line.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

_MARK = "The processes of Pylantir"
"""How `workers/__init__.py` begins, after the quotes."""
SAFE_PATH = "PYTHONSAFEPATH"
SET_BY_US = "pylantir"
"""The variable's value where Pylantir has set it: what a plugin starts is not meant."""


def run_pylantir() -> int:
    """The program `pylantir`."""
    from pylantir.cli.main import main

    return main()


def run_supervisor() -> int:
    """The program `pylantir-supervisor`."""
    complaint = foreign_workers()
    if complaint:
        print(f"pylantir-supervisor: {complaint}", file=sys.stderr)
        return 1
    # Every child is a Python started with -c, which would look for modules in the working directory first.
    os.environ.setdefault(SAFE_PATH, SET_BY_US)
    # By name: the library does not depend on the processes.
    main = import_module("workers.commands.cli").main
    return int(main())


def foreign_workers() -> str | None:
    """Say in one line if the package `workers` is not the one that came with this `pylantir`; None if it is."""
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
