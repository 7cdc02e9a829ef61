"""`pylantir explain --last`: shows a scanner's last query, its answer, and which items were left out and why.

It also shows why a scanner was refused, and of all scanners who asked and who was refused. The server keeps each
scanner's last query and the last refusals in memory; the command asks for it through the running supervisor. It reads
the query as the server did, and applies it to the worklist as it is now.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from pylantir.cli.accesses.shown import note_shown
from pylantir.cli.database import reading
from pylantir.cli.output import local_time, print_json
from pylantir.cli.supervisor import ask_instance, find_named
from pylantir.dicom.find.elements import as_meant, settle_character_set
from pylantir.dicom.find.explanation import explain_query
from pylantir.dicom.find.matching import ParsedQuery, decode_identifier, parse_query
from pylantir.dicom.net.bridge import configure_dicom_libraries
from pylantir.errors import ExitStatus, InvalidQuery
from pylantir.printing import printable
from pylantir.query import WorklistQuery
from pylantir.settings import Settings
from pylantir.store.read.worklist import find_matching

SHOWN_ITEMS = 20
UNREADABLE = "(cannot be read)"
NOT_EVEN_REFUSED = ", and was not refused: its requests do not arrive, or it uses another title; see explain --last"


def explain_last(settings: Settings, options: argparse.Namespace) -> int:
    """Print what a scanner asked last, and why it was refused; the exit status is 1 if it has asked nothing."""
    # As in the server: a value that breaks the rules is read as it is, and no library says so on the terminal.
    configure_dicom_libraries()
    answer = _ask(options, {"command": "last-query", "title": options.last})
    refused = answer.get("refused", [])
    if not answer.get("query"):
        error = f"{options.last} has not asked since the server started"
        if options.json:
            print_json({"error": error, "refused": refused})
        else:
            print(printable(error) + ("" if refused else NOT_EVEN_REFUSED))
            _print_refused(refused)
        return ExitStatus.FAILURE
    told = describe(answer["query"], settings, datetime.date.today())  # noqa: DTZ011 - the site's day
    told["refused"] = refused
    note_shown(options, len(told["left_out"]), (row["item"] for row in told["left_out"]))
    if options.json:
        print_json(told)
    else:
        _print(told)
        _print_refused(refused)
    return ExitStatus.OK


def explain_all(options: argparse.Namespace) -> int:
    """Print who has asked and who was refused; the exit status is 1 if there is nobody."""
    answer = _ask(options, {"command": "scanners"})
    asked, refused = answer.get("asked", {}), answer.get("refused", [])
    if options.json:
        print_json({"asked": asked, "refused": refused})
    else:
        for title, facts in reversed(asked.items()):
            answered = f"answered with {facts['matches']} items, {_status(facts['status'])}"
            print(f"{printable(title)} at {facts['address']} asked {local_time(facts['at'])}, {answered}")
        _print_refused(refused)
        if not asked and not refused:
            print("no scanner has asked since the server started, and none was refused")
    return ExitStatus.OK if asked or refused else ExitStatus.FAILURE


def _ask(options: argparse.Namespace, request: Mapping[str, str]) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = json.loads(str(ask_instance(find_named(options.config), request)["text"]))
    return answer


def _print_refused(refused: Sequence[Mapping[str, Any]]) -> None:
    """Print a refusal on a line, and on the next one what to do about it."""
    for row in refused:
        who = row["address"] if row["calling"] is None else f"{row['calling']} at {row['address']}"
        times = f" ({row['times']} times)" if row["times"] > 1 else ""
        print(f"not served, {local_time(row['at'])}{times}: {printable(who)}: {printable(row['text'])}")
        print(f"  {row['what_to_do']}")


def _status(status: int | None) -> str:
    return "no end" if status is None else f"status 0x{status:04X}"


def describe(facts: Mapping[str, Any], settings: Settings, today: datetime.date) -> dict[str, Any]:
    """Add the query's keys, and their result on the present worklist, to what the server remembers."""
    told = {name: value for name, value in facts.items() if name not in ("identifier", "explicit_vr")}
    told |= {"keys": {}, "not_matched": [], "left_out": []}
    if facts.get("identifier") is None:
        return {**told, "error": str(facts.get("comment") or "the query was too long to be kept")}
    try:
        told["keys"] = dict(_keys(_decoded(facts)))
        parsed = parse_query(_decoded(facts))
    except InvalidQuery as error:
        return {**told, "error": str(error)}
    except Exception as error:  # noqa: BLE001 - pydicom decodes here, and a stranger's bytes raise anything
        return {**told, "error": f"the query cannot be decoded ({type(error).__name__})"}
    told["not_matched"] = [f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in parsed.unsupported]
    told["left_out"] = _left_out(parsed, str(facts["calling"]), settings, today)
    return told


def _decoded(facts: Mapping[str, Any]) -> Dataset:
    """Decode the identifier anew at each call: once pydicom has read an element, it hides that it was cut short."""
    return decode_identifier(base64.b64decode(facts.get("identifier") or ""), explicit_vr=bool(facts["explicit_vr"]))


def _left_out(parsed: ParsedQuery, caller: str, settings: Settings, today: datetime.date) -> list[dict[str, Any]]:
    """List the items that the scanner does not get, each with the reasons; those nearest to a match come first."""
    left_out = []
    with reading(settings) as connection:
        for item in find_matching(connection, WorklistQuery()):
            unmet = [one for one in explain_query(item, parsed, {}, caller, settings.dicom, today) if not one.is_met]
            if unmet:
                left_out.append((len(unmet), item["id"], unmet))
    left_out.sort(key=lambda one: (one[0], -int(str(one[1]))))
    return [{"item": number, "reasons": list(map(str, unmet))} for _, number, unmet in left_out[:SHOWN_ITEMS]]


def _keys(level: Dataset, path: str = "", encodings: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """List every key with its value as the scanner sent it; an empty key only asks for the attribute."""
    encodings = settle_character_set(level, encodings)
    keys: list[tuple[str, str]] = []
    for tag in sorted(level.keys()):
        name = path + (keyword_for_tag(tag) or f"({tag.group:04X},{tag.element:04X})")
        try:
            element = level[tag]
            if element.VR == "SQ":
                keys.append((name, ""))
                for item in element.value or ():
                    keys += _keys(item, f"{name}.", encodings)
            else:
                values = element.value if isinstance(element.value, list) or element.VM > 1 else [element.value]
                text = "\\".join("" if value is None else str(value) for value in values)
                keys.append((name, as_meant(text, is_declared=encodings is not None)))
        except Exception:  # noqa: BLE001 - pydicom decodes here, and a stranger's bytes raise anything
            keys.append((name, UNREADABLE))
    return keys


def _print(told: Mapping[str, Any]) -> None:
    print(f"{told['calling']} at {told['address']} called {told['called']}, {local_time(told['at'])}")
    print(
        f"implementation {told['implementation_version'] or told['implementation_class'] or 'unknown'}, "
        f"transfer syntax {told['transfer_syntax']}, maximum length {told['max_length']}"
    )
    for name, value in told["keys"].items():
        print(f"  {name} = {printable(value)}" if value else f"  {name}")
    if told["not_matched"]:
        print(f"keys that are not matched: {', '.join(told['not_matched'])}")
    said = told.get("error") or told.get("comment") or ""
    print(
        f"answered with {told['matches']} items, {_status(told['status'])}" + (f": {printable(said)}" if said else "")
    )
    for one in told["left_out"]:
        print(f"item {one['item']} left out: {printable('; '.join(one['reasons']))}")
