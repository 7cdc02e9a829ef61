"""What to do next about a source: one answer for the page `/sources` and for `status --watch`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def next_steps(process: Mapping[str, Any], held: int) -> list[str]:
    """Say what to do next about a source; what stands in backquotes is a command.

    Args:
        process: The source, as `status --json` describes it.
        held: How many of its removals are held back.
    """
    name, state = str(process["name"]), str(process.get("state"))
    problem, rejected = process.get("problem") or process.get("last_error"), process.get("rejected") or 0
    said = []
    if held:
        said.append(
            f"{held} removals are held back: too many vanished at once. Look whether the source is right "
            f"(`pylantir accept {name} --show` lists them); if they are cancelled indeed: `pylantir accept {name}`"
        )
    if state == "FATAL":
        said.append("Correct the configuration, then: `pylantir-supervisor reload`")
    elif state == "BACKOFF":
        said.append(f"It is started again by itself. What it said: `pylantir-supervisor log {name}`")
    elif problem and not held:
        said.append(f"It is tried again by itself. To try at once: `pylantir-supervisor sync {name}`")
    if state in {"DISABLED", "NOT CONFIGURED"} and process.get("only_items"):
        said.append(f"It alone gives {process['only_items']} items. To withdraw them: `pylantir forget {name}`")
    if rejected:
        said.append(f"Correct the {rejected} refused records in the source: `pylantir rejects --source {name}`")
    return said
