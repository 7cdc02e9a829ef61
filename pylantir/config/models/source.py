"""A data source: when it is asked, what its fields become, and which of its records count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, StringConstraints, Tag

from pylantir.config.messages import MANY, OBJECT, ONE
from pylantir.config.models.section import Section
from pylantir.config.values import (
    Constant,
    Count,
    DateFormats,
    Flag,
    Meanings,
    Name,
    Number,
    Pattern,
    Prefix,
    Seconds,
    Text,
    Texts,
    TimeFormats,
    TimeOfDay,
    TimeZone,
    ValueFormats,
    Words,
    expected,
)
from pylantir.settings import EMPTY_VALUES


class OperationInterval(Section):
    """When a source may be asked, local time, both minutes included."""

    start_time: TimeOfDay = Field(default=[0, 0], description="First minute, as [hour, minute].")
    end_time: TimeOfDay = Field(
        default=[23, 59], description="Last minute, as [hour, minute]; one before the start crosses midnight."
    )


class OldExtract(Section):
    """A regular expression as earlier versions wrote it."""

    pattern: Pattern = Field(description="Searched in the value.")
    group: Annotated[int, Field(ge=0, le=99), expected("a whole number >= 0")] = Field(
        default=1, description="Number of the group that counts; 0 is the whole match."
    )


class MappedField(Section):
    """How one worklist field is made of a source's fields; `from` is needed, the rest is not."""

    from_: Texts | None = Field(
        default=None, alias="from", description="Source field, or a list of them; dotted paths reach into records."
    )
    join: Annotated[str, expected("text")] = Field(
        default=" ", description="Stands between the values of several fields; default: `^` for names, else a space."
    )
    extract: Pattern | None = Field(
        default=None, description="Regular expression; its first group is the value, else all that it finds."
    )
    values: Meanings | None = Field(
        default=None, description='Text → what it means, `null` for nothing; "*" is every text that is not listed.'
    )
    format: ValueFormats | None = Field(
        default=None, description='strptime format, or a list; "excel", "epoch", "epoch_ms" for numbers.'
    )
    empty: Words = Field(default=[], description="Texts that mean nothing here, besides `empty_values`.")
    labels: Flag = Field(default=False, description="true: coded answers (REDCap) are taken by their labels.")
    source_field: Texts | None = Field(default=None, description="The same as `from`.")
    extract_: OldExtract | None = Field(
        default=None, alias="_extract", description="The same as `extract`, with the number of the group."
    )


class NotListed(Section):
    """A condition turned round."""

    not_: Words = Field(alias="not", description="Texts that the field may not have.")


def kind_of_value(value: object) -> str:
    """Tell the forms of a value apart, for messages that speak of the one that was meant."""
    if isinstance(value, dict | BaseModel):
        return OBJECT
    return MANY if isinstance(value, list) else ONE


Mapped = Annotated[
    Annotated[Text, Tag(ONE)]
    | Annotated[list[Text], Field(min_length=1), Tag(MANY)]
    | Annotated[MappedField, Tag(OBJECT)],
    Discriminator(kind_of_value),
]
Condition = Annotated[
    Annotated[Constant, Tag(ONE)] | Annotated[list[Constant], Tag(MANY)] | Annotated[NotListed, Tag(OBJECT)],
    Discriminator(kind_of_value),
]


def plain_mapping(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Give a `field_mapping` as it stands in the file."""
    return {
        name: said.model_dump(by_alias=True, exclude_unset=True) if isinstance(said, MappedField) else said
        for name, said in mapping.items()
    }


def plain_conditions(where: Mapping[str, Any]) -> dict[str, Any]:
    """Give the conditions of `where` as they stand in the file."""
    return {name: {"not": said.not_} if isinstance(said, NotListed) else said for name, said in where.items()}


class Source(Section):
    """One data source."""

    name: Name = Field(description="What the source is called everywhere; unique, 1-255 characters.")
    type: Text = Field(
        description="`csv`, `json`, `redcap`, `sql`, or the type of a plugin; `pylantir plugins` lists them."
    )
    enabled: Flag = Field(default=True, description="false: the source gets no process and only its form is checked.")
    sync_interval: Seconds = Field(default=60, description="Seconds from the start of one fetch to the next, >= 1.")
    operation_interval: OperationInterval = Field(
        default=OperationInterval(), description="When the source may be asked."
    )
    timezone: TimeZone | None = Field(
        default=None,
        description="IANA time zone of `operation_interval`, and of the worklist: values with another offset are "
        "converted to it; default: the machine's.",
    )
    config: dict[str, Any] = Field(default={}, description="What the source type itself needs: files, URLs, variables.")
    field_mapping: dict[str, Mapped] = Field(
        default={},
        description="Source field → worklist field, or a list of them; or worklist field → how it is made.",
    )
    defaults: dict[str, Constant] = Field(
        default={}, description="Worklist field → constant, used where a record has no value."
    )
    priority: Number | None = Field(
        default=None,
        description="The lower number wins where sources differ; default: the position in the list, from 0.",
    )
    missing_entries: Annotated[Literal["cancel", "keep"], expected('"cancel" or "keep"')] = Field(
        default="cancel",
        description='What becomes of an entry that the source no longer gives: "cancel" or "keep".',
    )
    fetch_timeout: Seconds = Field(
        default=300,
        description="Seconds that a plugin may work without giving an entry before it counts as hung.",
    )
    max_memory_mb: Count | None = Field(
        default=None,
        description="MiB of memory over which the process is replaced after its fetch, and killed at twice as much.",
    )
    max_restarts: Count | None = Field(
        default=None,
        description="Restarts after which `status` and the log remark on them; the source is never given up.",
    )
    date_format: DateFormats | None = Field(
        default=None,
        description='strptime format of the source\'s dates, or a list, beside ISO and DICOM: "%d.%m.%Y".',
    )
    time_format: TimeFormats | None = Field(
        default=None,
        description='strptime format of the source\'s times, or a list, beside ISO and DICOM: "%I:%M %p".',
    )
    empty_values: Words = Field(
        default=list(EMPTY_VALUES), description="Texts that mean nothing, in every field of the source."
    )
    unusable_values: Annotated[Literal["omit", "reject"], expected('"omit" or "reject"')] = Field(
        default="omit",
        description='What becomes of an unusable value that neither identity nor date depend on: "omit" leaves it out '
        'with a warning, "reject" refuses the record.',
    )
    where: dict[str, Condition] = Field(
        default={},
        description='Source field → text, or list of texts, that a record has to have there; {"not": […]} turns it '
        "round. Other records are left out.",
    )
    patient_id_prefix: Prefix = Field(default="", description="Stands before each patient ID of the source.")
    issuer_of_patient_id: Annotated[str, StringConstraints(max_length=64), expected("1-64 characters")] = Field(
        default="", description="Who gave the source's patient IDs, where its records do not say."
    )
