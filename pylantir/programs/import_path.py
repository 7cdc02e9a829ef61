"""Keeps Python from importing modules that lie in the working directory. Imports nothing that is slow."""

from __future__ import annotations

import os
import sys
from pathlib import Path

SAFE_PATH = "PYTHONSAFEPATH"
_SET_BY_US = "pylantir"
"""The value by which Pylantir marks its own setting of the variable, which is not meant for a plugin's programs."""


def avoid_working_directory() -> None:
    """Let the Pythons that this process starts not look for modules in the working directory first.

    Every child is a Python started with -c, which would.
    """
    os.environ.setdefault(SAFE_PATH, _SET_BY_US)


def restore_import_path() -> None:
    """Let a plugin's own child processes find modules as usual; only ours ignore the working directory."""
    if os.environ.get(SAFE_PATH) == _SET_BY_US:
        del os.environ[SAFE_PATH]


def ignore_empty_entries() -> None:
    """Import nothing from the working directory because of an empty entry in PYTHONPATH, which is mostly an accident.

    `PYTHONPATH=$PYTHONPATH:/opt/site` has one where the variable was not set before.
    """
    given = os.environ.get("PYTHONPATH", "")
    named = [entry for entry in given.split(os.pathsep) if entry]
    if not given or len(named) == len(given.split(os.pathsep)):
        return
    os.environ["PYTHONPATH"] = os.pathsep.join(named)
    here, library = os.path.realpath("."), str(Path(os.__file__).parent)
    if here not in map(os.path.realpath, named) and library in sys.path:
        # PYTHONPATH stands before the standard library; an installation in this very folder stands after it.
        end = sys.path.index(library)
        sys.path[:end] = [entry for entry in sys.path[:end] if os.path.realpath(entry) != here]
