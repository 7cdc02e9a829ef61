"""How to read the rows of a REDCap project under one configuration.

Lives in the worker of a REDCap source. Pure: the project's metadata, `field_mapping` and the rules in, a `RecordPlan`
out. Three decisions, one after the other: which fields give which target, whether patient IDs are put together from
several fields, and which forms describe a scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pylantir.columns import RecordMapping, read_field_mapping
from pylantir.data_sources.options import near_name
from pylantir.data_sources.redcap.naming import REQUIRED_ROLES, ROLES, Protocols
from pylantir.data_sources.redcap.project import GROUP, STRUCTURE, RedcapProject
from pylantir.entry import MAPPING_TARGETS, RECORD_ID_FIELD, START_FIELD
from pylantir.errors import SourceUnavailable
from pylantir.settings import EMPTY_VALUES

Row = Mapping[str, Any]

_COMPOSED = frozenset({"patient_id", "patient_name"})
_PARTS_OF_START = ("scheduled_start_date", "scheduled_start_time")
_OWN_CODES = frozenset({"pregnancy_status", "dicom:PregnancyStatus"})
"""DICOM has codes of its own for these, which are not REDCap's: 1 is "not pregnant" there, and "yes" here."""
_OF_PATIENT = ("study_id", "family_id", "patient_id", "patient_name", "patient_birth_date", "patient_sex")
"""Targets whose value holds for the whole record, whatever its row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRules:
    """What the configuration says about a project's records.

    Attributes:
        instrument: The form that describes a scan.
        events: Events whose scans count; empty: all.
        legacy: Names are put together as old installations do, whatever is mapped.
        protocols: Site and protocols.
        labels: Coded answers are taken by their labels: all, or those of these fields.
        missing_codes: Values that mean nothing, beside those that the project knows itself.
    """

    instrument: str = "mri"
    events: tuple[str, ...] = ()
    legacy: bool = False
    protocols: Protocols = field(default_factory=Protocols)
    labels: bool | frozenset[str] = False
    missing_codes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPlan:
    """How to read this project's rows under this configuration.

    Attributes:
        record_field: The field that holds the record ID.
        sources: Target (worklist field or role) -> the REDCap fields that give it, the first that is not empty.
        fields: What to ask REDCap for.
        id_fields: What to ask for where only the scans' identity matters.
        required: Targets without which a row is no scan yet.
        own: Repeating instrument ("" for rows of none) -> the fields that describe the scan itself; another row's
            values of these fields belong to another scan.
        boxes: Checkbox field -> its columns with their labels.
        choices: Field -> code -> label, for fields with choices.
        readers: Targets that are made of several fields, or by extraction or a table -> how.
        labelled: Targets that take coded answers by their labels.
        where: Which scans count.
        missing: Values that mean nothing.
        composite: Patient ID and name are put together from roles.
        unknown: Mapped fields that the project does not have, with a near name if there is one.
        rules: The configuration.
    """

    record_field: str
    sources: Mapping[str, tuple[str, ...]]
    fields: tuple[str, ...]
    id_fields: tuple[str, ...]
    required: tuple[str, ...]
    own: Mapping[str, frozenset[str]]
    boxes: Mapping[str, tuple[tuple[str, str], ...]]
    choices: Mapping[str, Mapping[str, str]]
    composite: bool
    unknown: tuple[str, ...]
    readers: Mapping[str, RecordMapping] = field(default_factory=dict)
    labelled: frozenset[str] = frozenset()
    where: RecordMapping | None = None
    missing: frozenset[str] = frozenset()
    rules: RecordRules = field(default_factory=RecordRules)

    @property
    def with_groups(self) -> bool:
        """Whether the data access group has to be asked for."""
        return any(GROUP in sources for sources in self.sources.values())

    @property
    def columns(self) -> frozenset[str]:
        """The columns of an answer for `fields`, if the token's user may see all of them."""
        plain = {source for sources in self.sources.values() for source in sources} - self.boxes.keys()
        boxed = {column for boxes in self.boxes.values() for column, _ in boxes}
        return frozenset(plain | boxed) - STRUCTURE

    @property
    def needed_columns(self) -> frozenset[str]:
        """The columns without which scans cannot be told from other rows."""
        sources = {source for target in self.required for source in self.sources[target]}
        return frozenset(sources - self.boxes.keys() | {self.record_field}) - STRUCTURE


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedFields:
    """The part of `field_mapping` that this project can supply.

    Attributes:
        sources: Target -> the REDCap fields mapped to it that the project has, in the order of the mapping.
        unknown: Mapped fields that the project does not have, with a near name if there is one.
        named: All targets of the mapping, with the fields that it names.
        made: Targets whose value is more than the first field that is not empty.
        labelled: Targets that take coded answers by their labels: by `"labels": true`, or since DICOM has other codes.
    """

    sources: Mapping[str, tuple[str, ...]]
    unknown: tuple[str, ...]
    named: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    made: frozenset[str] = frozenset()
    labelled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedTargets:
    """Which targets are read.

    Attributes:
        composite: Patient ID and name are put together from roles.
        required: Targets without which a row is no scan yet.
        sources: Target (worklist field or role) -> the REDCap fields that give it, the first that is not empty.
    """

    composite: bool
    required: tuple[str, ...]
    sources: Mapping[str, tuple[str, ...]]


def plan_records(
    metadata: Sequence[Row],
    field_mapping: Mapping[str, Any],
    rules: RecordRules,
    *,
    where: RecordMapping | None = None,
    empty_values: Sequence[str] = EMPTY_VALUES,
    missing_codes: frozenset[str] = frozenset(),
) -> RecordPlan:
    """Find out how the project's fields give what the configuration wants.

    Args:
        metadata: The project's fields.
        field_mapping: As configured, in all its forms.
        rules: The other keys of `config`.
        where: The source's `where`.
        empty_values: The source's words for a missing value.
        missing_codes: The project's own.

    Raises:
        SourceUnavailable: A field that every entry needs is missing; the message names it.
    """
    project = RedcapProject(metadata)
    mapped = resolve_mapping(project, field_mapping)
    wanted = choose_composite(project, mapped, legacy=rules.legacy)
    own = choose_forms(project, wanted, rules.instrument)
    asked = [source for source in (where.columns if where else ()) if project.has(source)]
    every = {source for names in wanted.sources.values() for source in names} | set(asked)
    keys = _sources_of(wanted, wanted.required) | set(asked)
    return RecordPlan(
        record_field=project.names[0],
        sources=wanted.sources,
        fields=project.requestable(every),
        id_fields=project.requestable({*keys, *wanted.sources.get(RECORD_ID_FIELD, ()), *own[""]}),
        required=wanted.required,
        own=own,
        boxes={source: project.boxes(source) for source in every if project.is_box(source)},
        choices={source: labels for source in every if (labels := project.choices(source))},
        composite=wanted.composite,
        unknown=mapped.unknown,
        readers={
            target: RecordMapping({target: field_mapping[target]}, empty_values=empty_values)
            for target in mapped.made & wanted.sources.keys()
        },
        labelled=mapped.labelled | choose_labelled(wanted, rules.labels),
        where=where if asked else None,
        missing=missing_codes | rules.missing_codes,
        rules=rules,
    )


def resolve_mapping(project: RedcapProject, field_mapping: Mapping[str, Any]) -> MappedFields:
    """Find the mapped fields in the project.

    A field with date and time that is mapped to the date alone, while nothing gives the time, gives both.
    """
    rules = read_field_mapping(field_mapping)
    named = {rule.target: rule.columns for rule in rules}
    sources: dict[str, tuple[str, ...]] = {}
    unknown = []
    for rule in rules:
        found = tuple(source for source in rule.columns if project.has(source))
        unknown += [f'"{one}"{near_name(one, project.names)}' for one in rule.columns if one not in found]
        target = rule.target
        if target == "scheduled_start_date" and found and not {START_FIELD, "scheduled_start_time"} & named.keys():
            target = START_FIELD if rule.is_plain and project.has_time(found[0]) else target
        if found:
            sources[target] = found
    return MappedFields(
        sources=sources,
        unknown=tuple(unknown),
        named=named,
        made=frozenset(rule.target for rule in rules if not rule.is_plain and not rule.alternatives),
        labelled=frozenset(
            rule.target for rule in rules if rule.labels or (rule.target in _OWN_CODES and rule.values is None)
        ),
    )


def choose_composite(project: RedcapProject, mapped: MappedFields, *, legacy: bool) -> WantedTargets:
    """Decide whether patient IDs are put together from roles, and which fields give each target then.

    Patient IDs are put together unless a field is mapped to `patient_id`. Each role that nobody mapped is read from
    the field that has it in old installations. With `legacy` these fields are also used if another field is mapped, but
    is empty.

    Raises:
        SourceUnavailable: No field of the project gives a target that every entry needs.
    """
    named = frozenset() if legacy else frozenset(mapped.named)
    composite = "patient_id" not in named
    sources = dict(mapped.sources)
    whole_start = START_FIELD in sources
    if composite:
        for target, source in ROLES.items():
            if whole_start and target in _PARTS_OF_START:
                continue
            if target not in named and project.has(source) and source not in sources.get(target, ()):
                sources[target] = (*sources.get(target, ()), source)
    required: tuple[str, ...] = REQUIRED_ROLES if composite else ("scheduled_start_date",)
    if whole_start:
        required = (*(role for role in required if role not in _PARTS_OF_START), START_FIELD)
    for target in required if composite else ("patient_id", *required):
        if target not in sources:
            raise SourceUnavailable(_missing(target, mapped, composite=composite))
    known = MAPPING_TARGETS - _COMPOSED | ROLES.keys() if composite else MAPPING_TARGETS
    return WantedTargets(
        composite=composite,
        required=required,
        sources={name: found for name, found in sources.items() if name in known or name.startswith("dicom:")},
    )


def choose_labelled(wanted: WantedTargets, labels: bool | frozenset[str]) -> frozenset[str]:
    """Decide which targets take coded answers by their labels; `labels` names fields of REDCap or of the worklist."""
    if isinstance(labels, bool):
        return frozenset(wanted.sources) if labels else frozenset()
    return frozenset(target for target, names in wanted.sources.items() if labels & {target, *names})


def choose_forms(project: RedcapProject, wanted: WantedTargets, instrument: str) -> dict[str, frozenset[str]]:
    """Decide which fields describe the scan itself, by repeating instrument ("" for rows of none).

    In a project that has no form called `instrument`, the form that holds the date describes the scan.
    """
    of_patient = _sources_of(wanted, _OF_PATIENT)
    every = {source for names in wanted.sources.values() for source in names} - of_patient
    keys = _sources_of(wanted, wanted.required) - of_patient
    start = next(target for target in (START_FIELD, "scheduled_start_date") if target in wanted.sources)
    dated = project.form(wanted.sources[start][0])
    form = instrument if instrument in project.forms else dated
    own = {
        name: frozenset(source for source in every if project.form(source) == name) or frozenset(keys)
        for name in (instrument, form)
    }
    return {**own, "": own[form]}


def _sources_of(wanted: WantedTargets, targets: Iterable[str]) -> set[str]:
    return {source for target in targets for source in wanted.sources.get(target, ())}


def _missing(target: str, mapped: MappedFields, *, composite: bool) -> str:
    if named := mapped.named.get(target):
        return f'REDCap: the project has no field "{named[0]}", which field_mapping maps to {target}'
    if composite and target in ROLES:
        advice = f'map a field to {target}, or to "patient_id" if patient IDs are not to be put together'
        return f'REDCap: the project has no field "{ROLES[target]}"; {advice}'
    return f"REDCap: field_mapping names no field for {target}"
