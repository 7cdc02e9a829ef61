"""A plugin as a package of its own: built, installed, found by Pylantir, and tested as the guide says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "etc/examples/order_folder"
GUIDE = (ROOT / "docs/howto/write-a-plugin.md").read_text(encoding="utf-8")
README = (PACKAGE / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder in which the package is installed."""
    folder = tmp_path_factory.mktemp("package")
    copy = shutil.copytree(PACKAGE, folder / "order_folder", ignore=shutil.ignore_patterns("*.egg-info", "build"))
    # Nothing is downloaded: what a build needs is here, and so is Pylantir.
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    run(folder, sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site"), str(copy))
    return folder


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder / "site")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_installed_package_gives_a_source_type(site: Path) -> None:
    (block,) = re.findall(r"^```json\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    (site / "pylantir.json").write_text(json.dumps({"data_sources": [json.loads(block)]}))
    (site / "orders").mkdir()
    (site / "orders/7.json").write_text('{"patient": {"id": "P7"}, "start": "2030-12-01T08:30"}')
    pylantir = str(Path(sys.executable).with_name("pylantir"))
    types = json.loads(run(site, pylantir, "plugins", "--json"))["types"]
    assert {"order_folder": "pylantir_order_folder:OrderFolderPlugin"}.items() <= {
        one["type"]: one["origin"] for one in types
    }.items()
    shown = json.loads(run(site, pylantir, "preview", "orders", "--json"))
    assert [one["fields"]["patient_id"] for one in shown["entries"]] == ["P7"]


def test_its_own_tests_and_the_one_of_the_guide_pass_with_pytest_alone(site: Path) -> None:
    shutil.copytree(PACKAGE / "tests", site / "tests")
    _, test = re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    (site / "tests/test_of_the_guide.py").write_text(test, encoding="utf-8")
    run(site, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "tests")
