"""The commands of `pylantir`: each function gets the options, imports what it needs, and returns the exit status.

A command that changes data sends its request through the supervisor to the writer.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path

from pylantir.errors import ConfigurationError, StoreError, WrongUsage
from pylantir.settings import DicomSettings, Settings

EVERYBODY = "*"
"""Stands for all scanners in `explain --last`."""


def start(options: argparse.Namespace) -> int:
    """Become the supervisor."""
    from pylantir.cli.supervisor import become_supervisor

    become_supervisor(options)


def accept(options: argparse.Namespace) -> int:
    """Cancel what a source's fetches do not show any more, or show what was held back."""
    if options.show:
        from pylantir.cli.records import show_held

        return show_held(_load(options), options)
    return _change(options, {"command": "accept", "name": options.source, "dry_run": options.dry_run})


def forget(options: argparse.Namespace) -> int:
    """Withdraw the records of a source that is not fetched any more."""
    from pylantir.cli.database import check_source, reading

    # What cannot be read here is no reason to refuse: the writer decides.
    with contextlib.suppress(ConfigurationError, StoreError):
        settings = _load(options)
        with reading(settings) as connection:
            check_source(options.source, settings.config_path, connection)
    return _change(options, {"command": "forget", "name": options.source, "dry_run": options.dry_run})


def forget_host(options: argparse.Namespace) -> int:
    """End the word of a host that does not run Pylantir any more."""
    from pylantir.cli.database import check_host, reading

    # As above.
    with contextlib.suppress(ConfigurationError, StoreError), reading(_load(options)) as connection:
        check_host(options.host, connection)
    return _change(options, {"command": "forget-host", "name": options.host, "dry_run": options.dry_run})


def set_status(options: argparse.Namespace) -> int:
    """Set an item's status."""
    arguments = {"item": options.item, "status": options.status, "reason": options.reason, "dry_run": options.dry_run}
    return _change(options, {"command": "set-status", **arguments})


def purge(options: argparse.Namespace) -> int:
    """Erase a patient, or delete old items."""
    import datetime

    from pylantir.cli.periods import read_day
    from pylantir.config.locate import user_name

    if options.patient is None and options.before is None:
        raise WrongUsage("purge needs --before DAY or --patient ID")
    if options.patient is not None:
        if not options.patient.strip() or not (options.reason or "").strip():
            raise WrongUsage("purge --patient needs an ID and a --reason, which stays in the audit log")
        erasure = {"patient": options.patient, "reason": options.reason, "by": user_name(os.geteuid())}
        return _change(options, {"command": "purge", **erasure, "dry_run": options.dry_run})
    today = datetime.datetime.now().astimezone().date()
    day = read_day(options.before, today)
    return _change(options, {"command": "purge", "before": day, "dry_run": options.dry_run})


def copy_db(options: argparse.Namespace) -> int:
    """Copy the worklist into an empty database."""
    from pylantir.cli.copy_db import copy_worklist

    return copy_worklist(_load(options), options)


def query_db(options: argparse.Namespace) -> int:
    """Show the worklist, or what scanners have reported."""
    from pylantir.cli.mpps import show_reported
    from pylantir.cli.query_db import show_worklist

    return (show_reported if options.mpps else show_worklist)(_load(options), options)


def test_client(options: argparse.Namespace) -> int:
    """Ask the server as a scanner does."""
    from pylantir.cli.client import ask_server

    return ask_server(_peer_settings(options), options)


def test_mpps(options: argparse.Namespace) -> int:
    """Report a scan as a scanner does."""
    from pylantir.cli.mpps import report_to_server

    return report_to_server(_peer_settings(options), options)


def preview(options: argparse.Namespace) -> int:
    """Fetch a source once and show what its records become."""
    from pylantir.cli.preview import preview_source

    return preview_source(_load(options, with_sources=True), options)


def plugins(options: argparse.Namespace) -> int:
    """Show the source types."""
    from pylantir.cli.describe import show_plugins

    return show_plugins(_load(options), options)


def explain(options: argparse.Namespace) -> int:
    """Show why a scanner does or does not get an item."""
    if (options.item is None) == (options.last is None):
        raise WrongUsage("explain takes an ITEM, or --last")
    if options.last is not None:
        from pylantir.cli.explaining.last import explain_all, explain_last

        settings = _load(options)
        return explain_all(options) if options.last == EVERYBODY else explain_last(settings, options)
    from pylantir.cli.explaining.item import explain

    return explain(_load(options), options)


def conflicts(options: argparse.Namespace) -> int:
    """Show what the sources do not agree about."""
    from pylantir.cli.conflicts import show_conflicts

    return show_conflicts(_load(options), options)


def rejects(options: argparse.Namespace) -> int:
    """Show refused records, or the warnings about others."""
    from pylantir.cli.records import show_rejects, show_warnings

    return (show_warnings if options.warnings else show_rejects)(_load(options), options)


def audit(options: argparse.Namespace) -> int:
    """Show who changed what."""
    from pylantir.cli.records import show_audit

    return show_audit(_load(options), options)


def access(options: argparse.Namespace) -> int:
    """Show who was shown which items."""
    from pylantir.cli.accesses.listing import show_accesses

    return show_accesses(_load(options), options)


def schema(options: argparse.Namespace) -> int:
    """Print the JSON Schema of the configuration file."""
    from pylantir.cli.describe import show_schema

    return show_schema()


def init(options: argparse.Namespace) -> int:
    """Write a first configuration."""
    from pylantir.cli.starters.init import write_configuration

    return write_configuration(options)


def new_plugin(options: argparse.Namespace) -> int:
    """Write a plugin and its test."""
    from pylantir.cli.starters.new_plugin import write_plugin

    return write_plugin(options)


def _change(options: argparse.Namespace, request: dict[str, object]) -> int:
    from pylantir.cli.supervisor import change_data

    return change_data(options, request)


def _peer_settings(options: argparse.Namespace) -> DicomSettings:
    """Return the configured server; no configuration is needed if the options give the address and the titles."""
    try:
        return _load(options).dicom
    except ConfigurationError:
        if options.config or options.host is None or options.port is None:
            raise
        return DicomSettings()


def _load(options: argparse.Namespace, *, with_sources: bool = False) -> Settings:
    """Read the configuration; by default without the sources, whose variables this shell may not have."""
    from pylantir.config.loading import load_settings
    from pylantir.config.locate import find_configuration
    from pylantir.data_sources.registry import discover

    path: Path = find_configuration(options.config, os.environ)
    return load_settings(path, discover=discover, environ=os.environ, with_sources=with_sources)
