"""Records of sources, as the decision works on them: a row of `source_entries`, in one of four states. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pylantir.entry import RECORD_FIELDS

LIVE = "live"
"""The record counts."""
PENDING = "pending"
"""It has no identifier of its own and may be a moved one: it waits for the end of its snapshot."""
REFUSED = "refused"
"""It claims an accession number or study UID that belongs to another patient: quarantined."""
WITHDRAWN = "withdrawn"
"""The source no longer has it."""

IDENTIFIERS = ("accession_number", "study_instance_uid")
"""What can belong to one patient only."""

STEP_KEY = "step:"
"""How the key of a record begins that has no identifier of its own."""

RECORD_COLUMNS = (
    "id", "data_source", "record_key", "state", "item_id", "first_seen_at", "changed_at", "withdrawn_at", "held_since",
    "held_times",
)  # fmt: skip
"""The columns of `source_entries` that are not said by a source."""
STORED_COLUMNS = (*RECORD_COLUMNS, *RECORD_FIELDS)


@dataclass(slots=True)
class Record:
    """A row of `source_entries`; `fields` are those that the source gives, by name.

    `held_since` and `held_times` say since when, and in how many whole snapshots, a live record has been missing while
    it was held back. `stored` is the row as it was read, None for a new one.
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
        """Whose it is."""
        return self.fields["patient_id"]

    def describe(self, fields: Mapping[str, str], now: str) -> None:
        """Take over what the source says now."""
        self.fields = fields
        self.changed_at = now
        self.changed = True

    def enter(self, state: str, now: str) -> None:
        """Change the state, and remember the moment of a withdrawal."""
        if self.state != state:
            self.state = state
            self.withdrawn_at = now if state == WITHDRAWN else None
            self.changed = True
            self.release()

    def hold(self, now: str) -> None:
        """Note that a whole snapshot did not show the record, and that it stays for the time being."""
        self.held_since = self.held_since or now
        self.held_times += 1
        self.changed = True

    def release(self) -> None:
        """Note that the record is not held any more."""
        if self.held_since is not None:
            self.held_since, self.held_times, self.changed = None, 0, True

    def identifiers(self) -> list[tuple[str, str]]:
        """The (column, value) pairs that can belong to one patient only."""
        return [(column, value) for column in IDENTIFIERS if (value := self.fields.get(column))]

    def row(self) -> dict[str, object]:
        """The row as the database takes it."""
        own = (
            self.id, self.data_source, self.record_key, self.state, self.item_id, self.first_seen_at, self.changed_at,
            self.withdrawn_at, self.held_since, self.held_times,
        )  # fmt: skip
        return dict(zip(STORED_COLUMNS, (*own, *map(self.fields.get, RECORD_FIELDS)), strict=True))

    def changes(self) -> dict[str, object]:
        """What is to be changed of a stored row."""
        before = self.stored or (None,) * len(STORED_COLUMNS)
        now = self.row().values()
        return {name: value for name, value, stored in zip(STORED_COLUMNS, now, before, strict=True) if value != stored}


def given_fields(contents: Sequence[str | None]) -> dict[str, str]:
    """Name what a source says, without what it does not say.

    Args:
        contents: A value or None for each of `RECORD_FIELDS`.
    """
    return {name: value for name, value in zip(RECORD_FIELDS, contents, strict=True) if value}
