"""The README, followed word for word: the demo, then a configuration of one's own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from pages import REPOSITORY, Reader
from ports import free_port


def section(title: str, port: int) -> str:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    return text.split(f"## {title}\n")[1].split("\n## ")[0].replace("4242", str(port))


def test_demo_looks_as_shown(tmp_path: Path, environ: Mapping[str, str], port: int) -> None:
    shutil.copytree(REPOSITORY / "etc", tmp_path / "etc")
    config = "etc/demo/pylantir.json"
    # Another instance on this machine may serve its pages on the demo's port.
    written = (tmp_path / config).read_text(encoding="utf-8")
    (tmp_path / config).write_text(written.replace("4280", str(free_port())), encoding="utf-8")
    demo = f"pylantir-supervisor start --config {config} --port {port}"
    own = {**environ, "PYLANTIR_CONFIG": config}
    with Reader(tmp_path, own, home="/home/you/pylantir", skipped=["export "], instead={"make demo": demo}) as reader:
        assert len(reader.follow(section("See it run", port))) == 4
    assert [path.name for path in (tmp_path / "run/demo").iterdir()] == ["worklist.db"]


def test_own_configuration_works_as_written(tmp_path: Path, environ: Mapping[str, str], port: int) -> None:
    with Reader(tmp_path, environ, home="/home/you/my-worklist", skipped=["unset "], instead={}) as reader:
        done = reader.follow(section("Your own, in five minutes", port))
        assert done[-1] == "pylantir-supervisor start"
        reader.expect_logged("source exams: new items 1-2")
