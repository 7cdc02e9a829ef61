"""What both programs make of their command lines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from pylantir.cli.program.options import make_parser as make_pylantir
from pylantir.programs.arguments import COMMANDS, SHELLS, ProgramParser, completion
from pylantir.programs.begin import foreign_workers
from workers.commands.cli import make_parser as make_supervisor

PROGRAMS = pytest.mark.parametrize("make", [make_pylantir, make_supervisor])
FOLDER = Path(sys.executable).parent


def run(*command: str | Path, folder: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=os.environ | environ, timeout=60, check=False
    )


def refusal(parser: ProgramParser, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a program says of arguments that it does not take."""
    with pytest.raises(SystemExit) as ended:
        parser.parse(arguments)
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


@PROGRAMS
def test_what_a_program_can_do_is_known_to_the_other(make: Callable[[], ProgramParser]) -> None:
    parser = make()
    assert set(parser.commands) - {"completion"} <= set(COMMANDS[parser.prog])


def test_the_supervisors_program_has_all_that_the_other_one_names() -> None:
    assert set(make_supervisor().commands) - {"completion"} == set(COMMANDS["pylantir-supervisor"])


@pytest.mark.parametrize(
    ("make", "word", "said"),
    [
        (make_pylantir, "status", "that is `pylantir-supervisor status`"),
        (make_pylantir, "qurey-db", 'did you mean "query-db"'),
        (make_pylantir, "stauts", "did you mean `pylantir-supervisor status`"),
        (make_pylantir, "xyzzy", "`pylantir --help` lists the commands"),
        (make_supervisor, "query-db", "that is `pylantir query-db`"),
        (make_supervisor, "relaod", 'did you mean "reload"'),
        (make_supervisor, "preveiw", "did you mean `pylantir preview`"),
        (make_supervisor, "", "lists the commands"),
    ],
)
def test_an_unknown_command_is_answered_with_the_near_one_or_the_other_program(
    make: Callable[[], ProgramParser], word: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refusal(make(), [word], capsys)


@pytest.mark.parametrize(
    ("make", "arguments", "said"),
    [
        (make_supervisor, [], "a command is missing; `pylantir-supervisor --help` lists them"),
        (make_supervisor, ["--config", "x.json", "status"], "`pylantir-supervisor status --config …`"),
        (make_supervisor, ["--config=x.json", "status"], "`pylantir-supervisor status --config …`"),
        (make_pylantir, ["--json", "query-db", "--all"], "`pylantir query-db --json …`"),
        (make_pylantir, ["--pylantir_config", "x.json", "start"], "`pylantir start --pylantir_config …`"),
    ],
)
def test_options_before_the_command_are_told_their_place(
    make: Callable[[], ProgramParser], arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refusal(make(), arguments, capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["query-db", "--status", "CANCELLED"], ["query-db", "--status", "x"], ["set-status", "abc", "COMPLETED", "--reason", "r"],
        ["set-status", "1", "DONE", "--reason", "r"], ["audit", "--entry", "-1"], ["explain", "²"], ["explain", "1.5"],
        ["test-client", "--port", "70000"], ["test-client", "--calling", "A_SCANNER_WITH_A_LONG_NAME"],
        ["test-mpps", "--AEtitle", "a\\b"], ["test-client", "--calling", "Müller"], ["preview", "a", "--limit", "0"], ["query-db", "--patient", ""],
        ["access", "--scanner", " "], ["set-status", "1", "COMPLETED", "--reason", ""], ["preview", ""],
        ["query-db", "--config", ""], ["query-db", "today"],
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_meant_is_refused_in_words(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(make_pylantir(), arguments, capsys)
    assert "invalid _" not in said
    if "CANCELLED" in arguments:
        assert "did you mean CANCELED" in said


@pytest.mark.parametrize(
    ("make", "arguments", "said"),
    [
        (make_pylantir, ["query-db", "--patinet", "P1"], "unknown option --patinet: did you mean --patient?"),
        (make_pylantir, ["query-db", "--soruce=a"], "unknown option --soruce: did you mean --source?"),
        (make_pylantir, ["query-db", "--xyzzy"], "`pylantir query-db --help` lists them"),
        (make_supervisor, ["start", "--prot", "1"], "unknown option --prot: did you mean --port?"),
        (make_supervisor, ["stop", "now"], 'unexpected "now"'),
    ],
)
def test_an_unknown_option_is_answered_with_the_near_one(
    make: Callable[[], ProgramParser], arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refusal(make(), arguments, capsys)


@pytest.mark.parametrize("command", [["pylantir"], ["pylantir-supervisor"], ["python", "-m", "pylantir"]])
def test_the_version_is_that_of_the_installed_package(command: list[str]) -> None:
    name, *rest = command
    done = run(FOLDER / name, *rest, "--version")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, version("pylantir"), "")


@PROGRAMS
@pytest.mark.parametrize("shell", SHELLS)
def test_a_completion_names_every_command_and_option(make: Callable[[], ProgramParser], shell: str) -> None:
    parser = make()
    text = completion(parser, shell)
    for name, command in parser.commands.items():
        assert name in text
        for action in command._actions:
            for option in action.option_strings:
                assert option.lstrip("-") in text


@PROGRAMS
def test_bash_completes_commands_options_and_files(make: Callable[[], ProgramParser], tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash
    parser = make()
    (tmp_path / "a.json").touch()
    script = tmp_path / "completion"
    script.write_text(completion(parser, "bash"))
    function = "_" + parser.prog.replace("-", "_")

    def complete(*words: str) -> set[str]:
        program = f'source completion; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); {function}; echo "${{COMPREPLY[@]}}"'
        return set(run(bash, "-c", program, "bash", parser.prog, *words, folder=tmp_path).stdout.split())

    assert complete("star") == {"start"}
    assert "--config" in complete("start", "--")
    assert complete("start", "--config", "a") == {"a.json"}


def test_the_processes_package_is_ours() -> None:
    assert foreign_workers() is None


def test_a_foreign_package_of_the_same_name_is_noticed_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").write_text("raise ImportError('somebody else')\n")
    done = run(FOLDER / "pylantir-supervisor", "status", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "`workers` is another program's package" in line
    assert str(tmp_path) in line


def test_an_empty_entry_of_the_path_is_not_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("raise AssertionError\n")
    program = (
        "import os; from pylantir.programs.import_path import ignore_empty_entries; ignore_empty_entries(); "
        "import colorsys; print(os.environ['PYTHONPATH'])"
    )
    project = str(Path(__file__).parents[2])
    for given, left in ((f":{project}", project), (f"{project}:", project), (":", "")):
        done = run(sys.executable, "-P", "-c", program, folder=tmp_path, PYTHONPATH=given)
        assert (done.returncode, done.stdout) == (0, f"{left}\n"), done.stderr
    named = run(sys.executable, "-P", "-c", program, folder=tmp_path, PYTHONPATH=f":{tmp_path}")
    assert "AssertionError" in named.stderr


def test_a_package_that_was_overwritten_in_its_place_is_noticed_in_one_line(tmp_path: Path) -> None:
    project = Path(__file__).parents[2]
    for name in ("pylantir", "workers"):
        shutil.copytree(project / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "workers" / "__init__.py").write_text('"""Another program\'s."""\n')
    program = "import sys; from pylantir.programs.begin import run_supervisor; sys.exit(run_supervisor())"
    done = run(sys.executable, "-P", "-c", program, "status", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "another distribution has overwritten the package `workers`" in line
