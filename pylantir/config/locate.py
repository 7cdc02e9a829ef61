"""Which configuration file is meant, and where a running instance of it has its sockets.

Lives in every command and in the supervisor, so it imports neither pydantic nor anything else that is slow.
The file may have become invalid meanwhile: a running instance is found all the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import stat
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from pylantir.config.legacy import is_old
from pylantir.errors import ConfigurationError, PylantirError

CONFIG_VARIABLE = "PYLANTIR_CONFIG"
USUAL_PLACES = ("pylantir.json", "/etc/pylantir/pylantir.json")
_POINTER = "location"


def find_configuration(argument: str | None, environ: Mapping[str, str]) -> Path:
    """Find the configuration file: `--config`, `$PYLANTIR_CONFIG`, then the usual places.

    Args:
        argument: What `--config` said, or None.
        environ: The environment.

    Returns:
        The absolute path of a file that exists. Symbolic links stay: relative paths start at the link.

    Raises:
        ConfigurationError: The file that was named, or every usual place, does not exist.
    """
    named = argument or environ.get(CONFIG_VARIABLE)
    if named:
        path = resolve_path(named, Path.cwd())
        if path.is_file():
            return path
        origin = "--config" if argument else f"${CONFIG_VARIABLE}"
        problem = "is a folder, not a file" if path.is_dir() else "no such configuration file"
        raise ConfigurationError([f"{path}: {problem} (named by {origin})"])
    places = [Path(place).absolute() for place in USUAL_PLACES]
    for path in places:
        if path.is_file():
            return path
    looked_at = ", ".join(["--config (not given)", f"${CONFIG_VARIABLE} (not set)", *map(str, places)])
    advice = "name one with --config FILE, or write one with `pylantir init`"
    raise ConfigurationError([f"no configuration file: looked at {looked_at}; {advice}"])


def default_runtime_dir(config_path: Path, environ: Mapping[str, str]) -> Path:
    """Say where sockets and locks go when the file does not: a folder per user and configuration file.

    Returns:
        `$RUNTIME_DIRECTORY` (systemd), else a folder in `$XDG_RUNTIME_DIR` or the temporary directory.
    """
    given = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(given).absolute() if given else _named_folders(config_path, environ)[0]


def find_runtime_dir(config_path: Path, environ: Mapping[str, str]) -> Path:
    """Find the sockets of the instance that runs with this file, which may be invalid or gone by now.

    What the instance noted at its start comes first, since the file may have been edited meanwhile; then
    what the file says, as far as it can be read; then the default.
    """
    noted = _read_pointer(config_path, environ)
    if noted is not None and noted.is_dir():
        return noted
    return _configured_runtime_dir(config_path) or default_runtime_dir(config_path, environ)


def remember_runtime_dir(config_path: Path, runtime_dir: Path, environ: Mapping[str, str]) -> None:
    """Note where this instance has its sockets, for `find_runtime_dir`. The supervisor calls it at its start.

    Raises:
        PylantirError: A folder of that name belongs to another user.
        OSError: The note cannot be written.
    """
    for folder in _named_folders(config_path, environ):
        if folder == runtime_dir and not (folder / _POINTER).exists():
            continue
        make_private_directory(folder)
        draft = folder / f"{_POINTER}.new"
        draft.write_text(f"{runtime_dir.absolute()}\n", encoding="utf-8")
        draft.replace(folder / _POINTER)


def forget_runtime_dir(config_path: Path, environ: Mapping[str, str]) -> None:
    """Take back what `remember_runtime_dir` noted. The supervisor calls it at its orderly end."""
    for folder in _named_folders(config_path, environ):
        with contextlib.suppress(OSError):
            (folder / _POINTER).unlink(missing_ok=True)
            folder.rmdir()


def resolve_path(path: str, base_dir: Path) -> Path:
    """Make a configured path absolute: `~` is the home folder, a relative one starts from `base_dir`."""
    # pathlib's own expanduser raises for a user that does not exist.
    return Path(os.path.normpath(base_dir / os.path.expanduser(path)))  # noqa: PTH111


def make_private_directory(path: Path) -> None:
    """Make a folder (and its parents) that only this user can enter.

    Raises:
        PylantirError: The path is no folder, belongs to another user, or others can enter it and it holds
            something already (a system's folder, say, that must not be closed to them).
        OSError: It cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise PylantirError(f"{path}: expected a folder, found something else") from None
        if found.st_uid != os.geteuid():
            raise PylantirError(f"{path}: belongs to another user; set another runtime_dir") from None
        if stat.S_IMODE(found.st_mode) & 0o077:
            if any(path.iterdir()):
                raise PylantirError(
                    f"{path}: other users can enter it; close it with chmod 700, or set another runtime_dir"
                ) from None
            path.chmod(0o700)


def _named_folders(config_path: Path, environ: Mapping[str, str]) -> list[Path]:
    """List the folders named after user and file: a login session's, and the temporary directory's.

    A command that runs without a login session (cron, sudo) sees only the latter.
    """
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    fingerprint = zlib.crc32(os.fsencode(os.path.realpath(config_path)))
    name = f"pylantir-{user}-{fingerprint:08x}"
    login = environ.get("XDG_RUNTIME_DIR", "")
    parents = [Path(environ.get("TMPDIR") or tempfile.gettempdir())]
    if login and os.access(login, os.W_OK | os.X_OK):
        parents.insert(0, Path(login))
    return [parent.absolute() / name for parent in parents]


def _read_pointer(config_path: Path, environ: Mapping[str, str]) -> Path | None:
    for folder in _named_folders(config_path, environ):
        try:
            found = folder.lstat()
            # The temporary directory is everybody's: another user's note could lead `stop` astray.
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            if ours and not stat.S_IMODE(found.st_mode) & 0o077:
                noted = (folder / _POINTER).read_text(encoding="utf-8").strip()
                if noted:
                    return Path(noted)
        except (OSError, UnicodeDecodeError):
            continue
    return None


def _configured_runtime_dir(config_path: Path) -> Path | None:
    try:
        document = json.loads(config_path.read_text(encoding="utf-8-sig"))
        runtime_dir = document["runtime_dir"]
        base_dir = Path.cwd() if is_old(document) else config_path.absolute().parent
        return resolve_path(runtime_dir, base_dir)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
