"""What the tests of the documentation share."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from ports import free_port


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def environ(findscu: str) -> Mapping[str, str]:
    """The environment of a reader who has installed Pylantir, DCMTK and what every system has."""
    if not (shutil.which("ps") and shutil.which("pkill")):
        reason = "ps and pkill are needed: apt-get install procps"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folders = [str(Path(findscu).parent), str(Path(sys.executable).parent), *os.get_exec_path()]
    inherited = {name: value for name, value in os.environ.items() if name != "PYLANTIR_CONFIG"}
    # Wide enough for a long path, as temporary folders have.
    return {**inherited, "PATH": os.pathsep.join(folders), "COLUMNS": "200", "LC_ALL": "C.UTF-8"}
