"""The configuration file is found, and so is the instance that runs with it."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylantir.config import locate
from pylantir.errors import ConfigurationError, PylantirError
from workers.child.log_file import log_of


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in ("tmp", "login", "site"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "site")
    return {"TMPDIR": str(tmp_path / "tmp"), "XDG_RUNTIME_DIR": str(tmp_path / "login")}


def test_file_is_looked_for_in_the_agreed_order(tmp_path: Path, environ: dict[str, str]) -> None:
    for name in ("argument.json", "variable.json", "pylantir.json"):
        Path(name).write_text("{}")
    site = tmp_path / "site"
    assert locate.find_configuration(None, environ) == site / "pylantir.json"
    environ["PYLANTIR_CONFIG"] = "variable.json"
    assert locate.find_configuration(None, environ) == site / "variable.json"
    assert locate.find_configuration("argument.json", environ) == site / "argument.json"


def test_missing_file_is_told_with_all_places(environ: dict[str, str], tmp_path: Path) -> None:
    if Path("/etc/pylantir/pylantir.json").exists():
        pytest.skip("this machine has a configuration of its own")
    with pytest.raises(ConfigurationError) as caught:
        locate.find_configuration(None, environ)
    for place in ("--config", "$PYLANTIR_CONFIG", f"{tmp_path}/site/pylantir.json", "/etc/pylantir/pylantir.json"):
        assert place in str(caught.value)


def test_named_file_that_is_absent_is_no_reason_to_take_another(environ: dict[str, str]) -> None:
    Path("pylantir.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"gone\.json: no such configuration file \(named by --config\)"):
        locate.find_configuration("gone.json", environ)
    with pytest.raises(ConfigurationError, match=r"is a folder, not a file \(named by \$PYLANTIR_CONFIG\)"):
        locate.find_configuration(None, environ | {"PYLANTIR_CONFIG": "."})


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A file in a folder that this user may not enter, and a descriptor that was opened before."""
    file = tmp_path / "closed" / "file"
    file.parent.mkdir()
    user = os.geteuid()
    with file.open("w") as stream:
        file.parent.chmod(0)
        os.seteuid(user or pwd.getpwnam("nobody").pw_uid)
        yield file, stream.fileno()
        os.seteuid(user)
    file.parent.chmod(0o700)


def test_what_is_in_a_closed_folder_is_told_and_raises_nothing(closed: tuple[Path, int]) -> None:
    file, descriptor = closed
    assert locate.fault_of(file) == "this user may not read it"
    with pytest.raises(ConfigurationError, match=r"file: this user may not read it \(named by --config\)"):
        locate.find_configuration(str(file), {})
    assert log_of(descriptor) == str(file)


def test_default_runtime_folder_is_per_file_and_follows_links(tmp_path: Path, environ: dict[str, str]) -> None:
    first, second, link = (tmp_path / name for name in ("a.json", "b.json", "link.json"))
    first.write_text("{}")
    link.symlink_to(first)
    default = locate.default_runtime_dir(first, environ)
    assert default.parent == tmp_path / "login"
    assert default == locate.default_runtime_dir(link, environ)
    assert default != locate.default_runtime_dir(second, environ)
    assert locate.default_runtime_dir(first, {"TMPDIR": environ["TMPDIR"]}).parent == tmp_path / "tmp"
    assert locate.default_runtime_dir(first, environ | {"RUNTIME_DIRECTORY": "/run/p:/run/q"}) == Path("/run/p")


@pytest.mark.parametrize("later", ["{", '{"runtime_dir": 3}', '{"runtime_dir": "other"}', None])
def test_running_instance_is_found_whatever_became_of_its_file(
    tmp_path: Path, environ: dict[str, str], later: str | None
) -> None:
    path, run = tmp_path / "pylantir.json", tmp_path / "run"
    path.write_text('{"runtime_dir": "run"}')
    assert locate.find_runtime_dirs(path, environ)[0] == run
    locate.make_private_directory(run)
    locate.remember_runtime_dir(path, run, environ)
    if later is None:
        path.unlink()
    else:
        path.write_text(later)
    assert locate.find_runtime_dirs(path, environ)[0] == run
    # A command outside the login session does not see its folder.
    assert locate.find_runtime_dirs(path, {"TMPDIR": environ["TMPDIR"]})[0] == run


def test_orderly_end_leaves_no_note(tmp_path: Path, environ: dict[str, str]) -> None:
    path, run = tmp_path / "pylantir.json", tmp_path / "run"
    run.mkdir()
    locate.remember_runtime_dir(path, run, environ)
    locate.forget_runtime_dir(path, environ)
    locate.forget_runtime_dir(path, environ)
    assert [*(tmp_path / "tmp").iterdir(), *(tmp_path / "login").iterdir()] == []
    assert locate.find_runtime_dirs(path, environ)[0] == locate.default_runtime_dir(path, environ)


def test_note_in_a_folder_that_others_can_enter_is_not_trusted(tmp_path: Path, environ: dict[str, str]) -> None:
    path, run = tmp_path / "pylantir.json", tmp_path / "run"
    run.mkdir()
    locate.remember_runtime_dir(path, run, environ)
    for folder in [*(tmp_path / "tmp").iterdir(), *(tmp_path / "login").iterdir()]:
        folder.chmod(0o755)
    assert run not in locate.find_runtime_dirs(path, environ)


def test_old_configuration_keeps_the_working_directory(tmp_path: Path, environ: dict[str, str]) -> None:
    path = tmp_path / "pylantir.json"
    path.write_text('{"runtime_dir": "run", "redcap2wl": {}}')
    assert locate.find_runtime_dirs(path, environ)[0] == tmp_path / "site" / "run"


def test_private_folder_is_made_closed_and_never_taken_from_others(tmp_path: Path) -> None:
    made = tmp_path / "a" / "b"
    locate.make_private_directory(made)
    locate.make_private_directory(made)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    empty, shared = tmp_path / "empty", tmp_path / "shared"
    for folder in (empty, shared):
        folder.mkdir(mode=0o755)
    locate.make_private_directory(empty)
    assert stat.S_IMODE(empty.stat().st_mode) == 0o700
    (shared / "file").touch()
    with pytest.raises(PylantirError, match="other users can enter it"):
        locate.make_private_directory(shared)
    (tmp_path / "link").symlink_to(made)
    with pytest.raises(PylantirError, match="expected a folder"):
        locate.make_private_directory(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir(mode=0o700)
    os.chown(foreign, 12345, 12345)
    with pytest.raises(PylantirError, match="belongs to another user"):
        locate.make_private_directory(foreign)
