"""`pylantir plugins` and `pylantir schema`: show which source types and keys a configuration may use."""

from __future__ import annotations

import argparse

from pylantir.cli.output import print_json, print_rows
from pylantir.config.models.configuration import configuration_schema
from pylantir.data_sources.registry import discover
from pylantir.errors import ExitStatus
from pylantir.settings import Settings


def show_plugins(settings: Settings, options: argparse.Namespace) -> int:
    """Print each source type with its origin, and why other plugin files are unusable. No plugin is run."""
    catalogue = discover(settings.plugin_dirs)
    types = [
        {"type": name, "origin": found.origin, "builtin": found.builtin, "targets": list(found.targets)}
        for name, found in sorted(catalogue.types.items())
    ]
    problems = [{"path": problem.path, "reason": problem.reason} for problem in catalogue.problems]
    if options.json:
        print_json({"types": types, "problems": problems})
        return ExitStatus.OK
    columns = {"type": "TYPE", "origin": "ORIGIN", "note": "NOTE"}
    rows = [{**one, "note": "built in" if one["builtin"] else ""} for one in types]
    rows += [{"type": "-", "origin": one["path"], "note": f"not usable: {one['reason']}"} for one in problems]
    print_rows(columns, rows, nothing="no types")
    return ExitStatus.OK


def show_schema() -> int:
    """Print the configuration's JSON Schema."""
    print_json(configuration_schema())
    return ExitStatus.OK
