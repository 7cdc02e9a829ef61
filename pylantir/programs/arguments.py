"""Reads the command lines of both programs: version, similar names, each other's commands, completion for shells.

Imported by every command, so it imports nothing that is slow.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from pylantir.programs.help_texts import LESSONS

COMMANDS = {
    "pylantir": (
        "start", "query-db", "test-client", "test-mpps", "preview", "plugins", "explain", "rejects", "audit", "accept",
        "forget", "set-status", "purge", "schema", "init", "conflicts", "access", "copy-db", "new-plugin",
        "forget-host",
    ),
    "pylantir-supervisor": (
        "start", "status", "stop", "reload", "restart", "sync", "check", "log", "install-unit",
    ),
}  # fmt: skip
"""Each program's commands, so that the other program can point to them."""
SHELLS = ("bash", "zsh", "fish")
_NARROWEST, _WIDEST = 80, 100
"""Columns: examples fit the first, and paragraphs are no wider than the second."""


class _HelpFormatter(argparse.HelpFormatter):
    """Fills paragraphs to the terminal's width, keeps examples as they are, and breaks no word at its hyphen."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip("\n").split("\n\n")
        return "\n\n".join(
            part if "\n  " in part else "\n".join(self._split_lines(part, min(width, _WIDEST))) for part in paragraphs
        )

    def _split_lines(self, text: str, width: int) -> list[str]:
        import textwrap

        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def add_argument(self, action: argparse.Action) -> None:
        """Add an option or operand; of commands, count the indentation, so that each text stands beside its command."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - argparse has no public name for it
            longest = max(map(len, action.choices), default=0)
            self._action_max_length = max(self._action_max_length, longest + self._current_indent + 2)


class ProgramParser(argparse.ArgumentParser):
    """The parser of a whole program: it suggests similar names, and knows the other program's commands.

    `add_command` makes its parsers of commands.
    """

    def __init__(self, prog: str, *, description: str) -> None:
        lesson = LESSONS[prog]
        epilog = f"{lesson.about}\n\n{show_examples(lesson.examples)}"
        super().__init__(prog=prog, description=description, epilog=epilog, formatter_class=_HelpFormatter)
        self.add_argument("--version", action=_Version, nargs=0, help="print the version")
        self._commands = self.add_subparsers(
            title="commands", required=True, metavar="COMMAND", parser_class=argparse.ArgumentParser
        )

    @property
    def commands(self) -> dict[str, argparse.ArgumentParser]:
        """The commands' own parsers, by name."""
        return dict(self._commands.choices)

    def add_command(self, name: str, text: str) -> argparse.ArgumentParser:
        """Add a command; `text` says what it does, without a full stop. Its lesson is in `help_texts`."""
        lesson = LESSONS[f"{self.prog} {name}"]
        return self._commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}. {lesson.about}",
            epilog=show_examples(lesson.examples),
            formatter_class=_HelpFormatter,
        )

    def add_completion(self) -> argparse.ArgumentParser:
        """Add the command that prints a shell's completion."""
        command = self.add_command("completion", "print a shell's completion of commands and options")
        for option in ("--config", "--pylantir_config")[: 2 if self.prog == "pylantir" else 1]:
            command.add_argument(option, metavar="FILE", dest="config", help="accepted, and without effect")
        command.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")
        return command

    def parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """Parse a command line; on an error, print it on stderr and end the program with status 2."""
        given = sys.argv[1:] if arguments is None else list(arguments)
        if not given:
            self.error(f"a command is missing; `{self.prog} --help` lists them")
        if not given[0].startswith("-") and given[0] not in self._commands.choices:
            self._complain(given[0])
        self._refuse_options_before_command(given)
        options, unknown = self.parse_known_args(given)
        command = self.commands.get(next((word for word in given if not word.startswith("-")), ""), self)
        if unknown:
            command.error(_describe_unknown(unknown, command))
        # An empty value is a shell variable that is not set: a filter that is not there would show everything.
        for action in command._actions:  # noqa: SLF001 - argparse has no public list of them
            value = getattr(options, action.dest, None)
            if isinstance(value, str) and not value.strip():
                command.error(f"{'/'.join(action.option_strings) or action.metavar}: the value is empty")
        return options

    def _refuse_options_before_command(self, given: list[str]) -> None:
        """Say where options stand: argparse would take the value of one for the command."""
        own = [option for action in self._actions for option in action.option_strings]
        command = next((word for word in given if word in self._commands.choices), None)
        if command and given[0].startswith("-") and not any(option.startswith(given[0]) for option in own):
            self.error(f"options stand after the command: `{self.prog} {command} {given[0].partition('=')[0]} …`")

    def _complain(self, word: str) -> NoReturn:
        other = next(program for program in COMMANDS if program != self.prog)
        if word in COMMANDS[other]:
            self.error(f"that is `{other} {word}`")
        near = nearest(word, [*self._commands.choices, *COMMANDS[other]])
        if near is None:
            hint = f"`{self.prog} --help` lists the commands"
        elif near in self._commands.choices:
            hint = f'did you mean "{near}"?'
        else:
            hint = f"did you mean `{other} {near}`?"
        self.error(f'unknown command "{word}": {hint}')


def _describe_unknown(words: Sequence[str], command: argparse.ArgumentParser) -> str:
    """Say which word is unknown, and suggest a similar option of the command."""
    word = words[0].partition("=")[0]
    if not word.startswith("-"):
        return f'unexpected "{words[0]}"'
    options = [option for action in command._actions for option in action.option_strings]  # noqa: SLF001
    near = nearest(word, options)
    return f"unknown option {word}: " + (f"did you mean {near}?" if near else f"`{command.prog} --help` lists them")


def show_examples(examples: Mapping[str, str]) -> str:
    """Write examples for `--help`: each with its meaning beside it, or below it where a line would be too long."""
    width, widest = max(map(len, examples)), max(map(len, examples.values()))
    gap = "   " if len("  ") + width + len("   ") + widest <= _NARROWEST else "\n      "
    padded = width if gap.isspace() and "\n" not in gap else 0
    return "\n".join(["examples:", *(f"  {line:{padded}}{gap}{meaning}" for line, meaning in examples.items())])


class _Version(argparse.Action):
    """Prints the version of the installed package."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it and end."""
        from importlib.metadata import version

        print(version("pylantir"))
        parser.exit()


def read_port(text: str) -> int:
    """Read the value of `--port`; argparse turns the exception into exit status 2."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f'expected a port, 1-65535, got "{text}"')
    return int(text)


def read_ae_title(text: str) -> str:
    """Read the value of an option that takes an AE title; argparse turns the exception into exit status 2."""
    title = text.strip()
    if not (title.isascii() and title.isprintable() and 1 <= len(title) <= 16) or "\\" in title:
        raise argparse.ArgumentTypeError(f'expected an AE title, 1-16 ASCII characters without backslash, got "{text}"')
    return title


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Find the name that somebody who typed `word` may have meant."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(names), 1)), None)


def unknown_name(kind: str, word: str, names: Iterable[str]) -> str:
    """Say that the name does not exist, and suggest a similar one or list all."""
    known = list(names)
    near = nearest(word, known)
    hint = f'did you mean "{near}"?' if near else f"there are: {', '.join(known) or 'none'}"
    return f'no {kind} "{word}": {hint}'


def completion(program: ProgramParser, shell: str) -> str:
    """Write a shell's completion for a program: its commands, and each command's options."""
    texts = {action.dest: action.help or "" for action in program._commands._choices_actions}  # noqa: SLF001
    commands = {
        name: sorted(option for action in parser._actions for option in action.option_strings)  # noqa: SLF001
        for name, parser in program.commands.items()
    }
    write = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return write(program.prog, commands, texts)


def _function(prog: str) -> str:
    return "_" + prog.replace("-", "_")


def _bash(prog: str, commands: dict[str, list[str]], _texts: dict[str, str]) -> str:
    cases = "\n".join(f'        {name}) words="{" ".join(options)}" ;;' for name, options in commands.items())
    return f"""\
# source <({prog} completion bash)
{_function(prog)}() {{
    local words="{" ".join(commands)} --version --help"
    if [ "$COMP_CWORD" -gt 1 ]; then
        case "${{COMP_WORDS[1]}}" in
{cases}
        esac
        case "${{COMP_WORDS[COMP_CWORD]}}" in
            -*) ;;
            *) COMPREPLY=($(compgen -f -- "${{COMP_WORDS[COMP_CWORD]}}")); return ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -F {_function(prog)} {prog}
"""


def _zsh(prog: str, commands: dict[str, list[str]], texts: dict[str, str]) -> str:
    described = "\n".join(f"        '{name}:{texts[name].replace(chr(39), '')}'" for name in commands)
    cases = "\n".join(f"        {name}) compadd -- {' '.join(options)} ;;" for name, options in commands.items())
    return f"""\
#compdef {prog}
# Save it as {_function(prog)} in a folder of $fpath, or: source <({prog} completion zsh)
{_function(prog)}() {{
    local -a commands=(
{described}
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    case $words[2] in
{cases}
    esac
    _files
}}
compdef {_function(prog)} {prog}
"""


def _fish(prog: str, commands: dict[str, list[str]], texts: dict[str, str]) -> str:
    lines = [f"# {prog} completion fish | source"]
    for name, options in commands.items():
        text = texts[name].replace("'", "")
        lines.append(f"complete -c {prog} -n __fish_use_subcommand -f -a {name} -d '{text}'")
        lines += [
            f"complete -c {prog} -n '__fish_seen_subcommand_from {name}' -l {option.removeprefix('--')}"
            for option in options
            if option.startswith("--")
        ]
    return "\n".join(lines) + "\n"
