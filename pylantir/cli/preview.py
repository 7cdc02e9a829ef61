"""`pylantir preview`: fetches a source once and shows how its records would be mapped. Writes nothing.

The plugin runs in this short-lived process, so it cannot disturb any other. Its prints are counted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import TextIO

from pylantir.cli.accesses.shown import note_shown
from pylantir.cli.output import print_json, print_table
from pylantir.columns import source_names
from pylantir.data_sources.base import BadRecord, DataSourcePlugin, NamesSourceFields
from pylantir.data_sources.registry import load_source
from pylantir.data_sources.trial import map_records, validate
from pylantir.errors import ConfigurationError, ExitStatus, PylantirError, WrongUsage, traceback_of
from pylantir.printing import make_redactor, printable
from pylantir.programs.arguments import unknown_name
from pylantir.programs.closed import without_variables
from pylantir.settings import Settings, SourceSettings
from pylantir.values.known import Warned

SHOWN_BY_DEFAULT = 10
_PROGRESS_EVERY = 100
_COLUMNS = {
    "record": "RECORD",
    "source_field": "SOURCE FIELD",
    "source_value": "SOURCE VALUE",
    "field": "WORKLIST FIELD",
    "value": "VALUE",
}


@dataclass(slots=True)
class Preview:
    """The result of one fetch.

    Attributes:
        entries: Mapped records: `record`, `key`, `source` (what the source has, where that was joined, searched or
            replaced), `given` (as the plugin gave it), `fields` (worklist form).
        rejected: Rejected records: `record`, `field`, `reason`.
        warned: Values that were left out or changed in the mapped records.
        fetched: Number of all records; it may be more than are kept here.
        source_fields: Worklist field -> its name in the source.
        error: Why the fetch ended early.
    """

    entries: list[dict[str, object]] = field(default_factory=list)
    rejected: list[dict[str, object]] = field(default_factory=list)
    warned: Warned = field(default_factory=Counter)
    fetched: int = 0
    source_fields: dict[str, str] = field(default_factory=dict)
    error: str | None = None


def preview_source(settings: Settings, options: argparse.Namespace) -> int:
    """Fetch a source once and print its records."""
    source = _find_source(settings, options.source)
    kept = None if options.json else options.limit or SHOWN_BY_DEFAULT
    output = PluginOutput(sys.stderr, source.secrets, is_shown=settings.log.level == "DEBUG")
    # Only for the plugin: the path of the configuration may be relative to the folder before, and is needed again.
    with (
        chdir(settings.base_dir), only_variables_of(source, settings), _progress(source.name) as show,
        redirect_stdout(output), redirect_stderr(output),
    ):  # fmt: skip
        found = _fetch(source, options.limit, kept, show, output)
    output.finish()
    note_shown(options, found.fetched)
    if options.json:
        print_json({"source": source.name, **_as_json(found)})
    else:
        _print_preview(source, found)
    if found.error:
        print(f"pylantir: {source.name}: {found.error}", file=sys.stderr)
    return ExitStatus.FAILURE if found.error else ExitStatus.OK


class PluginOutput(io.TextIOBase):
    """What a plugin prints: counted, because it may quote patients; shown with the log level DEBUG, without secrets."""

    def __init__(self, target: TextIO, secrets: Iterable[str], *, is_shown: bool) -> None:
        self._target = target
        self._strike_out = make_redactor(secrets)
        self._is_shown = is_shown
        self._begun = ""
        self._hidden = 0

    def write(self, text: str) -> int:
        """Take a piece of output."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._take(line)
        return len(text)

    def show_error(self, error: BaseException) -> None:
        """Show where an exception was raised; its message with the log level DEBUG only."""
        trace = "".join(traceback.format_exception(error)) if self._is_shown else traceback_of(error)
        print(*map(printable, self._strike_out(trace).splitlines()), sep="\n", file=self._target)

    def finish(self) -> None:
        """Take an unfinished line, and say how many were not shown."""
        if self._begun:
            self._take(self._begun)
        if self._hidden:
            print(f"(the plugin printed {self._hidden} lines; the log level DEBUG shows them)", file=self._target)

    def _take(self, line: str) -> None:
        if self._is_shown:
            print(printable(self._strike_out(line)), file=self._target)
        else:
            self._hidden += 1


@contextmanager
def only_variables_of(source: SourceSettings, settings: Settings) -> Iterator[None]:
    """Set the environment variables of one source, and hide every other secret, while its plugin runs here."""
    with without_variables(settings.secret_env):
        os.environ.update(source.env_values)
        try:
            yield
        finally:
            for name in source.env_values:
                os.environ.pop(name, None)


def _find_source(settings: Settings, name: str) -> SourceSettings:
    for source in settings.sources:
        if source.name == name:
            return source
    known = [source.name for source in settings.sources]
    raise WrongUsage(unknown_name("source", name, known))


def _fetch(
    source: SourceSettings, limit: int | None, kept: int | None, show: Callable[[int], None], output: PluginOutput
) -> Preview:
    """Run the plugin as its worker would, for one cycle.

    Raises:
        ConfigurationError: The plugin refuses the source's `config`.
    """
    found = Preview(source_fields=source_names(source.field_mapping))
    try:
        plugin = load_source(source)
        try:
            plugin.shows_source_values = True
            validate(plugin, source)
            _map_all(plugin, source, found, limit, kept, show)
            if isinstance(plugin, NamesSourceFields):
                found.source_fields |= plugin.source_fields()
        finally:
            plugin.cleanup()
    except ConfigurationError as error:
        raise ConfigurationError([make_redactor(source.secrets)(one) for one in error.problems]) from None
    except PylantirError as error:
        if error.__cause__ is not None:
            output.show_error(error.__cause__)
        found.error = make_redactor(source.secrets)(str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin's code
        output.show_error(error)
        found.error = f"plugin {source.plugin.type_name} ({source.plugin.origin}): {type(error).__name__}"
    return found


def _map_all(
    plugin: DataSourcePlugin,
    source: SourceSettings,
    found: Preview,
    limit: int | None,
    kept: int | None,
    show: Callable[[int], None],
) -> None:
    strike_out = make_redactor(source.secrets)
    for one in map_records(plugin, source, found.warned):
        found.fetched += 1
        if isinstance(one, BadRecord):
            told = {"record": one.record, "field": one.field, "reason": one.reason}
            found.rejected.append({name: strike_out(text) for name, text in told.items()})
        elif kept is None or len(found.entries) < kept:
            said = {"source": dict(one.source), "given": dict(one.given), "fields": dict(one.entry.fields)}
            found.entries.append({"record": one.record, "key": one.entry.record_key, **said})
        if found.fetched % _PROGRESS_EVERY == 0:
            show(found.fetched)
        if found.fetched == limit:
            return
    if found.rejected and len(found.rejected) == found.fetched and not plugin.supports_incremental_sync():
        found.error = f"none of the {found.fetched} records that were fetched can be used; a sync fails on that"


def _as_json(found: Preview) -> dict[str, object]:
    entries = [
        {**entry, "given": {name: _plain(value) for name, value in entry["given"].items()}}  # type: ignore[attr-defined]
        for entry in found.entries
    ]
    return {
        "fetched": found.fetched,
        "source_fields": found.source_fields,
        "entries": entries,
        "rejected": found.rejected,
        "warnings": _warnings(found),
        "error": found.error,
    }


def _warnings(found: Preview) -> list[dict[str, object]]:
    return [{"field": name, "reason": reason, "count": count} for (name, reason), count in sorted(found.warned.items())]


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _print_preview(source: SourceSettings, found: Preview) -> None:
    if found.entries:
        print_table(
            _COLUMNS, [row for entry in found.entries for row in lay_side_by_side(entry, source, found.source_fields)]
        )
    if found.rejected:
        print()
        print_table({"record": "REJECTED", "field": "FIELD", "reason": "REASON"}, found.rejected)
    if found.warned:
        print()
        columns = {"field": "LEFT OUT OR CHANGED", "reason": "REASON", "count": "VALUES"}
        print_table(columns, _warnings(found))
    mapped = found.fetched - len(found.rejected)
    shown = "" if len(found.entries) == mapped else f" (the first {len(found.entries)} are shown; see --limit, --json)"
    summary = f"{found.fetched} fetched, {mapped} mapped{shown}, {len(found.rejected)} rejected; nothing is written"
    print(summary, file=sys.stderr)


def lay_side_by_side(
    entry: Mapping[str, object], source: SourceSettings, source_fields: Mapping[str, str]
) -> Iterator[dict[str, object]]:
    """Yield a row per field: its name and value in the source, and the value on the worklist."""
    source_values: Mapping[str, object] = entry["source"]  # type: ignore[assignment]
    given: Mapping[str, object] = entry["given"]  # type: ignore[assignment]
    fields: Mapping[str, object] = entry["fields"]  # type: ignore[assignment]
    record = f"{entry['record']}: {entry['key']}"
    for name in dict.fromkeys((*given, *fields)):
        is_default = given.get(name) in (None, "") and name in fields and name in source.defaults
        yield {
            "record": record,
            "source_field": "(default)" if is_default else source_fields.get(name),
            "source_value": source_values.get(name, given.get(name)),
            "field": name,
            "value": fields.get(name),
        }
        record = ""


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int], None]]:
    """Show on a terminal that a fetch is still running, and how many records have come so far."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console

    text = f"fetching from {printable(name)}"
    with Console(file=sys.stderr, markup=False).status(text) as status:
        yield lambda count: status.update(f"{text}: {count} records")
