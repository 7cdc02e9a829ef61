"""The environment as the configuration sees it: the real one, completed by `.env` files.

Lives in the configuration check. Nothing is written to `os.environ`: a `.env` file holds secrets of sources, and
each secret is passed to that source's worker only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pylantir.config.messages import Finding, Place


def complete_environment(environ: Mapping[str, str], folders: Iterable[Path]) -> tuple[dict[str, str], list[Finding]]:
    """Return a copy of the environment, completed by the variables in `.env` files.

    Args:
        environ: The real environment; it wins.
        folders: Where to look for `.env`, the most important first.

    Returns:
        The completed copy, and a finding for each `.env` that cannot be read.
    """
    from dotenv import dotenv_values

    completed: dict[str, str] = {}
    findings = []
    for path in dict.fromkeys(folder / ".env" for folder in folders):
        if not os.path.exists(path):  # noqa: PTH110 - unlike pathlib, it raises for no folder that is closed to us
            continue
        try:
            values = dotenv_values(path, encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError):
            findings.append(Finding(place=(), text=f"{path}: cannot be read and is ignored"))
            continue
        completed = {name: value for name, value in values.items() if value is not None} | completed
    return completed | dict(environ), findings


def variables_named_in(config: object, place: Place) -> Iterator[tuple[Place, object]]:
    """Yield the place of every `*_env` key in a section, at any depth, and the variable (or each one) that it names.

    In `headers` the key is called `env`: `{"Authorization": {"env": "TOKEN"}}`.
    """
    in_header = place[-2:-1] == ("headers",)
    if isinstance(config, Mapping):
        for key, value in config.items():
            if key.endswith("_env") and isinstance(value, list):
                yield from (((*place, key, position), one) for position, one in enumerate(value))
            elif (key.endswith("_env") or (in_header and key == "env")) and not isinstance(value, Mapping):
                yield (*place, key), value
            else:
                yield from variables_named_in(value, (*place, key))
    elif isinstance(config, list):
        for position, value in enumerate(config):
            yield from variables_named_in(value, (*place, position))


def check_variable(name: object, environment: Mapping[str, str]) -> str | None:
    """Say what is wrong with a variable that a `*_env` key names, or None.

    The message shows the name only if it looks like a variable's name: users often enter the token itself here.
    """
    unsuitable = "expected the name of an environment variable, got a value that is not shown here"
    if not isinstance(name, str):
        return unsuitable
    if environment.get(name):
        return None
    well_formed = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name)
    like_a_token = sum(char.isdigit() for char in name) > 4 or ("_" not in name and len(name) >= 20)
    if not well_formed or like_a_token:
        return unsuitable
    return f"the environment variable {name} is not set; set it, or add it to a .env file beside this file"
