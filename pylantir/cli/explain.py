"""`pylantir explain`: why does this item not appear for that query, or on that scanner?"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import sys
from collections.abc import Iterable, Sequence

from pylantir.cli.database import reading
from pylantir.cli.output import print_json, print_rows
from pylantir.dicom.find.explanation import Reason, explain_item, make_identifier
from pylantir.dicom.find.matching import parse_query
from pylantir.dicom.find.serving import for_station, limited, profile_limits, serving_limits
from pylantir.errors import ExitStatus, PylantirError
from pylantir.settings import DicomSettings, Settings
from pylantir.store.read.worklist import find_item, find_matching

_COLUMNS = {"rule": "RULE", "wanted": "WANTED", "found": "THE ITEM HAS", "verdict": "MET"}
_ANYBODY = "ANY"


def explain(settings: Settings, options: argparse.Namespace) -> int:
    """Print every rule that the item has to meet; the exit status is 0 if it meets them all."""
    today = datetime.date.today()  # noqa: DTZ011 - the site's day
    keys = read_keys(options.key or ())
    caller = options.calling or next(iter(settings.dicom.allowed_aet), _ANYBODY)
    with reading(settings.db_url) as connection:
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
    if options.json:
        print_json([dataclasses.asdict(reason) for reason in reasons])
    else:
        rows = [{**dataclasses.asdict(reason), "verdict": "yes" if reason.is_met else "NO"} for reason in reasons]
        print_rows(_COLUMNS, rows, nothing="no rule applies")
    unmet = [reason.rule for reason in reasons if not reason.is_met]
    said = f"does not appear: {'; '.join(unmet)}" if unmet else "appears"
    print(f"item {options.item} {said} for {caller}", file=sys.stderr)
    return ExitStatus.FAILURE if unmet else ExitStatus.OK


def read_keys(written: Sequence[str]) -> dict[str, str]:
    """Read `KEYWORD=VALUE`, as findscu's `-k` takes it.

    Raises:
        PylantirError: One has no `=`.
    """
    keys = {}
    for key in written:
        path, equals, value = key.partition("=")
        if not equals:
            raise PylantirError(f'--key {key}: expected KEYWORD=VALUE, as "PatientID=SUB001"')
        keys[path.rpartition(".")[2]] = value
    return keys


def explain_place(item_id: int, matches: Iterable[object], caller: str, settings: DicomSettings) -> list[Reason]:
    """Whether an item comes early enough among all matches for the scanner's `max_answers`."""
    limit = settings.profile_of(caller).max_answers
    if limit is None:
        return []
    place = next(number for number, match in enumerate(matches, start=1) if match == item_id)
    found = f"place {place} by date and time"
    return [Reason(rule="modalities.max_answers", wanted=f"the first {limit}", found=found, is_met=place <= limit)]
