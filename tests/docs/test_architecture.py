"""The tree on the architecture page is the tree of the repository."""

from __future__ import annotations

import re

from pages import REPOSITORY, read_blocks

PAGE = REPOSITORY / "docs" / "explanation" / "architecture.md"
MOST_MODULES = 14


def drawn() -> dict[str, set[str]]:
    """Folder -> its modules, as the page has them: an indented line per folder, its modules on it and the next ones."""
    tree = next(block for block in read_blocks(PAGE.read_text(encoding="utf-8")) if "workers/" in block.text)
    folders: dict[str, set[str]] = {}
    path: list[tuple[int, str]] = []
    for line in tree.text.splitlines():
        if not line.strip():
            continue
        if match := re.match(r"(\s*)(\w+)/\s*(.*)", line):
            indent, name, modules = len(match[1]), match[2], match[3]
            path = [(at, one) for at, one in path if at < indent] + [(indent, name)]
        else:
            modules = line
        folders.setdefault("/".join(one for _, one in path), set()).update(modules.split())
    return folders


def existing() -> dict[str, set[str]]:
    folders: dict[str, set[str]] = {}
    for top in ("workers", "pylantir"):
        for package in sorted((REPOSITORY / top).rglob("__init__.py")):
            folder = package.parent
            modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
            folders[str(folder.relative_to(REPOSITORY))] = modules
    return folders


def test_the_tree_is_drawn_as_it_is() -> None:
    assert drawn() == existing()


def test_no_folder_is_too_full_or_nearly_empty() -> None:
    for folder, modules in existing().items():
        assert len(modules) <= MOST_MODULES, folder
        inside = [other for other in existing() if other.startswith(folder + "/")]
        assert len(modules) + len(inside) > 1, f"{folder} has a single module"
