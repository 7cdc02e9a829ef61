"""What is used of pynetdicom: its public names, and in `dicom.net` by one module only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

import pylantir
import workers

PRIVATE_NAMES: set[str] = set()
"""The private names of pynetdicom that the program relies on. `_config` is its public settings module."""
PUBLIC_IN_SPITE_OF_ITS_NAME = {"_config"}


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for package in (pylantir, workers):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def imported_from_pynetdicom(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pynetdicom":
            yield from (node.module or "").split(".")[1:]
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "pynetdicom")


def private_names(tree: ast.Module) -> Iterator[str]:
    """Names with a leading underscore that are imported from the library, or taken from an object that is not `self`."""
    yield from (name for name in imported_from_pynetdicom(tree) if name.startswith("_"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = node.value
            while isinstance(owner, ast.Attribute | ast.Call | ast.Subscript):
                owner = owner.func if isinstance(owner, ast.Call) else owner.value
            if not (isinstance(owner, ast.Name) and owner.id in {"self", "cls"}):
                yield node.attr


def test_these_private_names_of_pynetdicom_are_used_and_no_others() -> None:
    used = {
        name for _, tree in sources() if any(imported_from_pynetdicom(tree)) for name in private_names(tree)
    } - PUBLIC_IN_SPITE_OF_ITS_NAME
    assert used == PRIVATE_NAMES


def test_one_module_of_the_network_side_knows_pynetdicom() -> None:
    knowing = [
        path.name for path, tree in sources() if path.parent.parts[-2:] == ("dicom", "net") and any(imported_from_pynetdicom(tree))
    ]  # fmt: skip
    assert knowing == ["bridge.py"]


def test_the_next_minor_version_of_pynetdicom_is_not_installed_unasked() -> None:
    (needed,) = [Requirement(text) for text in requires("pylantir") or () if text.startswith("pynetdicom")]
    assert "3.0.4" in needed.specifier
    assert "3.1" not in needed.specifier
