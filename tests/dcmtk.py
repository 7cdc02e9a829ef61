"""DCMTK's findscu, the foreign client of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest


@pytest.fixture(scope="session")
def findscu() -> str:
    """Give the path of DCMTK's; pynetdicom installs a command of the same name, which is no foreign client."""
    for folder in os.get_exec_path():
        found = shutil.which("findscu", path=folder)
        if found and b"dcmtk" in subprocess.run([found, "--version"], capture_output=True, check=False).stdout:
            return found
    if os.environ.get("CI"):
        pytest.fail("DCMTK's findscu is needed: apt-get install dcmtk")
    pytest.skip("DCMTK's findscu is not installed")


def find_worklist(
    findscu: str, port: int, folder: Path, *keys: str, calling: str = "MRI_SCANNER", called: str = "PYLANTIR"
) -> list[dict[str, str]]:
    """Ask the worklist at a port of this machine.

    Args:
        findscu: The program.
        port: The server's.
        folder: Where the answers may be written meanwhile.
        keys: As `-k` takes them.
        calling: The scanner's AE title.
        called: The server's.

    Returns:
        Per response keyword -> value, those of the procedure step included.

    Raises:
        subprocess.CalledProcessError: No association, or a failure.
    """
    answers = folder / "answers.xml"
    answers.unlink(missing_ok=True)
    command = [findscu, "-W", "-aet", calling, "-aec", called, "-to", "20", "-Xs", str(answers)]
    for key in keys:
        command += ["-k", key]
    subprocess.run([*command, "127.0.0.1", str(port)], check=True, timeout=120, capture_output=True)
    if not answers.exists():
        return []
    return [
        {element.get("name", ""): element.text or "" for element in response.iter("element")}
        for response in ElementTree.parse(answers).getroot().iter("data-set")
    ]
