"""The version is the same wherever it is written."""

from __future__ import annotations

import re
import tomllib

from pages import REPOSITORY

CHANGELOG = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def test_the_changelog_begins_with_the_packages_version() -> None:
    first = re.search(r"^## (\d+\.\d+\.\d+) \((.*)\)$", CHANGELOG, re.MULTILINE)
    assert first
    assert first[1] == VERSION.partition(".dev")[0]
    is_released = ".dev" not in VERSION
    assert re.fullmatch(r"\d{4}-\d\d-\d\d" if is_released else "not released yet", first[2])
