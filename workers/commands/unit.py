"""`install-unit`: the systemd unit of an installation. Lives in the command; installs nothing.

The template is `pylantir.service` beside this file, which is the unit for the usual places.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pylantir.config.locate import USUAL_PLACES, find_configuration, user_name
from pylantir.errors import ConfigurationError, PylantirError

_TEMPLATE = Path(__file__).with_name("pylantir.service")
_STATE = Path("/var/lib/pylantir")
_RUNTIME = Path("/run/pylantir")
_HOMES = tuple(map(Path, ("/home", "/root", "/run/user")))
_TEMPORARY = tuple(map(Path, ("/tmp", "/var/tmp")))  # noqa: S108 - hidden by the unit, not used


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The paths of an installation that its unit names.

    Attributes:
        program: The command `pylantir-supervisor`.
        config: The configuration file.
        written: Folders outside the unit's own that the processes write to: those of the database and the sockets.
        user: The owner of the first of these folders; None where the unit's own folders suffice.
    """

    program: Path
    config: Path
    written: tuple[Path, ...] = ()
    user: str | None = None


def places_of(argument: str | None, environ: Mapping[str, str]) -> Places:
    """Find this installation's places; a configuration that does not exist yet has the usual place.

    Raises:
        ConfigurationError: The configuration exists but cannot be used; with all problems.
    """
    program = Path(sys.executable).with_name("pylantir-supervisor")
    try:
        config = find_configuration(argument, environ)
    except ConfigurationError:
        if argument and not Path(argument).exists():
            return Places(program=program, config=Path(argument).absolute())
        if argument:
            raise
        return Places(program=program, config=Path(USUAL_PLACES[1]))
    written = _written_folders(config, environ)
    return Places(program=program, config=config, written=written, user=_owner(written))


def make_unit(places: Places) -> str:
    """Fill the template with an installation's places."""
    program, config = _quoted(places.program), _quoted(places.config)
    lines = {
        "ExecStart": f"{program} start --config {config}",
        "ExecReload": f"{program} reload --config {config}",
        "EnvironmentFile": f"-{_escaped(places.config.with_name('environment'))}",
    }
    needed = [places.program, Path(sys.prefix), Path(sys.base_prefix), places.config, *places.written]
    if _any_below(needed, _HOMES):
        lines["ProtectHome"] = "no" if _any_below(places.written, _HOMES) else "read-only"
    if _any_below(needed, _TEMPORARY):
        lines["PrivateTmp"] = "no"
    if places.user:
        lines |= {"DynamicUser": "no", "User": places.user}
    unit = _TEMPLATE.read_text(encoding="utf-8")
    # The template's head says how to install the unit.
    unit = unit[unit.index("[Unit]") :]
    for key, value in lines.items():
        unit = re.sub(rf"^{key}=.*$", lambda _, line=f"{key}={value}": line, unit, flags=re.MULTILINE)  # type: ignore[misc]
    if places.written:
        paths = "".join(f"ReadWritePaths={_quoted(folder)}\n" for folder in places.written)
        unit = unit.replace("UMask=", f"{paths}UMask=")
    return unit


def _written_folders(config: Path, environ: Mapping[str, str]) -> tuple[Path, ...]:
    from pylantir.config.loading import load_settings
    from pylantir.data_sources.registry import discover
    from pylantir.store.schema.sqlite_file import sqlite_path

    given = dict(environ) | {"STATE_DIRECTORY": str(_STATE), "RUNTIME_DIRECTORY": str(_RUNTIME)}
    settings = load_settings(config, discover=discover, environ=given, with_sources=False)
    database = sqlite_path(settings.db_url)
    folders = [database.parent] if database else []
    folders.append(Path(settings.runtime_dir))
    return tuple(dict.fromkeys(folder for folder in folders if not _any_below([folder], (_STATE, _RUNTIME))))


def _owner(folders: Sequence[Path]) -> str | None:
    for folder in folders:
        for existing in (folder, *folder.parents):
            if existing.exists():
                return user_name(existing.stat().st_uid)
    return None


def _any_below(paths: Sequence[Path], folders: Sequence[Path]) -> bool:
    return any(folder in (path, *path.parents) for path in paths for folder in folders)


def _escaped(path: Path) -> str:
    """Escape what systemd would expand, and refuse characters that a line of a unit cannot contain."""
    text = str(path)
    if not text.isprintable():
        raise PylantirError(f"{text!r}: a unit cannot name such a path; move or link it")
    return text.replace("%", "%%")


def _quoted(path: Path) -> str:
    """Write a path as a word of a command or list.

    Source: systemd.service(5), command lines; systemd.syntax(7), quoting.
    """
    text = _escaped(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if re.search(r"[\s'\";\\]", text) else text
