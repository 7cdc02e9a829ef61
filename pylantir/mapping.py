"""Turns the values that a plugin gives for a record into a worklist entry.

Lives in source workers (and in `pylantir preview`). In: dictionaries by worklist field; out: `WorklistEntry`
in DICOM form with its key, or `RecordRejected`. Every record of every sync passes through here, so it must be cheap.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pylantir.columns import field_formats, target_of
from pylantir.entry import (
    ATTRIBUTES_FIELD,
    MAPPING_TARGETS,
    RECORD_ID_FIELD,
    REQUIRED_FIELDS,
    START_FIELD,
    WEIGHT_KG_FIELD,
    WORKLIST_FIELDS,
    WorklistEntry,
    record_key,
)
from pylantir.errors import RecordRejected
from pylantir.ipc.records import Column, RecordColumns
from pylantir.settings import SourceSettings
from pylantir.targets import PREFIX, find_target
from pylantir.values.attributes import check_attribute, read_attributes
from pylantir.values.known import LOCAL_DATE_LENGTH, LOCAL_TIME_LENGTH, TIME_FIELD, IgnoredValues, KnownValues, Warned
from pylantir.values.moments import DATE_FIELD, move_to_zone, settle_day
from pylantir.values.normalise import DEFAULT_RULES, ValueRules, normalise_value
from pylantir.values.readings import MomentRules

logger = logging.getLogger(__name__)

_COMBINED_FIELDS = frozenset({WEIGHT_KG_FIELD, START_FIELD})
"""Targets that become other fields, unless the record also has those fields."""
_CACHED_LAYOUTS = 64
_LONGEST_CACHED_LAYOUT = 1 << 16
_FIELD_NAME = re.compile(r"[a-z][a-z0-9]{0,31}(?:[_.:-][A-Za-z0-9]{1,31}){0,5}|dicom:[A-Za-z.]{1,128}")
_TOLD_UNKNOWN = 20
_OTHER_DAY = "is midnight of another day by its offset; if that day is meant, take it with extract"


class EntryMapper:
    """Turns the records of one source into worklist entries; made once per worker."""

    def __init__(
        self,
        defaults: Mapping[str, object] | None = None,
        *,
        rules: ValueRules = DEFAULT_RULES,
        formats: Mapping[str, Sequence[str]] | None = None,
        reject_unusable: bool = False,
        patient_id_prefix: str = "",
    ) -> None:
        """Prepare for one source.

        Args:
            defaults: Worklist field or `dicom:` target -> the value for records that have none.
            rules: How the source writes its values.
            formats: Worklist field -> its own formats, in place of the source's.
            reject_unusable: Refuse a record with an unusable value in any field, not only in the strict ones.
            patient_id_prefix: Put before each patient ID.

        Raises:
            RecordRejected: A default breaks its value representation.
        """
        self._rules = rules
        self._formats = {target_of(name): tuple(own) for name, own in (formats or {}).items()}
        self._reject_unusable = reject_unusable
        self._prefix = patient_id_prefix
        self._values: dict[str, KnownValues] = {
            name: KnownValues(name, self._rules_of(name), strict=reject_unusable) for name in MAPPING_TARGETS
        }
        self._unknown = IgnoredValues("", rules)
        self._told_unknown: set[str] = set()
        self._layouts: dict[tuple[str, ...], tuple[KnownValues, ...]] = {}
        self._defaults, self._default_attributes = self._read_defaults(defaults or {})
        self._day = rules.moments.today()

    @classmethod
    def of_source(cls, source: SourceSettings) -> EntryMapper:
        """Prepare for a source as it is configured."""
        zone = None
        if source.timezone:
            from zoneinfo import ZoneInfo

            zone = ZoneInfo(source.timezone)
        moments = MomentRules(date_formats=source.date_formats, time_formats=source.time_formats, zone=zone)
        issuer = {"issuer_of_patient_id": source.issuer_of_patient_id} if source.issuer_of_patient_id else {}
        return cls(
            {**issuer, **source.defaults},
            rules=ValueRules(moments=moments, empty_values=frozenset((*source.empty_values, ""))),
            formats=field_formats(source.field_mapping),
            reject_unusable=source.unusable_values == "reject",
            patient_id_prefix=source.patient_id_prefix,
        )

    def notice_new_day(self) -> bool:
        """Return whether it is another day than at the last call; then no value is known any more.

        The day decides whether a birth date lies in the future, and in which century it is if its year has two digits.
        It may also be another one because the clock was wrong when the machine started.
        """
        today = self._rules.moments.today()
        if today == self._day:
            return False
        self._day = today
        for known in self._values.values():
            known.forget()
        return True

    def to_entry(self, fields: Mapping[str, object], warned: Warned | None = None) -> WorklistEntry:
        """Normalise one record, complete it with the defaults, and name it.

        Args:
            fields: Worklist field -> value as the plugin mapped it. Names that are not worklist fields are
                ignored (with one warning), and so are those that begin with `_`.
            warned: Collects the values that were left out or changed.

        Returns:
            The entry; fields that neither the record nor a default gives are left out.

        Raises:
            RecordRejected: A value that matters is illegal, or the patient ID or the start date is missing. Nothing
                is added to `warned` then.
        """
        told: Warned = Counter()
        entry = self._normalise(fields, told)
        for name in REQUIRED_FIELDS:
            if name not in entry:
                raise RecordRejected(name, "missing; without it nobody can be scheduled")
        if len(entry[DATE_FIELD]) > LOCAL_DATE_LENGTH:
            entry[DATE_FIELD], is_a_guess = settle_day(entry[DATE_FIELD], entry.get(TIME_FIELD), self._rules.moments)
            told.update([(DATE_FIELD, _OTHER_DAY)] if is_a_guess else [])
        if len(entry.get(TIME_FIELD, "")) > LOCAL_TIME_LENGTH:
            moved = move_to_zone(entry["scheduled_start_date"], entry[TIME_FIELD], self._rules.moments)
            entry["scheduled_start_date"], entry[TIME_FIELD] = moved
        if self._prefix:
            entry["patient_id"] = self._prefixed(entry["patient_id"])
        if told and warned is not None:
            warned.update(told)
        return WorklistEntry(record_key=record_key(entry), fields=entry)

    def to_columns(
        self, names: Sequence[str], records: Sequence[Sequence[object]], warned: Warned | None = None
    ) -> RecordColumns | None:
        """Do the work of `to_entry` for many records of one layout, in a fraction of the time.

        Args:
            names: Worklist fields, as the plugin named them.
            records: A value per name.
            warned: Collects the values that were left out or changed; nothing is added if None is returned.

        Returns:
            The entries, or None if one of them must be checked by itself: it breaks a rule, or its fields depend
            on each other.
        """
        layout = tuple(names)
        known = self._layouts.get(layout) or self._add_layout(layout)
        if self._default_attributes or any(column.field in _COMBINED_FIELDS or column.is_attribute for column in known):
            return None
        values: dict[str, Column] = {}
        told: Warned = Counter()
        try:
            for column, given in zip(known, zip(*records, strict=True), strict=True):
                if column.field in values:
                    return None
                if not isinstance(column, IgnoredValues):
                    values[column.field] = column.normalise_all(given, told)
            for name, default in self._defaults.items():
                column_given = values.get(name)
                values[name] = (
                    [value or default for value in column_given] if column_given else [default] * len(records)
                )
            if not all(name in values and all(values[name]) for name in REQUIRED_FIELDS):
                return None
            if self._prefix:
                values["patient_id"] = list(map(self._prefixed, values["patient_id"]))  # type: ignore[arg-type]
        except (RecordRejected, TypeError):
            # TypeError: a value of a kind that cannot be looked up, a list say.
            return None
        if self._values[TIME_FIELD].has_offsets or self._values[DATE_FIELD].has_offsets:
            return None
        if warned is not None:
            warned.update(told)
        own_ids = values.get(RECORD_ID_FIELD)
        if own_ids and all(own_ids):
            keys = [f"id:{own_id}" for own_id in own_ids]
        else:
            rows = zip(*values.values(), strict=True)
            keys = [record_key({name: one for name, one in zip(values, row, strict=True) if one}) for row in rows]
        return RecordColumns(keys, values)

    def patient_of(self, fields: Mapping[str, object]) -> str | None:
        """Return the patient ID of a refused record, if it can be read."""
        for name in ("patient_id", f"{PREFIX}PatientID"):
            try:
                text = normalise_value("patient_id", fields.get(name), self._rules)
                return self._prefixed(text) if text else None
            except RecordRejected:
                continue
        return None

    def _normalise(self, fields: Mapping[str, object], warned: Warned) -> dict[str, str]:
        names = tuple(fields)
        columns = self._layouts.get(names)
        if columns is None:
            columns = self._add_layout(names)
        entry: dict[str, str] = {}
        attributes: dict[str, object] = {}
        for name, known, value in zip(names, columns, fields.values(), strict=True):
            if known.is_attribute:
                attributes[name] = value
                continue
            # Only text is looked up: 1, 1.0 and True are one key of a dictionary.
            if type(value) is str:
                text = known[value]
                if value in known.remarks:
                    warned.update(known.told(known.remarks[value]))
            else:
                text = known.normalise(value, warned)
            if text:
                entry.setdefault(known.field, text)
        if WEIGHT_KG_FIELD in entry:
            weight_lb = entry.pop(WEIGHT_KG_FIELD)
            entry.setdefault("patient_weight_lb", weight_lb)
        if START_FIELD in entry:
            start = entry.pop(START_FIELD)
            entry.setdefault("scheduled_start_date", start[:8])
            if start[8:]:
                entry.setdefault(TIME_FIELD, start[8:])
        if self._defaults:
            entry = {**self._defaults, **entry}
        if attributes or self._default_attributes:
            self._add_attributes(entry, attributes, warned)
        return entry

    def _add_attributes(self, entry: dict[str, str], given: Mapping[str, object], warned: Warned) -> None:
        told: Warned = Counter()
        whole = {
            **self._default_attributes,
            **{name: value for name, value in given.items() if not self._is_empty(value)},
        }
        found = read_attributes(whole, self._rules_of, lambda name, reason: told.update([(name, reason)]))
        if told and self._reject_unusable:
            raise RecordRejected(*next(iter(told)))
        warned.update(told)
        if found:
            entry[ATTRIBUTES_FIELD] = json.dumps(found, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    def _is_empty(self, value: object) -> bool:
        return value is None or (isinstance(value, str) and value.strip() in self._rules.empty_values)

    def _read_defaults(self, defaults: Mapping[str, object]) -> tuple[dict[str, str], dict[str, object]]:
        """Normalise the constants; an unusable one is an error."""
        fields: dict[str, str] = {}
        for name, value in defaults.items():
            field = target_of(name)
            text = normalise_value(field, value, self._rules_of(field)) if field in MAPPING_TARGETS else None
            if text and field == DATE_FIELD and len(text) > LOCAL_DATE_LENGTH:
                text, _ = settle_day(text, None, self._rules.moments)
            if text and field == START_FIELD:
                fields["scheduled_start_date"] = text[:8]
                fields |= {TIME_FIELD: text[8:]} if text[8:] else {}
            elif text:
                fields["patient_weight_lb" if field == WEIGHT_KG_FIELD else field] = text

        attributes = {name: value for name, value in defaults.items() if target_of(name).startswith(PREFIX)}
        for name, value in attributes.items():
            check_attribute(name, value, self._rules)
        return fields, attributes

    def _rules_of(self, name: str) -> ValueRules:
        own = self._formats.get(name)
        if own is None:
            return self._rules
        moments = replace(self._rules.moments, date_formats=own, time_formats=own)
        return replace(self._rules, moments=moments)

    def _prefixed(self, patient_id: str) -> str:
        whole = self._prefix + patient_id
        longest = WORKLIST_FIELDS["patient_id"].max_length
        if len(whole) > longest:
            raise RecordRejected("patient_id", f"longer than {longest} characters with its prefix")
        return whole

    def _add_layout(self, names: tuple[str, ...]) -> tuple[KnownValues, ...]:
        """Remember which values belong to which position: the records of a source have few layouts."""
        if len(self._layouts) >= _CACHED_LAYOUTS:
            self._layouts.clear()
        known = self._values
        columns = tuple(known[name] if name in known else self._new_column(name) for name in names)
        if sum(len(str(name)) for name in names) <= _LONGEST_CACHED_LAYOUT:
            self._layouts[names] = columns
        return columns

    def _new_column(self, name: str) -> KnownValues:
        """Find the values of another name of a worklist field, or of an attribute; those of other names are ignored."""
        field = target_of(name) if isinstance(name, str) else name
        if field in MAPPING_TARGETS:
            self._values[name] = self._values[field]
        elif isinstance(name, str) and name.startswith(PREFIX) and find_target(name) is not None:
            self._values[name] = IgnoredValues(name, self._rules, is_attribute=True)
        else:
            # A plugin may use anything as a key, and another one in each record: nothing is kept of it.
            if not str(name).startswith("_"):
                self._tell_unknown(str(name))
            return self._unknown
        return self._values[name]

    def _tell_unknown(self, name: str) -> None:
        """Log once that a field is ignored. What is not written like a field's name may be a patient's."""
        said = f'"{name}"' if _FIELD_NAME.fullmatch(name) else "a field (`pylantir preview --json` shows its name)"
        if said not in self._told_unknown and len(self._told_unknown) < _TOLD_UNKNOWN:
            self._told_unknown.add(said)
            logger.warning("the plugin gives %s, which is no worklist field; it is ignored", said)
