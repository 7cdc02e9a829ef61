"""All pages: links lead somewhere, everything is listed, every command that is shown exists."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from pages import PAGES, REPOSITORY, read_blocks, read_commands

from pylantir.cli.program.options import make_parser
from workers.commands import cli as supervisor_cli

PARSERS = {"pylantir": make_parser, "pylantir-supervisor": supervisor_cli.make_parser}
SHOWN = sorted(
    {
        command.line
        for page in PAGES
        for block in read_blocks(page.read_text(encoding="utf-8"))
        if block.language == "console"
        for command in read_commands(block)
        if command.line.split()[0] in PARSERS
    }
)


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, fragment in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{target}#{fragment}"


def test_index_lists_every_page() -> None:
    docs = REPOSITORY / "docs"
    index = (docs / "README.md").read_text(encoding="utf-8")
    pages = {os.fspath(page.relative_to(docs)) for page in docs.rglob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\]\(([^)]*)\)", index))


def test_the_sites_navigation_lists_every_page_in_the_order_of_the_index() -> None:
    index = (REPOSITORY / "docs/README.md").read_text(encoding="utf-8")
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    listed = re.findall(r'"(.*)": (\S+\.md)$', navigation, re.MULTILINE)
    assert listed == re.findall(r"^- \[(.*?)\]\((.*?)\)", index, re.MULTILINE)


@pytest.mark.parametrize("line", SHOWN)
def test_command_that_is_shown_exists(line: str) -> None:
    program, *arguments = shlex.split(line, comments=True)
    PARSERS[program]().parse_args(arguments)


def test_commands_that_make_demo_shows_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8").replace("$(PORT)", "4242")
    shown = re.findall(r'@echo "  \$\(BIN\)/(.*)"$', makefile, re.MULTILINE)
    assert len(shown) == 3
    for line in shown:
        test_command_that_is_shown_exists(line)


def test_make_targets_that_are_shown_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^\$ make (\w+)|`make (\w+)`", text, re.MULTILINE))
    shown = {name for pair in shown for name in pair if name}
    assert shown >= {"demo", "test"}
    assert shown <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))


def test_readme_has_one_picture_and_is_short() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(r"!\[|<img", text)) == 1
    assert len(text.splitlines()) <= 120
