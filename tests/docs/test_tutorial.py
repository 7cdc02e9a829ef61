"""The tutorial, followed word for word."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pages import REPOSITORY, Reader


def test_tutorial_works_as_written(tmp_path: Path, environ: Mapping[str, str], port: int) -> None:
    text = (REPOSITORY / "docs/tutorial/first-worklist.md").read_text(encoding="utf-8")
    # Names that no other instance on this machine has: a process is killed by its name.
    text = text.replace("4242", str(port)).replace("exams", f"exams{port}")
    skipped = ("cd ", "mkdir ", "export ", "python3 ", ".venv/bin/pip ")
    with Reader(tmp_path, environ, home="/home/you/first-worklist", skipped=skipped, instead={}) as reader:
        done = reader.follow(text)
        assert done[0] == "pylantir-supervisor check"
        assert done[-2:] == ["pylantir-supervisor stop", "pylantir-supervisor status"]
        for name in ("Lovelace", "Curie", "Hopper", "Noether"):
            assert name not in reader.log.read_text()
