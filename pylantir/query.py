"""A scanner's query in the worklist's own terms: the value that the DICOM side passes to the database side.

`pylantir.dicom` makes a `WorklistQuery` from a C-FIND identifier, `pylantir.store` answers it; neither imports
the other. Both must agree on when a value matches a key: this module defines that exactly, without a database.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

PERSON_NAME_FIELDS = frozenset(
    {"patient_name", "referring_physician_name", "performing_physician", "requesting_physician"}
)
"""The worklist fields with value representation PN, which match by their own rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistQuery:
    """The matching keys of one query; an empty query matches every item. An item must meet all conditions.

    Unless the condition's name says otherwise, an item without a value in its field does not meet it.

    Attributes:
        equal: Worklist field -> accepted values (single value matching, or a list of UIDs); none accepted
            matches nothing.
        equal_or_unknown: As `equal`, but an item without a value meets it too.
        like: Worklist field -> DICOM pattern with `*` and `?`. Person names match case-insensitively.
        ranges: Date or time field -> inclusive bounds in stored form (YYYYMMDD, HHMMSS); None is open.
        unknown_like: Fields of `like` whose condition is also met by an item without a value.
        period: Inclusive bounds YYYYMMDDHHMMSS of scheduled start date and time together; None is open.

    Source: DICOM PS3.4 C.2.2.2 (attribute matching), K.4.1.1.3 (worklist keys).
    """

    equal: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    equal_or_unknown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    like: Mapping[str, str] = field(default_factory=dict)
    unknown_like: frozenset[str] = frozenset()
    ranges: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    period: tuple[str | None, str | None] | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that it has conditions for, each once."""
        names = [*self.equal, *self.equal_or_unknown, *self.like, *self.ranges]
        names += ["scheduled_start_date", "scheduled_start_time"] if self.period else []
        return tuple(dict.fromkeys(names))


def fold_name(text: str) -> str:
    """Convert a person name, or a pattern for one, to the form in which names are compared."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def pattern_test(field_name: str, pattern: str) -> Callable[[str], bool]:
    """Compile one `like` condition: a test for the stored values of a field.

    Person names: case does not matter, in any script; trailing empty components may be left out on either
    side; a pattern of one component group is looked for in each group of the name, one of several group by
    group.

    Source: DICOM PS3.4 C.2.2.2.1, C.2.2.2.4; PS3.5 6.2.1 (person names).
    """
    if field_name not in PERSON_NAME_FIELDS:
        return _wildcard_test(pattern)
    groups = [_name_group_test(group) for group in fold_name(pattern).split("=")]
    if len(groups) == 1:
        return lambda value: any(groups[0](group) for group in fold_name(value).split("="))

    def every_group_matches(value: str) -> bool:
        stored = [*fold_name(value).split("="), "", ""]
        return all(test(group) for test, group in zip(groups, stored, strict=False))

    return every_group_matches


def item_matches(query: WorklistQuery, item: Mapping[str, object]) -> bool:
    """Whether an item (worklist field -> stored value) meets all conditions: the slow, obvious definition."""

    def value_of(name: str) -> str:
        stored = item.get(name)
        return "" if stored is None else str(stored)

    def within(value: str, low: str | None, high: str | None) -> bool:
        return value != "" and (low is None or low <= value) and (high is None or value <= high)

    date, time = value_of("scheduled_start_date"), value_of("scheduled_start_time")
    return (
        all(value_of(name) != "" and value_of(name) in accepted for name, accepted in query.equal.items())
        and all(value_of(name) in ("", *accepted) for name, accepted in query.equal_or_unknown.items())
        and all(
            pattern_test(name, pattern)(value_of(name)) if value_of(name) else name in query.unknown_like
            for name, pattern in query.like.items()
        )
        and all(within(value_of(name), low, high) for name, (low, high) in query.ranges.items())
        and (query.period is None or (date != "" and time != "" and within(date + time, *query.period)))
    )


def narrowed(query: WorklistQuery, limits: WorklistQuery) -> WorklistQuery:
    """Join two queries: an item matches the result if it matches both.

    Args:
        query: Any.
        limits: Without `like` and `period`.
    """
    equal, either, ranges = dict(query.equal), dict(query.equal_or_unknown), dict(query.ranges)
    for joined, added in ((equal, limits.equal), (either, limits.equal_or_unknown)):
        for name, accepted in added.items():
            joined[name] = tuple(value for value in joined.get(name, accepted) if value in accepted)
    for name, (low, high) in limits.ranges.items():
        other_low, other_high = ranges.get(name, (None, None))
        ranges[name] = (max(low or "", other_low or "") or None, _least(high, other_high))
    return replace(query, equal=equal, equal_or_unknown=either, ranges=ranges)


def single_conditions(query: WorklistQuery) -> Iterator[tuple[str, WorklistQuery]]:
    """Split a query into its conditions: (worklist field, a query with only this condition)."""
    for name, accepted in query.equal.items():
        yield name, WorklistQuery(equal={name: accepted})
    for name, accepted in query.equal_or_unknown.items():
        yield name, WorklistQuery(equal_or_unknown={name: accepted})
    for name, pattern in query.like.items():
        yield name, WorklistQuery(like={name: pattern}, unknown_like=query.unknown_like & {name})
    for name, bounds in query.ranges.items():
        yield name, WorklistQuery(ranges={name: bounds})
    if query.period is not None:
        yield "scheduled_start_date", WorklistQuery(period=query.period)


def _least(first: str | None, second: str | None) -> str | None:
    return min((bound for bound in (first, second) if bound is not None), default=None)


def _wildcard_test(pattern: str) -> Callable[[str], bool]:
    """Test for `*` (any characters) and `?` (exactly one), in time linear in both lengths."""
    first, *others = (
        "".join("." if character == "?" else re.escape(character) for character in piece)
        for piece in re.split(r"\*+", pattern)
    )
    expression = first
    if others:
        # The leftmost match of each piece always suffices; atomic groups keep a hostile pattern from
        # backtracking.
        expression += "".join(f"(?>.*?{piece})" for piece in others[:-1]) + ".*" + others[-1]
    compiled = re.compile(expression, re.DOTALL)
    return lambda value: compiled.fullmatch(value) is not None


def _name_group_test(pattern: str) -> Callable[[str], bool]:
    if not pattern:
        return lambda _group: True
    trimmed = pattern.rstrip("^")
    components = trimmed.count("^")
    matches = _wildcard_test(trimmed)

    def group_matches(group: str) -> bool:
        group = group.rstrip("^")
        return matches(group + "^" * (components - group.count("^")))

    return group_matches
