"""The documentation as a reader takes it: files to write, commands to type, answers to expect."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *(REPOSITORY / "docs").rglob("*.md")],
)
DEADLINE_S = 90.0
_FENCED = r"(?:(?P<lead>[^\n]+)\n\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$"
_SERVICE = ("pylantir-supervisor start", "pylantir start")
_ASKS = ("pylantir-supervisor status", "pylantir ", "findscu ", "ps ")
"""Commands that change nothing: they are asked again until the answer is the expected one."""
_MASKS = (
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
    (r"\d{8}-\d{6}\.backup", "COPY"),
    (r"(\d+\.)?\d+ (ms|s|min|h|MB)\b", "AMOUNT"),
    (r"\bitems? [\d-]+", "ITEMS"),
    (r"^ *\d+ pyl:|^ *\d+ grep", "PID "),
    (r"(RUNNING +)\d+", r"\1PID"),
    (r"\b\d+\.\d\b", "SHARE"),
    # The page's reader sees the log in the terminal; here it goes to a file.
    (r"^log: .*\n", ""),
    (r"[ \t]+", " "),
    (r" ?$", ""),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block.

    Attributes:
        language: What follows the fence.
        text: Its lines.
        file: The file that it is to be written to, named at the end of the line before: "Write `x.json`:".
    """

    language: str
    text: str
    file: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command and what it answers."""

    line: str
    answer: str


def read_blocks(text: str) -> list[Block]:
    """List the fenced blocks of a page."""
    blocks = []
    for match in re.finditer(_FENCED, text, re.MULTILINE | re.DOTALL):
        named = re.search(r"`([\w./-]+)`:$", match["lead"] or "")
        blocks.append(Block(language=match["language"], text=match["text"], file=named[1] if named else None))
    return blocks


def read_commands(block: Block) -> Iterator[Command]:
    """List the commands of a `console` block."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, answer = part.partition("\n")
        yield Command(line=line, answer=answer)


def mask(text: str) -> list[str]:
    """Replace what differs from run to run; blank lines at the end do not count."""
    for pattern, replacement in _MASKS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text.rstrip().splitlines()


class Reader:
    """Follows a page word for word; a context manager that ends what it has started.

    Args:
        folder: The working directory.
        environ: The environment of the commands.
        home: What the page calls the folder.
        skipped: Beginnings of commands that only prepare the folder or install.
        instead: Command -> what is run in its place.
    """

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        *,
        home: str,
        skipped: Sequence[str],
        instead: Mapping[str, str],
    ) -> None:
        self._folder = folder
        self._environ = environ
        self._home = home
        self._skipped = tuple(skipped)
        self._instead = instead
        self._service: subprocess.Popen[bytes] | None = None
        self.log = folder / "log"

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._service:
            self._service.terminate()
            assert self._service.wait(DEADLINE_S) == 0

    def follow(self, text: str) -> list[str]:
        """Write the files, run the commands, compare the answers; returns the commands that were run."""
        done = []
        for block in read_blocks(text):
            if block.file:
                (self._folder / block.file).write_text(block.text, encoding="utf-8")
            elif block.language == "text":
                self.expect_logged(block.text)
            elif block.language == "console":
                for command in read_commands(block):
                    if not command.line.startswith(self._skipped):
                        self._run(command)
                        done.append(command.line)
        return done

    def expect_logged(self, expected: str) -> None:
        """Wait until lines are in the log of what was started, in any order."""
        self._wait_until(self._logged, expected)

    def _run(self, command: Command) -> None:
        line = self._instead.get(command.line, command.line)
        if line.startswith(_SERVICE):
            assert not self._service
            with self.log.open("wb") as log:
                self._service = subprocess.Popen(
                    shlex.split(line), cwd=self._folder, env=dict(self._environ), stdout=log, stderr=log
                )
            self.expect_logged(command.answer)
            return
        if line.startswith(_ASKS):
            self._wait_until(self._answered, line, command.answer)
        else:
            difference = self._answered(line, command.answer)
            assert not difference, difference

    def _answered(self, line: str, expected: str) -> str:
        """What is wrong with a command's answer; empty if nothing."""
        run = subprocess.run(
            ["sh", "-c", line],
            cwd=self._folder,
            env=dict(self._environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=DEADLINE_S,
        )
        answer = run.stdout.decode().replace(str(self._folder), self._home)
        given, wanted = mask(answer), mask(expected)
        # Other instances on this machine are none of ours; results and remarks meet on the terminal in any order.
        fits = set(wanted) <= set(given) if line.startswith("ps ") else sorted(given) == sorted(wanted)
        return "" if fits else f"$ {line}\n{answer}\ninstead of\n{expected}"

    def _logged(self, expected: str) -> str:
        """What is missing in the log; empty if nothing."""
        log = self.log.read_text().replace(str(self._folder), self._home)
        said = "\n".join(mask(log))
        missing = [line for line in mask(expected) if line not in said]
        return f"{missing} is not in\n{log}" if missing else ""

    def _wait_until(self, what_is_wrong: object, *arguments: str) -> None:
        assert callable(what_is_wrong)
        deadline = time.monotonic() + DEADLINE_S
        while difference := what_is_wrong(*arguments):
            assert time.monotonic() < deadline, difference
            time.sleep(0.2)
