"""`pylantir explain`: says why an item does not appear for a query, or on a scanner."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import warnings
from collections.abc import Mapping, Sequence

from pylantir.cli.accesses.shown import note_shown
from pylantir.cli.database import reading
from pylantir.cli.output import print_json
from pylantir.dicom.find.explanation import KEYWORDS, Reason, explain_item, explain_place, make_identifier
from pylantir.dicom.find.matching import parse_query
from pylantir.dicom.find.serving import for_station, limited, profile_limits, serving_limits
from pylantir.errors import ExitStatus, InvalidQuery, PylantirError, WrongUsage
from pylantir.printing import printable
from pylantir.programs.arguments import unknown_name
from pylantir.settings import Settings
from pylantir.store.read.worklist import find_item, find_matching

_ANYBODY = "ANY"


def explain(settings: Settings, options: argparse.Namespace) -> int:
    """Say in one sentence whether a scanner gets an item, and why not; the exit status is 0 if it does.

    With `--json`: every rule that the item has to meet.
    """
    # The library's warnings about a key's form do not answer the question, so they are not shown.
    warnings.simplefilter("ignore")
    today = datetime.date.today()  # noqa: DTZ011 - the site's day
    keys = read_keys(options.key or ())
    caller = options.calling or next(iter(settings.dicom.allowed_aet), _ANYBODY)
    with reading(settings) as connection:
        item = find_item(connection, options.item)
        if item is None:
            raise PylantirError(f"no item {options.item}; `pylantir query-db --all` lists them")
        reasons = explain_item(item, keys, caller, settings.dicom, today)
        if all(reason.is_met for reason in reasons):
            query = for_station(parse_query(make_identifier(keys)).query, caller)
            limits = serving_limits(query, settings.dicom.serving, today)
            limits += profile_limits(settings.dicom.profile_of(caller), caller)
            matches = (row["id"] for row in find_matching(connection, limited(query, limits)))
            reasons += explain_place(options.item, matches, caller, settings.dicom)
    note_shown(options, 1, [options.item])
    unmet = [reason for reason in reasons if not reason.is_met]
    if options.json:
        print_json([dataclasses.asdict(reason) for reason in reasons])
    else:
        print(printable(_sentence(options.item, caller, keys, unmet)))
    return ExitStatus.FAILURE if unmet else ExitStatus.OK


def _sentence(item_id: int, caller: str, keys: Mapping[str, str], unmet: Sequence[Reason]) -> str:
    """Say in one sentence whether an item appears, what was asked, and which rules exclude it."""
    asked = " and ".join(f"{name} = {value}" if value else f"{name} (any)" for name, value in keys.items())
    query = f"the query {asked}" if asked else "a query without keys"
    scanner = "any scanner" if caller == _ANYBODY else caller
    if not unmet:
        return f"item {item_id} appears on {scanner} for {query}."
    return f"item {item_id} does not appear on {scanner} for {query}: {'; '.join(map(str, unmet))}."


def read_keys(written: Sequence[str]) -> dict[str, str]:
    """Read `KEYWORD=VALUE`, as findscu's `-k` takes it.

    Raises:
        WrongUsage: One of the texts has no `=`, or names no key of the worklist, or its value is illegal.
    """
    keys = {}
    for key in written:
        path, equals, value = key.partition("=")
        if not equals:
            raise WrongUsage(f'--key {key}: expected KEYWORD=VALUE, as "PatientID=SUB001"')
        keyword = path.rpartition(".")[2]
        if keyword not in KEYWORDS:
            raise WrongUsage(unknown_name("key", keyword, KEYWORDS))
        keys[keyword] = value
    try:
        parse_query(make_identifier(keys))
    except InvalidQuery as error:
        raise WrongUsage(f"--key: {error}") from None
    return keys
