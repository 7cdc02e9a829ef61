"""What a plugin gave for one record, as a worklist entry.

Lives in source workers (and in `pylantir preview`). In: dictionaries by worklist field; out: `WorklistEntry`
in DICOM form with its key, or `RecordRejected`. Every record of every sync passes here: it has to be cheap.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from pylantir.entry import (
    MAPPING_TARGETS,
    RECORD_ID_FIELD,
    REQUIRED_FIELDS,
    START_FIELD,
    WEIGHT_KG_FIELD,
    WorklistEntry,
    clean_check,
    normalise_value,
    with_fallbacks,
)
from pylantir.errors import RecordRejected
from pylantir.ipc.records import Column, RecordColumns

logger = logging.getLogger(__name__)

_COMBINED_FIELDS = frozenset({WEIGHT_KG_FIELD, START_FIELD})
"""Targets that become other fields, unless the record has those as well."""
_CACHED_VALUES = 2048
_CACHED_LAYOUTS = 64


class EntryMapper:
    """Turns the records of one source into worklist entries; made once per worker."""

    def __init__(
        self,
        defaults: Mapping[str, object] | None = None,
        date_format: str | None = None,
        time_format: str | None = None,
    ) -> None:
        """Prepare for one source.

        Args:
            defaults: Worklist field -> value where a record has none.
            date_format: `strptime` format of the source's dates, if neither ISO nor DICOM.
            time_format: The same for its times.

        Raises:
            RecordRejected: A default breaks its value representation.
        """
        self._values: dict[str, _KnownValues] = {
            name: _KnownValues(name, date_format, time_format) for name in MAPPING_TARGETS
        }
        self._layouts: dict[tuple[str, ...], tuple[_KnownValues, ...]] = {}
        self._defaults = self._normalise(defaults or {})

    def to_entry(self, fields: Mapping[str, object]) -> WorklistEntry:
        """Normalise one record, complete it with the defaults, and name it.

        Args:
            fields: Worklist field -> value as the plugin mapped it. Names that are no worklist fields are
                ignored (with a warning, once), and so are those that begin with `_`.

        Returns:
            The entry; what neither the record nor a default gives is left out.

        Raises:
            RecordRejected: A value is illegal, or the patient ID or the start date is missing.
        """
        entry = self._normalise(fields)
        if self._defaults:
            entry = {**self._defaults, **entry}
        for name in REQUIRED_FIELDS:
            if name not in entry:
                raise RecordRejected(name, "missing; without it nobody can be scheduled")
        return WorklistEntry(record_key=record_key(entry), fields=entry)

    def to_columns(self, names: Sequence[str], records: Sequence[Sequence[object]]) -> RecordColumns | None:
        """Do for many records of one layout what `to_entry` does for each, in a fraction of the time.

        Args:
            names: Worklist fields, as the plugin named them.
            records: A value per name.

        Returns:
            The entries, or None when one of them has to be looked at by itself: it breaks a rule, or its fields
            depend on each other.
        """
        layout = tuple(names)
        known = self._layouts.get(layout) or self._add_layout(layout)
        values: dict[str, Column] = {}
        try:
            for name, column, given in zip(layout, known, zip(*records, strict=True), strict=True):
                if name in _COMBINED_FIELDS:
                    return None
                if not isinstance(column, _IgnoredValues):
                    values[name] = column.normalise_all(given)
        except (RecordRejected, TypeError):
            # TypeError: a value of a kind that cannot be looked up, a list say.
            return None
        for name, default in self._defaults.items():
            column_given = values.get(name)
            values[name] = [value or default for value in column_given] if column_given else [default] * len(records)
        if not all(name in values and all(values[name]) for name in REQUIRED_FIELDS):
            return None
        own_ids = values.get(RECORD_ID_FIELD)
        if own_ids and all(own_ids):
            keys = [f"id:{own_id}" for own_id in own_ids]
        else:
            rows = zip(*values.values(), strict=True)
            keys = [record_key({name: one for name, one in zip(values, row, strict=True) if one}) for row in rows]
        return RecordColumns(keys, values)

    def _normalise(self, fields: Mapping[str, object]) -> dict[str, str]:
        names = tuple(fields)
        columns = self._layouts.get(names)
        if columns is None:
            columns = self._add_layout(names)
        entry: dict[str, str] = {}
        for name, known, value in zip(names, columns, fields.values(), strict=True):
            # Only text is looked up: 1, 1.0 and True are one key of a dictionary.
            text = known[value] if type(value) is str else known.normalise(value)
            if text:
                entry[name] = text
        if WEIGHT_KG_FIELD in entry:
            weight_lb = entry.pop(WEIGHT_KG_FIELD)
            entry.setdefault("patient_weight_lb", weight_lb)
        if START_FIELD in entry:
            start = entry.pop(START_FIELD)
            entry.setdefault("scheduled_start_date", start[:8])
            if start[8:]:
                entry.setdefault("scheduled_start_time", start[8:])
        return entry

    def _add_layout(self, names: tuple[str, ...]) -> tuple[_KnownValues, ...]:
        """Remember which values belong to which place: the records of a source have few layouts."""
        for name in names:
            if name not in self._values:
                self._values[name] = _IgnoredValues(name, None, None)
                # A plugin may use anything as a key.
                if not str(name).startswith("_"):
                    logger.warning('the plugin gives "%s", which is no worklist field; it is ignored', name)
        if len(self._layouts) >= _CACHED_LAYOUTS:
            self._layouts.clear()
        self._layouts[names] = columns = tuple(self._values[name] for name in names)
        return columns


class _KnownValues(dict[str, "str | None"]):
    """The normalised values of one field, by what the source gave; forgets all of them when it is full."""

    def __init__(self, field: str, date_format: str | None, time_format: str | None) -> None:
        super().__init__()
        self._field = field
        self._date_format = date_format
        self._time_format = time_format
        self._is_clean = clean_check(field)

    def normalise_all(self, values: Sequence[object]) -> Sequence[str | None]:
        """Normalise a column; most columns are clean, or have few different values."""
        if set(map(type, values)) == {str}:
            different: set[str] = set(values)  # type: ignore[arg-type]
            if all(map(self._is_clean, different)):
                return values  # type: ignore[return-value]
            known = {value: self[value] for value in different}
            return list(map(known.__getitem__, values))  # type: ignore[arg-type]
        return [self[value] if type(value) is str else self.normalise(value) for value in values]

    def __missing__(self, value: str) -> str | None:
        if self._is_clean(value):
            return value
        text = self.normalise(value)
        if len(self) >= _CACHED_VALUES:
            self.clear()
        self[value] = text
        return text

    def normalise(self, value: object) -> str | None:
        return normalise_value(self._field, value, date_format=self._date_format, time_format=self._time_format)


class _IgnoredValues(_KnownValues):
    """The values of a name that is no worklist field."""

    def __missing__(self, value: str) -> str | None:
        return None

    def normalise(self, value: object) -> str | None:
        return None


def record_key(fields: Mapping[str, str]) -> str:
    """Name a record within its source, so that it is recognised in the next sync.

    Args:
        fields: Normalised fields of an entry.

    Returns:
        By the strongest identifier given: "id:<record ID>", "acc:<accession number>" or "uid:<study UID>"
        (both with "/<step ID>" if there is one), else "step:<patient>|<date>|<time>|<modality>|<station>" (with
        "|<issuer>" if there is one).
    """
    if RECORD_ID_FIELD in fields:
        return f"id:{fields[RECORD_ID_FIELD]}"
    step = fields.get("scheduled_procedure_step_id")
    for kind, name in (("acc", "accession_number"), ("uid", "study_instance_uid")):
        if name in fields:
            return f"{kind}:{_escape(fields[name])}" + (f"/{_escape(step)}" if step else "")
    whole = with_fallbacks(fields)
    parts = (
        whole["patient_id"],
        whole["scheduled_start_date"],
        whole["scheduled_start_time"],
        whole["modality"],
        whole.get("scheduled_station_aetitle", ""),
        *filter(None, [fields.get("issuer_of_patient_id")]),
    )
    return "step:" + "|".join(map(_escape, parts))


def _escape(part: str) -> str:
    """Keep a value's own separators apart from ours."""
    if "|" in part or "/" in part or "%" in part:
        return part.replace("%", "%25").replace("/", "%2F").replace("|", "%7C")
    return part
