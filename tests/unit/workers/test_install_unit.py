"""The systemd unit of an installation."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pylantir.errors import ConfigurationError, PylantirError
from workers.commands.unit import Places, make_unit, places_of

PROGRAM = Path("/opt/pylantir/bin/pylantir-supervisor")
USUAL = Path("/etc/pylantir/pylantir.json")


def made(
    config: Path | str = USUAL, program: Path | str = PROGRAM, *written: str, user: str | None = None
) -> list[str]:
    places = Places(program=Path(program), config=Path(config), written=tuple(map(Path, written)), user=user)
    return make_unit(places).splitlines()


@pytest.fixture(autouse=True)
def python_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/opt/pylantir")
    monkeypatch.setattr(sys, "base_prefix", "/usr")


def test_the_template_is_the_unit_of_the_usual_places() -> None:
    template = (Path(__file__).parents[3] / "etc/systemd/pylantir.service").read_text()
    assert template.endswith("\n".join(made()) + "\n")


def test_program_configuration_and_secrets_are_this_installations() -> None:
    unit = made("/srv/mri/mwl.json", "/srv/venv/bin/pylantir-supervisor")
    assert "ExecStart=/srv/venv/bin/pylantir-supervisor start --config /srv/mri/mwl.json" in unit
    assert "ExecReload=/srv/venv/bin/pylantir-supervisor reload --config /srv/mri/mwl.json" in unit
    assert "EnvironmentFile=-/srv/mri/environment" in unit
    assert not any("/opt/pylantir" in line or "/etc/pylantir" in line for line in unit)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/srv/a b.json", '"/srv/a b.json"'),
        ("/srv/100%.json", "/srv/100%%.json"),
        ("/srv/it's.json", '"/srv/it\'s.json"'),
        ('/srv/"x".json', '"/srv/\\"x\\".json"'),
        (r"/srv/a\1.json", r'"/srv/a\\1.json"'),
        ("/srv/ü#?.json", "/srv/ü#?.json"),
    ],
)
def test_a_path_is_written_so_that_systemd_reads_it_as_one(path: str, word: str) -> None:
    assert f"ExecStart={PROGRAM} start --config {word}" in made(path)


def test_a_path_that_no_line_can_hold_is_refused() -> None:
    with pytest.raises(PylantirError, match="cannot name such a path"):
        made("/srv/a\nUser=root")


@pytest.mark.parametrize(
    ("config", "program", "written", "expected"),
    [
        (USUAL, PROGRAM, [], "ProtectHome=yes"),
        ("/home/ann/p.json", PROGRAM, [], "ProtectHome=read-only"),
        (USUAL, "/root/venv/bin/pylantir-supervisor", [], "ProtectHome=read-only"),
        (USUAL, PROGRAM, ["/home/ann"], "ProtectHome=no"),
        ("/homes/p.json", PROGRAM, [], "ProtectHome=yes"),
        ("/tmp/p.json", PROGRAM, [], "PrivateTmp=no"),
    ],
)
def test_nothing_that_is_needed_is_hidden(config: Path, program: Path, written: list[str], expected: str) -> None:
    assert expected in made(config, program, *written)


def test_a_database_elsewhere_may_be_written_and_its_owner_is_the_user() -> None:
    unit = made(USUAL, PROGRAM, "/srv/data", user="mri")
    assert {"ReadWritePaths=/srv/data", "DynamicUser=no", "User=mri"} <= set(unit)
    assert "DynamicUser=yes" not in unit


def test_the_folders_come_from_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "p.json"
    config.write_text(json.dumps({"db_path": "data/w.db", "runtime_dir": "/run/pylantir", "data_sources": []}))
    assert places_of(str(config), {}).written == (tmp_path / "data",)
    config.write_text(json.dumps({"data_sources": []}))
    assert places_of(str(config), {}).written == ()


def test_a_configuration_may_still_have_to_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert places_of("later.json", {}).config == tmp_path / "later.json"
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigurationError):
        places_of("broken.json", {})
