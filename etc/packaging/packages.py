"""Builds the wheel and the source archive so that every build of one commit gives the same bytes, and tries them.

Usage:
    packages.py build DIST          build both into the folder DIST, and print their hashes
    packages.py check               build twice, compare, look inside, and install with pip, pipx and uv

What is not under version control does not get into a package. The time stamps are those of $SOURCE_DATE_EPOCH, else of
the last commit.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
IN_WHEEL = (
    "pylantir/py.typed", "pylantir/testing/__init__.py", "pylantir/web/pages/templates/", "pylantir/web/pages/static/",
    "workers/commands/pylantir.service", "data/share/pylantir/demo/pylantir.json", "/demo/data/bookings.ics",
    "data/share/pylantir/container/Containerfile", "data/share/pylantir/systemd/pylantir.service",
    "data/share/pylantir/logrotate/pylantir", "data/share/pylantir/examples/plugins/icalendar_file.py",
    "dist-info/licenses/LICENSE",
)  # fmt: skip
IN_SOURCES = (
    "docs/README.md", "docs/howto/csv.md", "etc/demo/pylantir.json", "etc/container/Containerfile",
    "etc/systemd/pylantir.service", "etc/examples/order_folder/pyproject.toml", "tests/conftest.py", "CHANGELOG.md",
    "Makefile", "LICENSE", "pylantir/py.typed", ".dockerignore",
)  # fmt: skip
RELATIVE_LINK = re.compile(r"\]\((?!https?:)")
_TRIED = (
    ["pylantir", "--version"],
    ["pylantir-supervisor", "--version"],
    ["pylantir", "init"],
    ["pylantir-supervisor", "check"],
    ["pylantir", "preview", "bookings"],
    ["pylantir-supervisor", "install-unit", "--print"],
)


def main(arguments: Sequence[str]) -> int:
    """Build, or build and check."""
    if len(arguments) == 2 and arguments[0] == "build":
        for path in build(Path(arguments[1])):
            print(f"{digest(path)}  {path.name}")
    elif list(arguments) == ["check"]:
        check()
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


def build(dist: Path) -> list[Path]:
    """Build both packages into a folder; return the source archive and the wheel."""
    epoch = source_date_epoch()
    dist.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        sources = copy_sources(Path(folder) / "sources")
        built = Path(folder) / "built"
        built.mkdir()
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0"}
        os.umask(0o022)
        for kind in ("wheel", "sdist"):
            code = f"import setuptools.build_meta as b, sys; b.build_{kind}(sys.argv[1])"
            run([sys.executable, "-c", code, str(built)], cwd=sources, env=environment)
        packages = []
        for path in sorted(built.iterdir(), key=lambda one: one.suffix):
            target = dist / path.name
            if path.suffix == ".gz":
                rewrite_archive(path, target, epoch)
            else:
                shutil.copy(path, target)
            packages.append(target)
    return packages


def source_date_epoch() -> int:
    """Return the time that the files of the packages get."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip() else 1_700_000_000


def copy_sources(target: Path) -> Path:
    """Copy what is under version control, or in an unpacked source archive everything."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = [name for name in listed.stdout.split("\0") if name] if listed.returncode == 0 else []
    if not names:
        unwanted = shutil.ignore_patterns(".venv*", "*.egg-info", "__pycache__", "build", "dist", ".*_cache", "run")
        return Path(shutil.copytree(ROOT, target, ignore=unwanted))
    for name in names:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def rewrite_archive(path: Path, target: Path, epoch: int) -> None:
    """Write a source archive anew, in order of the names, without the builder's name and clock."""
    buffer = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda one: one.name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.mtime = member.type, member.size, epoch
            plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(plain, old.extractfile(member) if member.isfile() else None)
    with target.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=epoch) as packed:
        packed.write(buffer.getvalue())


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check() -> None:
    """Build twice, compare, look inside, install with each installer."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (build(Path(folder) / name) for name in ("first", "second"))
        for one, other in zip(first, second, strict=True):
            expect(digest(one) == digest(other), f"two builds of {one.name} differ")
        archive, wheel = first
        with tarfile.open(archive) as tar:
            look_for(IN_SOURCES, tar.getnames(), archive)
        with zipfile.ZipFile(wheel) as packed:
            names = packed.namelist()
            look_for(IN_WHEEL, names, wheel)
            metadata = packed.read(next(name for name in names if name.endswith("dist-info/METADATA"))).decode()
        tops = {name.split("/")[0] for name in names if ".dist-info" not in name and ".data/" not in name}
        expect(tops == {"pylantir", "workers"}, f"{wheel.name} holds {tops}")
        for field in ("License-Expression: MIT", "Requires-Python: >=3.11", "Keywords: ", "Classifier: Topic"):
            expect(field in metadata, f'{wheel.name}: its metadata lack "{field}"')
        expect(not RELATIVE_LINK.search(metadata), "a relative link leads nowhere on a package index")
        expect("Project-URL" not in metadata, "the project's address is not known")
        print(f"{len(names)} files in {wheel.name}; two builds are alike")
        # An environment where only what the package asks for is installed; the downloads run side by side.
        with ThreadPoolExecutor() as pool:
            for told in pool.map(lambda install: install(wheel, Path(folder)), (with_pip, with_pipx, with_uv)):
                print(told)


def look_for(wanted: Sequence[str], names: Sequence[str], package: Path) -> None:
    """Make sure that a package has certain files."""
    for one in wanted:
        expect(any(one in name for name in names), f"{package.name} lacks {one}")


def with_pip(wheel: Path, folder: Path) -> str:
    """Install into a new virtual environment with pip."""
    environment = folder / "pip"
    run([sys.executable, "-m", "venv", str(environment)])
    run([str(environment / "bin/python"), "-m", "pip", "install", *_QUIET, str(wheel)])
    code = "import pylantir.testing, importlib.metadata as m; print(m.version('pylantir'))"
    run([str(environment / "bin/python"), "-c", code])
    return f"pip: {try_commands(environment / 'bin', folder / 'pip-home')}"


def with_pipx(wheel: Path, folder: Path) -> str:
    """Install as an application of its own with pipx."""
    home = {"PIPX_HOME": str(folder / "pipx"), "PIPX_BIN_DIR": str(folder / "pipx-bin"), "PIPX_MAN_DIR": str(folder)}
    run([sys.executable, "-m", "pipx", "install", "--quiet", str(wheel)], env={**os.environ, **home})
    return f"pipx: {try_commands(folder / 'pipx-bin', folder / 'pipx-home')}"


def with_uv(wheel: Path, folder: Path) -> str:
    """Install as a tool with uv."""
    home = {"UV_TOOL_DIR": str(folder / "uv"), "UV_TOOL_BIN_DIR": str(folder / "uv-bin")}
    command = [sys.executable, "-m", "uv", "tool", "install", "--quiet", "--python", sys.executable, str(wheel)]
    run(command, env={**os.environ, **home})
    return f"uv: {try_commands(folder / 'uv-bin', folder / 'uv-home')}"


_QUIET = ["--quiet", "--disable-pip-version-check"]


def try_commands(programs: Path, home: Path) -> str:
    """Run the programs in an empty folder; return the version that they tell."""
    home.mkdir()
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}
    said = [run([str(programs / command[0]), *command[1:]], cwd=home, env=environment) for command in _TRIED]
    return said[0].strip()


def run(command: Sequence[str], **options: object) -> str:
    """Run a command; print what it said, and end, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def expect(is_right: bool, otherwise: str) -> None:
    """End the program with a message unless something holds."""
    if not is_right:
        sys.exit(f"packages: {otherwise}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
