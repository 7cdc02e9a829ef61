"""The reference lists every command of both programs, and every option of each."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylantir.cli.program.options import make_parser
from pylantir.errors import ExitStatus
from workers.commands import cli as supervisor_cli

REFERENCE = (Path(__file__).parents[3] / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `(.+?)`\n(.*?)(?=^##|\Z)", REFERENCE, re.MULTILINE | re.DOTALL))


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for parser in (make_parser(), supervisor_cli.make_parser()):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from ((f"{parser.prog} {name}", command) for name, command in action.choices.items())


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_option_and_operand_stands_in_its_commands_section(name: str, command: argparse.ArgumentParser) -> None:
    section = SECTIONS[name]
    for action in command._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        for written in action.option_strings or [str(action.metavar)]:
            assert re.search(rf"[`\[ ]{re.escape(written)}[`\] ]", section), written


def test_reference_names_no_command_that_does_not_exist() -> None:
    assert SECTIONS.keys() == {name for name, _ in commands()}


def test_reference_names_no_option_that_does_not_exist() -> None:
    for name, command in commands():
        listed = set(re.findall(r"^\| (`--.*?) \|", SECTIONS[name], re.MULTILINE))
        options = {option for row in listed for option in re.findall(r"`(--\w[\w-]*)", row)}
        there = {option for action in command._actions for option in action.option_strings if option.startswith("--")}
        assert options == there - {"--help"}


def test_every_exit_status_stands_in_the_reference() -> None:
    for status in ExitStatus:
        assert f"| {status.value} |" in REFERENCE


def test_every_command_explains_itself_and_takes_a_configuration() -> None:
    for name, command in commands():
        assert command.description, name
        assert all(action.help for action in command._actions), name
        required = [action for action in command._actions if action.required]
        operands = [next(iter(action.choices or "1")) for action in required if not action.option_strings]
        for action in required:
            if action.option_strings:
                operands += [action.option_strings[0], *([] if action.nargs == 0 else ["1"])]
        for group in command._mutually_exclusive_groups:
            operands += [group._group_actions[0].option_strings[0], "1"] if group.required else []
        for option in ("--config", "--pylantir_config")[: 2 if name.startswith("pylantir ") else 1]:
            assert command.parse_args([option, "here.json", *operands]).config == "here.json"
