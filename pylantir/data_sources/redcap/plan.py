"""How to read the rows of a REDCap project under one configuration.

Lives in the worker of a REDCap source. Pure: the project's metadata, `field_mapping` and the rules in, a `RecordPlan`
out. Three decisions, one after the other: which fields give which target, whether patient IDs are put together from
several fields, and which forms describe a scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pylantir.data_sources.options import near_name
from pylantir.data_sources.redcap.naming import REQUIRED_ROLES, ROLES, Protocols
from pylantir.data_sources.redcap.project import GROUP, STRUCTURE, RedcapProject
from pylantir.entry import MAPPING_TARGETS, RECORD_ID_FIELD
from pylantir.errors import SourceUnavailable

Row = Mapping[str, Any]

_COMPOSED = frozenset({"patient_id", "patient_name"})
_OF_PATIENT = ("study_id", "family_id", "patient_id", "patient_name", "patient_birth_date", "patient_sex")
"""Targets that hold for the record as a whole, in whichever row they stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRules:
    """What the configuration says about a project's records.

    Attributes:
        instrument: The form that describes a scan.
        events: Events whose scans count; empty: all.
        legacy: Names are put together as old installations do, whatever is mapped.
        protocols: Site and protocols.
    """

    instrument: str = "mri"
    events: tuple[str, ...] = ()
    legacy: bool = False
    protocols: Protocols = field(default_factory=Protocols)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPlan:
    """How to read this project's rows under this configuration.

    Attributes:
        record_field: The field that holds the record ID.
        sources: Target (worklist field or role) -> the REDCap fields that give it, the first that is not empty.
        fields: What to ask REDCap for.
        id_fields: What to ask for where only the scans' identity matters.
        required: Targets without which a row is no scan yet.
        own: Repeating instrument ("" for rows of none) -> the fields that describe the scan itself: another row's
            value of these is another scan's.
        boxes: Checkbox field -> its columns with their labels.
        choices: Field -> code -> label, where the patient's sex is coded.
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
    rules: RecordRules = field(default_factory=RecordRules)

    @property
    def with_groups(self) -> bool:
        """Whether the data access group has to be asked for."""
        return any(GROUP in sources for sources in self.sources.values())

    @property
    def columns(self) -> frozenset[str]:
        """The columns that an answer for `fields` has, if the token's user may see all of them."""
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
    """What `field_mapping` says that this project can give.

    Attributes:
        sources: Target -> the REDCap fields mapped to it that the project has, in the order of the mapping.
        unknown: Mapped fields that the project does not have, with a near name if there is one.
    """

    sources: Mapping[str, tuple[str, ...]]
    unknown: tuple[str, ...]


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


def plan_records(metadata: Sequence[Row], field_mapping: Mapping[str, str], rules: RecordRules) -> RecordPlan:
    """Find out how the project's fields give what the configuration wants.

    Raises:
        SourceUnavailable: A field is missing without which there is no entry; the message names it.
    """
    project = RedcapProject(metadata)
    mapped = resolve_mapping(project, field_mapping)
    wanted = choose_composite(project, mapped, field_mapping, legacy=rules.legacy)
    own = choose_forms(project, wanted, rules.instrument)
    every = {source for names in wanted.sources.values() for source in names}
    keys = _sources_of(wanted, wanted.required)
    return RecordPlan(
        record_field=project.names[0],
        sources=wanted.sources,
        fields=project.requestable(every),
        id_fields=project.requestable({*keys, *wanted.sources.get(RECORD_ID_FIELD, ()), *own[""]}),
        required=wanted.required,
        own=own,
        boxes={source: project.boxes(source) for source in every if project.is_box(source)},
        choices={source: project.choices(source) for source in wanted.sources.get("patient_sex", ())},
        composite=wanted.composite,
        unknown=mapped.unknown,
        rules=rules,
    )


def resolve_mapping(project: RedcapProject, field_mapping: Mapping[str, str]) -> MappedFields:
    """Find the mapped fields in the project."""
    sources: dict[str, tuple[str, ...]] = {}
    unknown = []
    for source, target in field_mapping.items():
        if project.has(source):
            sources[target] = (*sources.get(target, ()), source)
        else:
            unknown.append(f'"{source}"{near_name(source, project.names)}')
    return MappedFields(sources=sources, unknown=tuple(unknown))


def choose_composite(
    project: RedcapProject, mapped: MappedFields, field_mapping: Mapping[str, str], *, legacy: bool
) -> WantedTargets:
    """Decide whether patient IDs are put together from roles, and which fields give each target then.

    Patient IDs are put together unless a field is mapped to `patient_id`. Each role that nobody mapped is read from
    the field that has it in the installations of old. There (`legacy`) these fields count even where another one is
    mapped, but has nothing to say.

    Raises:
        SourceUnavailable: No field of the project gives a target without which there is no entry.
    """
    named = frozenset() if legacy else frozenset(field_mapping.values())
    composite = "patient_id" not in named
    sources = dict(mapped.sources)
    if composite:
        for target, source in ROLES.items():
            if target not in named and project.has(source) and source not in sources.get(target, ()):
                sources[target] = (*sources.get(target, ()), source)
    required = REQUIRED_ROLES if composite else ("scheduled_start_date",)
    for target in required if composite else ("patient_id", *required):
        if target not in sources:
            raise SourceUnavailable(_missing(target, field_mapping, composite=composite))
    known = MAPPING_TARGETS - _COMPOSED | ROLES.keys() if composite else MAPPING_TARGETS
    return WantedTargets(
        composite=composite,
        required=required,
        sources={target: names for target, names in sources.items() if target in known},
    )


def choose_forms(project: RedcapProject, wanted: WantedTargets, instrument: str) -> dict[str, frozenset[str]]:
    """Decide which fields describe the scan itself, by repeating instrument ("" for rows of none).

    In a project that has no form called `instrument`, the form that holds the date describes the scan.
    """
    of_patient = _sources_of(wanted, _OF_PATIENT)
    every = {source for names in wanted.sources.values() for source in names} - of_patient
    keys = _sources_of(wanted, wanted.required) - of_patient
    dated = project.form(wanted.sources["scheduled_start_date"][0])
    form = instrument if instrument in project.forms else dated
    own = {
        name: frozenset(source for source in every if project.form(source) == name) or frozenset(keys)
        for name in (instrument, form)
    }
    return {**own, "": own[form]}


def _sources_of(wanted: WantedTargets, targets: Iterable[str]) -> set[str]:
    return {source for target in targets for source in wanted.sources.get(target, ())}


def _missing(target: str, field_mapping: Mapping[str, str], *, composite: bool) -> str:
    mapped = [source for source, name in field_mapping.items() if name == target]
    if mapped:
        return f'REDCap: the project has no field "{mapped[0]}", which field_mapping maps to {target}'
    if composite and target in ROLES:
        advice = f'map a field to {target}, or to "patient_id" if patient IDs are not to be put together'
        return f'REDCap: the project has no field "{ROLES[target]}"; {advice}'
    return f"REDCap: field_mapping names no field for {target}"
