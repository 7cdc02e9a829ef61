"""The interface of data source plugins; a plugin has to import only this module.

Lives in source workers and in the configuration check. In: a source's `config` and `field_mapping`. Out: one
dictionary per record, by worklist field. The host handles schedule, timeout, retries, checks and storage.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pylantir.columns import SOURCE_VALUES, RecordMapping
from pylantir.settings import EMPTY_VALUES

TYPE_CHECKING = False  # understood by type checkers; `typing` itself would cost every worker a megabyte
if TYPE_CHECKING:
    from typing import Any

RECORD_LABEL = "_record"
"""Reserved key of an entry: where the record stands in the source ("row 17"), for messages only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRecord:
    """A record that the plugin could not read; yield it in place of a dictionary, and it is quarantined.

    Attributes:
        record: Where it stands in the source, as "row 17"; no patient data.
        field: The field at fault, or "" for the record as a whole.
        reason: What is wrong with it, without patient data.
    """

    record: str
    field: str
    reason: str


class DataSourcePlugin(ABC):
    """One kind of source. The host makes one instance per worker, without arguments, and calls it every cycle.

    The order of calls is `validate_config`, then `fetch_entries` every cycle, then `cleanup`, all on one
    instance in one process. The working directory is the configuration file's folder.

    Attributes:
        type_name: The value of `type` in the configuration; empty: the stem of the plugin's file.
        targets: Further names that `field_mapping` may map to, beside the worklist fields.

    These two are read without running the file, so they have to be literals in the class body. The host sets the
    others before the first fetch, from the source's keys of these names, for `map_record`:

        empty_values: Words that mean nothing.
        timezone: Name of the source's time zone; empty: this machine's.
        where: Column -> the texts of which a record has to have one, or {"not": [...]}.
        shows_source_values: `pylantir preview` asks; `map_record` then tells beside an entry what it was made of.
    """

    type_name: str = ""
    targets: tuple[str, ...] = ()
    empty_values: Sequence[str] = EMPTY_VALUES
    where: Mapping[str, Any] = {}
    _compiled: tuple[Mapping[str, Any], RecordMapping] | None = None
    timezone: str = ""
    shows_source_values: bool = False

    @abstractmethod
    def validate_config(self, config: dict[str, Any]) -> tuple[bool, str]:
        """Check and keep the source's `config`.

        Returns:
            Whether it is valid, and if not, what to change. An absent file or a server that is down is no
            fault of the configuration: let `fetch_entries` find out.
        """

    @abstractmethod
    def fetch_entries(self, field_mapping: dict[str, Any], interval: float) -> Iterable[Mapping[str, Any] | BadRecord]:
        """Give the records of one cycle, as a list or one by one with `yield`.

        Args:
            field_mapping: As configured, for `map_record`; may be empty.
            interval: Seconds to look back, for a source that knows what changed. Others ignore it.

        Returns:
            Per record a dictionary worklist field -> value as the source has it; the host checks it.

        Raises:
            Exception: Any: the cycle fails, cancels nothing and is tried again.
        """

    @abstractmethod
    def get_source_name(self) -> str:
        """Say what kind of source this is, for people."""

    def supports_incremental_sync(self) -> bool:
        """Say whether `fetch_entries` gives only what changed within `interval`.

        If not, every fetch is the complete picture: the host cancels the steps that it no longer contains.
        """
        return False

    def cleanup(self) -> None:  # noqa: B027 - optional: most sources hold nothing open
        """Let go of connections and files; called once, before the worker ends."""

    def map_record(self, record: Mapping[str, Any], field_mapping: Mapping[str, Any]) -> dict[str, Any]:
        """Turn a raw record into an entry by worklist field, as `field_mapping` and the source's other keys say.

        Args:
            record: What the source gave. Nested objects and lists are reached by dotted paths ("patient.id",
                "visits.0.date"); a key that has this very name comes first.
            field_mapping: In any of its forms, as `fetch_entries` got it.

        Returns:
            Worklist field -> value, without the fields that the record lacks. A record that the source's `where`
            leaves out is an entry that the host passes over; yield it like any other.
        """
        mapping = self.record_mapping(field_mapping)
        entry = mapping.apply(record)
        if self.shows_source_values:
            entry[SOURCE_VALUES] = mapping.source_values(record)
        return entry

    def record_mapping(self, field_mapping: Mapping[str, Any]) -> RecordMapping:
        """Compile a `field_mapping` with the source's other keys about its records; the last result is cached."""
        if self._compiled is None or self._compiled[0] != field_mapping:
            compiled = RecordMapping(field_mapping, empty_values=self.empty_values, where=self.where)
            self._compiled = (field_mapping, compiled)
        return self._compiled[1]


class WatchesForChanges(ABC):
    """A plugin that can tell cheaply that its source changed; having the method is enough."""

    @abstractmethod
    def has_changed(self) -> bool:
        """Say whether a fetch would now give something else than the last one.

        The host asks about once a second between two cycles, and syncs at once on True. Must not block.
        """

    @classmethod
    def __subclasshook__(cls, subclass: type) -> Any:
        if cls is not WatchesForChanges:
            return NotImplemented
        return callable(getattr(subclass, "has_changed", None))


class ReportsRecordIds(ABC):
    """An incremental plugin that can tell which records exist now, so that deleted ones are found."""

    @abstractmethod
    def current_record_ids(self) -> Iterable[str] | None:
        """Name every record that a complete fetch would give now, by its `source_record_id`.

        The host asks after a fetch that succeeded, and cancels the source's records that are not among them.
        Nothing may be cancelled if the iteration raises: only a list that ended is complete.

        Returns:
            The identifiers, best one by one with `yield`, or None when a comparison is not due.
        """

    @classmethod
    def __subclasshook__(cls, subclass: type) -> Any:
        if cls is not ReportsRecordIds:
            return NotImplemented
        return callable(getattr(subclass, "current_record_ids", None))


class NamesSourceFields(ABC):
    """A plugin that reads more source fields than `field_mapping` names."""

    @abstractmethod
    def source_fields(self) -> Mapping[str, str]:
        """Return, for people, where the last fetch took each value from: worklist field -> source fields."""

    @classmethod
    def __subclasshook__(cls, subclass: type) -> Any:
        if cls is not NamesSourceFields:
            return NotImplemented
        return callable(getattr(subclass, "source_fields", None))


class ComparesWhenAsked(ABC):
    """A plugin that reports record IDs at intervals, and at once when an operator asks for it."""

    @abstractmethod
    def compare_now(self) -> None:
        """Make the comparison due at the next `current_record_ids`: an operator asked for this cycle."""

    @classmethod
    def __subclasshook__(cls, subclass: type) -> Any:
        if cls is not ComparesWhenAsked:
            return NotImplemented
        return callable(getattr(subclass, "compare_now", None))
