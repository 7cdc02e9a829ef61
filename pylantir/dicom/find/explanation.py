"""Explains why a scanner does or does not get an item: each rule, and whether the item meets it.

Lives in `pylantir explain`. An item, a query and the configuration come in, reasons go out; the rules are those that
the server follows. Pure: the clock is passed in.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset

from pylantir.dicom.find.attributes import SPS, WIRE_STATUSES, WORKLIST_ATTRIBUTES
from pylantir.dicom.find.encode_responses import encode_item
from pylantir.dicom.find.encode_values import Writing
from pylantir.dicom.find.matching import ParsedQuery, parse_query
from pylantir.dicom.find.serving import Limit, for_station, profile_limits, serving_limits
from pylantir.dicom.text.charset import CharacterSet, charset_name
from pylantir.entry import WORKLIST_FIELDS
from pylantir.errors import PylantirError
from pylantir.query import WorklistQuery, item_matches, single_conditions
from pylantir.settings import DicomSettings

_QUERYABLE = {attribute.keyword: attribute for attribute in WORKLIST_ATTRIBUTES if attribute.path in {(), (SPS,)}}
KEYWORDS = tuple(sorted(name for name, attribute in _QUERYABLE.items() if attribute.matching != "none"))
"""The keys by which a query can select."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One rule.

    Attributes:
        rule: The key of the query, or the setting.
        wanted: What it asks for.
        found: What the item has; empty where it has nothing.
        is_met: Whether that will do.
    """

    rule: str
    wanted: str
    found: str
    is_met: bool

    def __str__(self) -> str:
        """Say why the item does not appear, if the rule is not met."""
        if self.rule == "allowed_aet":
            return f"allowed_aet admits {self.wanted}: {self.found} may not ask at all"
        return f"{self.rule} wants {self.wanted or 'a value'}, the item has {self.found or 'none'}"


def make_identifier(keys: Mapping[str, str]) -> Dataset:
    """Build the identifier of a query that asks for everything and matches these keys.

    Args:
        keys: DICOM keyword -> value as DICOM writes it.

    Raises:
        PylantirError: A keyword is not one of the worklist's.
    """
    for keyword in keys:
        if keyword not in _QUERYABLE:
            raise PylantirError(f"{keyword}: not a key of the worklist; known are {', '.join(KEYWORDS)}")
    identifier, step = Dataset(), Dataset()
    for keyword, attribute in _QUERYABLE.items():
        if attribute.vr != "SQ":
            setattr(step if attribute.path else identifier, keyword, keys.get(keyword) or None)
    setattr(identifier, SPS, [step])
    return identifier


def explain_item(
    item: Mapping[str, object], keys: Mapping[str, str], caller: str, settings: DicomSettings, today: datetime.date
) -> list[Reason]:
    """List every rule that decides whether a query brings an item to a scanner.

    Args:
        item: Worklist field, and `id`, -> value as stored.
        keys: What the query asks for: DICOM keyword -> value.
        caller: The scanner's AE title.
        settings: What is served, to whom.
        today: The site's day.

    Raises:
        InvalidQuery: The keys make no query.
        PylantirError: A keyword is not one of the worklist's.
    """
    return explain_query(item, parse_query(make_identifier(keys)), keys, caller, settings, today)


def explain_query(
    item: Mapping[str, object],
    parsed: ParsedQuery,
    keys: Mapping[str, str],
    caller: str,
    settings: DicomSettings,
    today: datetime.date,
) -> list[Reason]:
    """As `explain_item`, of a query that has been read already; `keys` are its values as written, where known."""
    reasons = list(_explain_admission(caller, settings))
    for field, condition in single_conditions(for_station(parsed.query, caller)):
        fields = (field, "scheduled_start_time") if condition.period else (field,)
        given = [
            (keyword, keys[keyword])
            for keyword in keys
            if _QUERYABLE[keyword].fields[:1] and _QUERYABLE[keyword].fields[0] in fields
        ]
        rule = " and ".join(keyword for keyword, _ in given) or " and ".join(map(_keyword_of, fields))
        reasons.append(_reason(rule, condition, fields, item, given))
    limits = serving_limits(parsed.query, settings.serving, today)
    limits += profile_limits(settings.profile_of(caller), caller)
    reasons += [_explain_limit(limit, item) for limit in limits]
    reasons += _explain_response(item, parsed, caller, settings)
    return reasons


def explain_place(item_id: int, matches: Iterable[object], caller: str, settings: DicomSettings) -> list[Reason]:
    """Whether an item comes early enough among all matches for the scanner's `max_answers`."""
    limit = settings.profile_of(caller).max_answers
    if limit is None:
        return []
    place = next(number for number, match in enumerate(matches, start=1) if match == item_id)
    found = f"place {place} by date and time"
    return [Reason(rule="modalities.max_answers", wanted=f"the first {limit}", found=found, is_met=place <= limit)]


def _keyword_of(field: str) -> str:
    return next((keyword for keyword, attribute in _QUERYABLE.items() if attribute.fields[:1] == (field,)), field)


def _explain_admission(caller: str, settings: DicomSettings) -> Iterator[Reason]:
    if settings.allowed_aet:
        wanted = ", ".join(settings.allowed_aet)
        yield Reason(rule="allowed_aet", wanted=wanted, found=caller, is_met=caller in settings.allowed_aet)


def _explain_limit(limit: Limit, item: Mapping[str, object]) -> Reason:
    ((field, condition),) = single_conditions(limit.query)
    return _reason(limit.origin, condition, (field,), item, [])


def _reason(
    rule: str,
    condition: WorklistQuery,
    fields: tuple[str, ...],
    item: Mapping[str, object],
    given: list[tuple[str, str]],
) -> Reason:
    found = " ".join(str(item.get(field) or "") for field in fields).strip()
    if fields[0] == "performed_procedure_step_status" and given:
        found = WIRE_STATUSES.get(found, found)
    wanted = " and ".join(value for _, value in given) or _in_words(condition)
    return Reason(rule=rule, wanted=wanted, found=found, is_met=item_matches(condition, item))


def _in_words(condition: WorklistQuery) -> str:
    for accepted in condition.equal.values():
        return " or ".join(accepted)
    for accepted in condition.equal_or_unknown.values():
        return " or ".join((*accepted, "none"))
    for pattern in condition.like.values():
        return pattern
    for low, high in (*condition.ranges.values(), *((condition.period,) if condition.period else ())):
        if low and high:
            return low if low == high else f"{low}-{high}"
        return f"{low} or later" if low else f"{high} or earlier"
    return ""


def _explain_response(
    item: Mapping[str, object], parsed: ParsedQuery, caller: str, settings: DicomSettings
) -> Iterator[Reason]:
    """List the rules about fields that may not be empty (PS3.4 table K.6-1, type 1) or may only be sent unchanged."""
    terms = settings.profile_of(caller).charset
    charset = CharacterSet(terms) if terms else None
    batch = encode_item(item, parsed, Writing(explicit_vr=False, station_aet=caller, charset=charset))
    for _, field in batch.left_out:
        yield Reason(rule="a value that no answer may lack", wanted=field, found="", is_met=False)
    for _, field in batch.unfit:
        rule = "an identifier is sent exactly as it is, or not at all"
        wanted = f"{field} of at most {WORKLIST_FIELDS[field].max_length} characters in {charset_name(terms)}"
        yield Reason(rule=rule, wanted=wanted, found=str(item.get(field)), is_met=False)
