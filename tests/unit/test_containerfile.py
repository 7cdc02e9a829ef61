"""The container file: its context has what the build needs and no more, its commands exist. `make image` builds it."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from workers.commands.cli import make_parser

REPOSITORY = Path(__file__).parents[2]
TEXT = re.sub(r"\\\n\s*", "", (REPOSITORY / "etc/container/Containerfile").read_text(encoding="utf-8"))
STEPS = [
    (line.split(None, 1)[0], line.split(None, 1)[1]) for line in TEXT.splitlines() if line and not line.startswith("#")
]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def last(instruction: str) -> str:
    return [rest for name, rest in STEPS if name == instruction][-1]


def in_context(path: str) -> bool:
    """Whether `.dockerignore` lets a path into the context: the last line that fits it, or a folder above it, decides."""
    is_in = True
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!").strip()
        if not pattern or pattern.startswith("#"):
            continue
        parts = path.split("/")
        above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
        if any(fnmatch.fnmatch(one, pattern) or fnmatch.fnmatch("/" + one, pattern) for one in above):
            is_in = line.startswith("!")
    return is_in


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    names = listed.stdout.split()
    return names or [str(path.relative_to(REPOSITORY)) for path in REPOSITORY.rglob("*.py")]


def test_only_known_instructions_are_used() -> None:
    known = {"ARG", "FROM", "COPY", "RUN", "USER", "WORKDIR", "ENV", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK",
             "ENTRYPOINT", "CMD"}  # fmt: skip
    assert {name for name, _ in STEPS} <= known


def test_the_context_has_all_that_the_package_is_built_from() -> None:
    needed = {"pyproject.toml", "MANIFEST.in", "LICENSE", PROJECT["project"]["readme"]}
    needed |= {
        file for files in PROJECT["tool"]["setuptools"]["data-files"].values() for file in files if "*" not in file
    }
    needed |= {name for name in tracked() if name.startswith(("pylantir/", "workers/"))}
    assert [name for name in sorted(needed) if not in_context(name)] == []


@pytest.mark.parametrize(
    "path",
    [
        ".git/config", ".env", "etc/demo/.env", "pylantir/.env", "tests/conftest.py", "docs/README.md", "run/demo/worklist.db",
        "etc/demo/worklist.db", "etc/demo/worklist.db-wal", ".venv/bin/python", "pylantir/__pycache__/x.pyc", "secrets.json",
    ],
)  # fmt: skip
def test_secrets_data_and_what_is_not_needed_stay_out_of_the_context(path: str) -> None:
    assert not in_context(path)


def test_the_commands_of_the_image_exist() -> None:
    program, *_ = json.loads(last("ENTRYPOINT"))
    arguments = json.loads(last("CMD"))
    assert program in PROJECT["project"]["scripts"]
    make_parser().parse(arguments)
    asked, *arguments = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert asked == program
    make_parser().parse(arguments)


def test_what_is_installed_has_the_extras_that_the_package_offers() -> None:
    (extras,) = re.findall(r"'/src\[(.*?)\]'", TEXT)
    assert set(extras.split(",")) == set(PROJECT["project"]["optional-dependencies"]) - {"dev", "docs"}


def test_a_user_of_its_own_runs_it_and_owns_its_folders() -> None:
    user, environment = last("USER"), dict(pair.split("=", 1) for pair in last("ENV").split())
    setup = last("RUN")
    assert f"useradd --system --home-dir {environment['STATE_DIRECTORY']} {user}" in setup
    assert f"install -d -o {user} -m 0700 {environment['STATE_DIRECTORY']} {environment['RUNTIME_DIRECTORY']}" in setup
    assert last("VOLUME") == last("WORKDIR") == environment["STATE_DIRECTORY"]
    order = [name for name, _ in STEPS]
    assert order.index("USER") > max(place for place, name in enumerate(order) if name == "RUN")
