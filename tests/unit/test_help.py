"""What `--help` says: every command teaches by examples that its own parser accepts, and fits a terminal of 80 columns."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator

import pytest

from pylantir.cli.program.options import make_parser as make_pylantir
from pylantir.programs.arguments import ProgramParser
from pylantir.programs.help_texts import LESSONS
from workers.commands.cli import make_parser as make_supervisor

MAKERS: dict[str, Callable[[], ProgramParser]] = {"pylantir": make_pylantir, "pylantir-supervisor": make_supervisor}
COMMANDS = [(program, name) for program, make in MAKERS.items() for name in make().commands]


def help_of(program: str, command: str | None, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    parser = MAKERS[program]()
    return parser.format_help() if command is None else parser.commands[command].format_help()


def commands_in(text: str) -> Iterator[list[str]]:
    """The command lines of examples, without redirections, pipes and what the shell does around them."""
    for line in text.splitlines():
        if match := re.search(r"\b(pylantir(?:-supervisor)? .*)$", line):
            yield shlex.split(re.split(r"[>|)]| {3,}", match[1])[0])


def test_every_command_has_a_lesson_and_no_lesson_is_left_over() -> None:
    assert LESSONS.keys() == {*MAKERS, *(f"{program} {name}" for program, name in COMMANDS)}


@pytest.mark.parametrize(("program", "command"), [*COMMANDS, ("pylantir", None), ("pylantir-supervisor", None)])
def test_help_fits_80_columns_and_shows_examples(
    program: str, command: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = help_of(program, command, monkeypatch).splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert "examples:" in lines
    assert any(line.startswith("  ") and program in line for line in lines[lines.index("examples:") :])


@pytest.mark.parametrize("lesson", LESSONS)
def test_examples_are_accepted_by_the_commands_own_parser(lesson: str) -> None:
    shown = list(commands_in("\n".join(LESSONS[lesson].examples)))
    assert len(shown) == len(LESSONS[lesson].examples)
    assert lesson in MAKERS or lesson in {" ".join(words[:2]) for words in shown}
    for program, *arguments in shown:
        MAKERS[program]().parse_args(arguments)
