"""Commands that show patients tell the writer what they have shown to whom.

A command passes it through the running supervisor, after its result is printed. Where no supervisor runs, nobody can
write it down: whoever may read the database file can read it with any other program, too, without a row.
"""

from __future__ import annotations

import argparse
import os
import pwd
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pylantir.cli.supervisor import ask_instance, find_named
from pylantir.errors import ControlError, NotRunning, PylantirError
from pylantir.ipc.accesses import Access, write_accesses

MOST_ITEMS_AT_ONCE = 2000
"""So many item numbers fit into one request to the supervisor."""
STORED_WITHIN_S = 5.0
_UNSET_LOGIN = 2**32 - 1
_NO_QUESTION = frozenset({"config", "json", "csv", "run", "command", "shown", "version"})
"""Options that say where to look or how to print, not what is asked."""


def note_shown(options: argparse.Namespace, matches: int, item_ids: Iterable[Any] = ()) -> None:
    """Note what a command is about to show; `tell_shown` passes it on.

    Args:
        options: The command's.
        matches: How many rows it shows.
        item_ids: The items among them.
    """
    options.shown = matches, sorted({int(item_id) for item_id in item_ids if item_id is not None})


def tell_shown(options: argparse.Namespace, status: int) -> None:
    """Pass on what a command has shown, if it has shown anything; a failure is a remark on stderr."""
    if not hasattr(options, "shown"):
        return
    matches, item_ids = options.shown
    asked = [name for name, value in vars(options).items() if value and name not in _NO_QUESTION]
    portions = [item_ids[at : at + MOST_ITEMS_AT_ONCE] for at in range(0, len(item_ids), MOST_ITEMS_AT_ONCE)] or [[]]
    for portion in portions:
        access = Access(
            service=f"command {options.command}",
            address="localhost",
            peer=machine_user(),
            asked=", ".join(asked),
            status=str(int(status)),
            matches=matches if len(portions) == 1 else len(portion),
            item_ids=portion,
            moments=[time.time_ns() // 1000],
        )
        request = {**write_accesses("", [access]), "command": "note-access"}
        try:
            ask_instance(find_named(options.config), request, timeout_s=STORED_WITHIN_S, wait_for_names=False)
        except NotRunning:
            return
        except (PylantirError, ControlError, OSError) as error:
            print(f"pylantir: this may be missing from the access log: {error}", file=sys.stderr)
            return


def machine_user() -> str:
    """Return the name of the user who logged in to this machine, also where sudo has changed it since."""
    number = os.getuid()
    with suppress(OSError, ValueError):
        login = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
        number = number if login == _UNSET_LOGIN else login
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
