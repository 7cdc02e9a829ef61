"""The records of sources as the decision sees them: rows of `source_entries`, each in one of four states. Pure.

Glossary: record, live, pending, refused, withdrawn (docs/explanation/glossary.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pylantir.entry import RECORD_FIELDS

LIVE = "live"
"""The record counts."""
PENDING = "pending"
"""The record is new and may replace one that its snapshot no longer shows; the writer decides at the snapshot's end."""
REFUSED = "refused"
"""The record claims an accession number or study UID of another patient and is quarantined."""
WITHDRAWN = "withdrawn"
"""The source no longer has the record."""

IDENTIFIERS = ("accession_number", "study_instance_uid")
"""Fields whose value can belong to one patient only."""

STEP_KEY = "step:"
"""The beginning of the key of every record that has no identifier of its own."""

RECORD_COLUMNS = (
    "id", "data_source", "record_key", "state", "item_id", "first_seen_at", "changed_at", "withdrawn_at", "held_since",
    "held_times",
)  # fmt: skip
"""The columns of `source_entries` that do not come from the source."""
STORED_COLUMNS = (*RECORD_COLUMNS, *RECORD_FIELDS)


@dataclass(slots=True)
class Record:
    """A row of `source_entries`; `fields` holds the values that the source gives, by field name.

    While a live record is held back, `held_since` says since when it has been missing, and `held_times` from how many
    complete snapshots. `stored` is the row as it was read, None for a new record.
    """

    id: int
    data_source: str
    record_key: str
    state: str
    item_id: int | None
    first_seen_at: str
    changed_at: str
    withdrawn_at: str | None
    held_since: str | None
    held_times: int
    fields: Mapping[str, str]
    stored: tuple[object, ...] | None = None
    changed: bool = True

    @property
    def patient_id(self) -> str:
        """The patient ID."""
        return self.fields["patient_id"]

    def describe(self, fields: Mapping[str, str], now: str) -> None:
        """Replace the values with those that the source gives now."""
        self.fields = fields
        self.changed_at = now
        self.changed = True

    def enter(self, state: str, now: str) -> None:
        """Change the state; a withdrawal also records its time."""
        if self.state != state:
            self.state = state
            self.withdrawn_at = now if state == WITHDRAWN else None
            self.changed = True
            self.release()

    def hold(self, now: str) -> None:
        """Note that a complete snapshot did not show the record and that it is kept for now."""
        # The clock by which it was held before may have been ahead of this one.
        self.held_since = min(self.held_since or now, now)
        self.held_times += 1
        self.changed = True

    def release(self) -> None:
        """Note that the record is no longer held."""
        if self.held_since is not None:
            self.held_since, self.held_times, self.changed = None, 0, True

    def identifiers(self) -> list[tuple[str, str]]:
        """The (column, value) pairs that can belong to one patient only."""
        return [(column, value) for column in IDENTIFIERS if (value := self.fields.get(column))]

    def row(self) -> dict[str, object]:
        """Return the row for the database."""
        own = (
            self.id, self.data_source, self.record_key, self.state, self.item_id, self.first_seen_at, self.changed_at,
            self.withdrawn_at, self.held_since, self.held_times,
        )  # fmt: skip
        return dict(zip(STORED_COLUMNS, (*own, *map(self.fields.get, RECORD_FIELDS)), strict=True))

    def changes(self) -> dict[str, object]:
        """Return the columns of the stored row that must change."""
        before = self.stored or (None,) * len(STORED_COLUMNS)
        now = self.row().values()
        return {name: value for name, value, stored in zip(STORED_COLUMNS, now, before, strict=True) if value != stored}


def given_fields(contents: Sequence[str | None]) -> dict[str, str]:
    """Return field name -> value for the fields that a source gives.

    Args:
        contents: A value or None for each of `RECORD_FIELDS`.
    """
    return {name: value for name, value in zip(RECORD_FIELDS, contents, strict=True) if value}
