"""Finds the configuration file, and the sockets of the instance that runs with it.

Lives in every command and in the supervisor, so it imports neither pydantic nor anything else that is slow.
A running instance is found even if the file has become invalid meanwhile.
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

from pylantir.config.sections.legacy import SOURCE_NAME, is_old
from pylantir.errors import ConfigurationError, PylantirError

CONFIG_VARIABLE = "PYLANTIR_CONFIG"
USUAL_PLACES = ("pylantir.json", "/etc/pylantir/pylantir.json")
LOCK_NAME = "supervisor.lock"
"""Name of the lock file in the runtime folder; the process that holds the lock is the instance."""
_POINTER = "location"


def find_configuration(argument: str | None, environ: Mapping[str, str]) -> Path:
    """Find the configuration file: `--config`, `$PYLANTIR_CONFIG`, then the usual places.

    Args:
        argument: The value of `--config`, or None.
        environ: The environment.

    Returns:
        The absolute path of a file that exists. Symbolic links are not resolved: relative paths start at the link.

    Raises:
        ConfigurationError: The named file does not exist, or there is none in any usual place.
    """
    named = argument or environ.get(CONFIG_VARIABLE)
    if named:
        path = resolve_path(named, Path.cwd())
        problem = fault_of(path, "no such configuration file")
        if problem is None:
            return path
        origin = "--config" if argument else f"${CONFIG_VARIABLE}"
        raise ConfigurationError([f"{path}: {problem} (named by {origin})"])
    places = [Path(place).absolute() for place in USUAL_PLACES]
    for path in places:
        if os.path.isfile(path):  # noqa: PTH113 - unlike pathlib, it raises for no folder that is closed to us
            return path
    looked_at = ", ".join(["--config (not given)", f"${CONFIG_VARIABLE} (not set)", *map(str, places)])
    advice = "name one with --config FILE, or write one with `pylantir init`"
    raise ConfigurationError([f"no configuration file: looked at {looked_at}; {advice}"])


def default_runtime_dir(config_path: Path, environ: Mapping[str, str]) -> Path:
    """Return the folder for sockets and locks if the file names none; each user and file has a folder of its own.

    Returns:
        `$RUNTIME_DIRECTORY` (systemd), else a folder in `$XDG_RUNTIME_DIR` or the temporary directory.
    """
    given = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(given).absolute() if given else _named_folders(config_path, environ)[0]


def find_runtime_dirs(config_path: Path, environ: Mapping[str, str]) -> list[Path]:
    """List where the instance that runs with this file may have its sockets, the likeliest first.

    First comes the folder that the instance noted at its start, since the file may have been edited meanwhile, or be
    invalid or gone. Then follow the folder that the file names, as far as the file can be read, the defaults, and the
    folders that other users' instances of this file would use.
    """
    configured = _configured_runtime_dir(config_path)
    own = [*_noted_folders(config_path, environ), *([configured] if configured else ())]
    own += [default_runtime_dir(config_path, environ), *_named_folders(config_path, environ)]
    others = []
    for folder in _folders_of_others(config_path, environ):
        noted = _read_note(folder)
        others += [noted, folder] if noted else [folder]
    return list(dict.fromkeys([*own, *others]))


def remember_runtime_dir(config_path: Path, runtime_dir: Path, environ: Mapping[str, str]) -> list[str]:
    """Note where this instance has its sockets, for `find_runtime_dirs`. The supervisor repeats this regularly.

    Returns:
        The notes that could not be written, and why. They are a convenience: commands find a configured
        `runtime_dir` without them.
    """
    problems = []
    for folder in _named_folders(config_path, environ):
        if folder == runtime_dir and not (folder / _POINTER).exists():
            continue
        try:
            make_private_directory(folder)
            if _read_note(folder) != runtime_dir.absolute():
                draft = folder / f"{_POINTER}.new"
                draft.write_text(f"{runtime_dir.absolute()}\n", encoding="utf-8")
                draft.replace(folder / _POINTER)
        except (PylantirError, OSError) as error:
            problems.append(f"commands without this configuration's runtime_dir will not find this instance: {error}")
    return problems


def forget_runtime_dir(config_path: Path, environ: Mapping[str, str]) -> None:
    """Delete the notes of `remember_runtime_dir`. The supervisor calls it when it ends in order."""
    for folder in _named_folders(config_path, environ):
        if not _is_foreign(folder):
            with contextlib.suppress(OSError):
                (folder / _POINTER).unlink(missing_ok=True)
                folder.rmdir()


def users_of_supervisors() -> set[int]:
    """List the users whose supervisors run on this machine."""
    found = set()
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():  # noqa: PTH112, PTH208
        if name.isdigit():
            with contextlib.suppress(OSError):
                # Not the owner of the folder in /proc: that is root for a process whose memory is closed to others.
                status = dict(line.split(b":", 1) for line in Path(f"/proc/{name}/status").read_bytes().splitlines())
                if status[b"Name"].strip() == b"pyl:supervisor":
                    found.add(int(status[b"Uid"].split()[1]))
    return found


def source_names(config_path: Path) -> set[str]:
    """List the sources of a configuration file by name, as far as it can be read; it need not be valid."""
    try:
        document = json.loads(config_path.read_text(encoding="utf-8-sig"))
        if is_old(document):
            return {SOURCE_NAME}
        return {str(source["name"]) for source in document["data_sources"] if "name" in source}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def fault_of(path: Path, missing: str = "no such file") -> str | None:
    """Say why a file that somebody has named cannot be read; None if it can.

    Args:
        path: The file. The folder that it is in may be closed to this user.
        missing: What to say where there is none.
    """
    try:
        mode = path.stat().st_mode
    except PermissionError:
        return "this user may not read it"
    except OSError:
        return missing
    if not stat.S_ISREG(mode):
        return "is a folder, not a file" if stat.S_ISDIR(mode) else missing
    return None if os.access(path, os.R_OK) else "this user may not read it"


def resolve_path(path: str, base_dir: Path) -> Path:
    """Make a configured path absolute: `~` is the home folder, a relative one starts from `base_dir`."""
    # pathlib's own expanduser raises for a user that does not exist.
    return Path(os.path.normpath(base_dir / os.path.expanduser(path)))  # noqa: PTH111


def make_private_directory(path: Path) -> None:
    """Make a folder (and its parents) that only this user can enter.

    Raises:
        PylantirError: The path is no folder, or belongs to another user. Or others can enter it and it is not
            empty: it may be a system folder, which must not be closed to them. Or it cannot be made; the message
            says why.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise PylantirError(f"{path}: expected a folder, found something else") from None
        if found.st_uid != os.geteuid():
            msg = f"{path}: belongs to another user ({user_name(found.st_uid)}); set another runtime_dir"
            raise PylantirError(msg) from None
        if stat.S_IMODE(found.st_mode) & 0o077:
            if any(path.iterdir()):
                raise PylantirError(
                    f"{path}: other users can enter it; close it with chmod 700, or set another runtime_dir"
                ) from None
            path.chmod(0o700)
    except OSError as error:
        msg = f"{path}: cannot be made: {error.strerror}; make it for this user, or set another runtime_dir"
        raise PylantirError(msg) from None


def _named_folders(config_path: Path, environ: Mapping[str, str]) -> list[Path]:
    """List the folders named after user and file, in the login session's folder and in the temporary directory.

    A command that runs without a login session (cron, sudo) sees only the latter.
    """
    name = f"pylantir-{user_name(os.geteuid())}-{_fingerprint(config_path)}"
    return [parent / name for parent in _parents(environ)]


def user_name(uid: int) -> str:
    """Return a user's name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _parents(environ: Mapping[str, str]) -> list[Path]:
    login = environ.get("XDG_RUNTIME_DIR", "")
    parents = [Path(environ.get("TMPDIR") or tempfile.gettempdir())]
    if login and os.access(login, os.W_OK | os.X_OK):
        parents.insert(0, Path(login))
    return [parent.absolute() for parent in parents]


def _fingerprint(config_path: Path) -> str:
    return f"{zlib.crc32(os.fsencode(os.path.realpath(config_path))):08x}"


def _folders_of_others(config_path: Path, environ: Mapping[str, str]) -> list[Path]:
    """List the existing folders with the name that another user's instance of this file would choose."""
    pattern = f"pylantir-*-{_fingerprint(config_path)}"
    found = []
    for parent in _parents(environ):
        with contextlib.suppress(OSError):
            found += [folder for folder in sorted(parent.glob(pattern)) if _is_foreign(folder)]
    return found


def _is_foreign(folder: Path) -> bool:
    try:
        return folder.lstat().st_uid != os.geteuid()
    except OSError:
        return False


def _noted_folders(config_path: Path, environ: Mapping[str, str]) -> list[Path]:
    """List the folders that this user's notes name; another user's notes could make `stop` end the wrong process."""
    notes = [_read_note(folder) for folder in _named_folders(config_path, environ) if not _is_foreign(folder)]
    return [noted for noted in notes if noted]


def _read_note(folder: Path) -> Path | None:
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o077:
            return None
        noted = (folder / _POINTER).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return Path(noted) if noted else None


def _configured_runtime_dir(config_path: Path) -> Path | None:
    try:
        document = json.loads(config_path.read_text(encoding="utf-8-sig"))
        runtime_dir = document["runtime_dir"]
        base_dir = Path.cwd() if is_old(document) else config_path.absolute().parent
        return resolve_path(runtime_dir, base_dir)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
