"""Walks a newcomer's way with the built package, and writes what was typed, what came back and how long it took.

Usage: python benchmarks/newcomer.py docs/explanation/newcomer.md     (or `make newcomer`)

In an empty folder: install, a first worklist, a scanner, three exports of one's own, a plugin of one's own. Nothing is
installed outside the folder; everything that is started is stopped.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FIRST_FETCH_S = 60
"""The scanner asks again until the first fetch is stored, at most so long."""
LONGEST = 14
"""Lines of an answer that are shown."""
EXPORTS = {
    "termine.csv": (
        "cp1252",
        """\
Termin-ID;Patientennummer;Nachname;Vorname;Geburtsdatum;Geschlecht;Datum;Uhrzeit;Untersuchung
T-1;4711;Muster;Erika;12.08.1964;w;03.12.2030;08:15;Schädel
T-2;4712;Beispiel;Max;01.02.1981;m;03.12.2030;09:00;Knie links
""",
    ),
    "schedule.txt": (
        "utf-16",
        """\
MRI schedule
MRN\tLast Name\tFirst Name\tDOB\tGender\tAppt Date\tAppt Time\tExam
100234\tDoe\tJane\t5/17/1980\tFemale\t12/13/2030\t9:30 AM\tMRI BRAIN
100977\tRoe\tJosé\t11/30/1955\tMale\t12/13/2030\t2:15 PM\tMRI KNEE LEFT
""",
    ),
    "bookings.json": (
        "utf-8",
        """\
{"bookings": [
  {"id": 501, "subject": {"id": "AB12", "gender": "female", "birthDate": "1980-05-17"}, "start": "2030-12-03T10:30:00"},
  {"id": 502, "subject": {"id": "AB13", "gender": "male", "birthDate": "1955-11-03"}, "start": "2030-12-03T11:15:00"}
]}
""",
    ),
}
"""Exports of one's own: encoding and contents."""


def own_export(name: str) -> list[str]:
    """List the steps from an export, in a folder of its own, to a scanner that sees it."""
    source = Path(name).stem
    return [
        f"cd {source}",
        f"iconv -f {EXPORTS[name][0]} -t utf-8 {name} | head -3",
        f"pylantir init --from {name}",
        "pylantir-supervisor check",
        f"pylantir preview {source} --limit 1",
        "pylantir-supervisor start --detach",
        "pylantir test-client",
        "pylantir-supervisor stop",
        "cd ..",
    ]


CHAPTERS = {
    "Install": ["python3 -m venv venv", "venv/bin/pip install --quiet pylantir"],
    "A first worklist": [
        "pylantir init",
        "pylantir-supervisor check",
        "pylantir-supervisor start --detach",
        "pylantir query-db",
        "pylantir test-client",
    ],
    "A scanner": [
        "pylantir test-client --echo --calling MRI_1",
        "pylantir test-client --calling MRI_1 --patient 'EXAMPLE*'",
        "pylantir explain --last MRI_1",
        "pylantir-supervisor log mwl-scp",
        "pylantir-supervisor stop",
    ],
    "A German booking list: semicolons, day first, cp1252": own_export("termine.csv"),
    "A spreadsheet's Unicode text: tabs, month first, a title line, UTF-16": own_export("schedule.txt"),
    "A booking system's JSON: nested objects": own_export("bookings.json"),
    "A plugin of one's own": [
        "pylantir new-plugin ward_list",
        "venv/bin/pip install --quiet pytest",
        "venv/bin/pytest -q plugins/tests/test_ward_list.py",
        "pylantir plugins",
    ],
}


def main(target: Path) -> int:
    """Walk, and write the page."""
    chapters: list[str] = []
    times: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        home, port = Path(folder) / "worklist", server.getsockname()[1]
        server.close()
        home.mkdir()
        for name, (encoding, contents) in EXPORTS.items():
            path = home / Path(name).stem / name
            path.parent.mkdir()
            path.write_text(contents, encoding=encoding)
        wheel = build(Path(folder) / "dist")
        walker = Walker(home, wheel, port)
        try:
            for title, commands in CHAPTERS.items():
                began = time.monotonic()
                told = "\n".join(walker.run(command) for command in commands)
                times.append((title, time.monotonic() - began))
                chapters.append(f"## {title}\n\n```text\n{told}\n```\n")
        finally:
            walker.stop()
    target.write_text(page(times, chapters), encoding="utf-8")
    return 0


def build(dist: Path) -> Path:
    """Build the wheel."""
    command = [sys.executable, str(ROOT / "etc/packaging/packages.py"), "build", str(dist)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(dist.glob("*.whl"))


class Walker:
    """Runs the commands in a folder."""

    def __init__(self, home: Path, wheel: Path, port: int) -> None:
        self._home = self._folder = home
        self._wheel = wheel
        self._port = str(port)
        path = os.pathsep.join([str(home / "venv/bin"), *os.get_exec_path()])
        unwanted = ("PYLANTIR_CONFIG", "PYTHONPATH", "VIRTUAL_ENV")
        inherited = {name: value for name, value in os.environ.items() if name not in unwanted}
        self._environ = {**inherited, "PATH": path, "HOME": str(home), "LC_ALL": "C.UTF-8"}

    def run(self, command: str) -> str:
        """Run a command; return it with its answer and its time.

        Raises:
            SystemExit: It failed.
        """
        if command.startswith("cd "):
            self._folder = (self._folder / command.removeprefix("cd ")).resolve()
            return f"$ {command}"
        line = command.replace("install --quiet pylantir", f"install --quiet {self._wheel}")
        began = time.monotonic()
        done = self._shell(line)
        while "no matches" in done.stdout and time.monotonic() < began + _FIRST_FETCH_S:
            time.sleep(0.2)
            done = self._shell(line)
        took = time.monotonic() - began
        if done.returncode:
            raise SystemExit(f"{command}: status {done.returncode}\n{done.stdout}")
        for path in self._folder.glob("pylantir.json"):
            # Another program may have the usual port.
            path.write_text(path.read_text(encoding="utf-8").replace("4242", self._port), encoding="utf-8")
        said = done.stdout.replace(str(self._home), "/home/you/worklist").replace(self._port, "4242")
        lines = [
            row for row in said.splitlines() if row.strip() and not row.startswith(("WARNING: Location", "[notice]"))
        ]
        shown = [*lines[:LONGEST], "…"] if len(lines) > LONGEST else lines
        return "\n".join([f"$ {command}    ({took:.1f} s)", *shown])

    def stop(self) -> None:
        """Stop what still runs."""
        for path in [*self._home.glob("pylantir.json"), *self._home.glob("*/pylantir.json")]:
            self._shell(f"pylantir-supervisor stop --config {path}")

    def _shell(self, line: str) -> subprocess.CompletedProcess[str]:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        options = {"cwd": self._folder, "env": self._environ, "text": True, "timeout": 900, **streams}
        return subprocess.run(["sh", "-c", line], check=False, **options)  # type: ignore[call-overload, no-any-return]


def page(times: list[tuple[str, float]], chapters: list[str]) -> str:
    """Write the page."""
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.0f}"
    rows = "\n".join(f"| {title} | {took:.0f} s |" for title, took in times)
    total = sum(took for _, took in times)
    return f"""\
# A newcomer's way, timed

`make newcomer` has walked this way and written this page ({machine}): everything that was
typed, what came back (long answers are cut), and how long the machine took. The time for reading and thinking comes on
top. Three exports, each in another form, become a worklist that a scanner sees; no configuration is written by hand.

| step | time |
|---|---|
{rows}
| **together** | **{total:.0f} s** |

""" + "\n".join(chapters)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
