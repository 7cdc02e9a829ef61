"""Stores the records that could not become worklist items until their source corrects them. Lives in the writer.

Glossary: quarantine (docs/explanation/glossary.md).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, bindparam, delete, exists, or_, select, update

from pylantir.ipc.cycles import Rejection
from pylantir.store.decide.identifiers import Holder
from pylantir.store.decide.records import REFUSED, Record
from pylantir.store.schema.bulk import chunks
from pylantir.store.schema.tables import NOT_LIVE, rejected_entries, source_entries

_TABLE = rejected_entries.c


def storable(text: str) -> str:
    """Escape the characters that a database refuses: halves of surrogate pairs, and NUL."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record, its identifier that is another patient's, and who has it."""

    record: Record
    column: str
    holder: Holder

    @property
    def reason(self) -> str:
        """Return the reason; `pylantir rejects` adds what to do, which depends on what becomes of the other exam."""
        item = f"item {self.holder.item_id}" if self.holder.item_id else "a record"
        return f"belongs to another patient: {item} of {self.holder.data_source}"


def refuse_record(connection: Connection, refusal: Refusal, now: str) -> None:
    """Put a record into quarantine whose identifier is another patient's."""
    record = refusal.record
    rejection = Rejection(record.record_key, refusal.column, refusal.reason, record.patient_id)
    add_rejections(connection, record.data_source, [rejection], now, in_the_way=refusal.holder)


def name_obstacles(connection: Connection, refusals: Sequence[Refusal]) -> None:
    """Name who is in the way of records that stay refused, if it is somebody else than before."""
    rows = [
        {
            "source": one.record.data_source,
            "record": storable(one.record.record_key),
            "field": one.column,
            "reason": one.reason,
            "other_item": one.holder.item_id,
            "other_patient_id": one.holder.patient["patient_id"],
            "other_source": one.holder.data_source,
        }
        for one in refusals
    ]
    if rows:
        connection.execute(_NAME_OBSTACLE, rows)


def add_rejections(
    connection: Connection,
    source: str,
    rejections: Iterable[Rejection],
    now: str,
    *,
    in_the_way: Holder | None = None,
) -> None:
    """Put records into quarantine, or count one more sighting.

    Args:
        connection: In a transaction.
        source: Whose records they are.
        rejections: What is wrong with them.
        now: The time.
        in_the_way: Whose identifier they claim.
    """
    other = in_the_way.patient["patient_id"] if in_the_way else None
    rows = {
        storable(one.record_key): {
            "data_source": source,
            "record_key": storable(one.record_key),
            "field": storable(one.field),
            "reason": storable(one.reason),
            "first_seen_at": now,
            "last_seen_at": now,
            "times_seen": 1,
            "patient_id": None if one.patient_id is None else storable(one.patient_id),
            "other_item": in_the_way.item_id if in_the_way else None,
            "other_patient_id": other,
            "other_source": in_the_way.data_source if in_the_way else None,
        }
        for one in rejections
    }
    if not rows:
        return
    # That of the database in use, which is loaded: another one would be a tenth of the writer's start.
    dialect = importlib.import_module(f"sqlalchemy.dialects.{connection.dialect.name}")
    statement = dialect.insert(rejected_entries).inline()
    new = statement.excluded
    seen_again = statement.on_conflict_do_update(
        index_elements=["data_source", "record_key"],
        set_={
            "field": new.field,
            "reason": new.reason,
            "patient_id": new.patient_id,
            "other_item": new.other_item,
            "other_patient_id": new.other_patient_id,
            "other_source": new.other_source,
            "last_seen_at": new.last_seen_at,
            "times_seen": _TABLE.times_seen + 1,
        },
    )
    connection.execute(seen_again, list(rows.values()))


def remove_rejections(connection: Connection, source: str, record_keys: Sequence[str]) -> None:
    """Remove corrected records from quarantine."""
    if record_keys and _may_have_any(connection, source):
        for keys in chunks(record_keys):
            connection.execute(delete(rejected_entries).where(*_OF_KEYS), {"source": source, "keys": keys})


def note_sightings(connection: Connection, source: str, record_keys: Sequence[str], now: str) -> None:
    """Note that a source still has these quarantined records, unchanged."""
    if record_keys and _may_have_any(connection, source):
        seen_again = update(rejected_entries).where(*_OF_KEYS)
        seen_again = seen_again.values(last_seen_at=now, times_seen=_TABLE.times_seen + 1)
        for keys in chunks(record_keys):
            connection.execute(seen_again, {"source": source, "keys": keys})


def note_missed_sightings(
    connection: Connection, source: str, has_seen: Callable[[int], bool], since: str, now: str
) -> int:
    """Do what `note_sightings` does for the records of unchanged passages; return how many they are.

    A record that was live when its passage was remembered may have been refused since because of another source.

    Args:
        connection: In a transaction.
        source: Whose records they are.
        has_seen: Whether the cycle has shown a record, by its id.
        since: When the cycle began: what was noted later is not noted again.
        now: The time.
    """
    refused = connection.execute(_FIND_REFUSED, {"source": source})
    record_keys = [row.record_key for row in refused if has_seen(row.id)]
    missed = update(rejected_entries).where(*_OF_KEYS, _seen_before(since, now))
    missed = missed.values(last_seen_at=now, times_seen=_TABLE.times_seen + 1).returning(_TABLE.id)
    values = {"source": source}
    return sum(len(connection.execute(missed, {**values, "keys": keys}).all()) for keys in chunks(record_keys))


def remove_unseen(connection: Connection, source: str, since: str, now: str) -> None:
    """Remove the records that a complete snapshot, begun at `since`, did not show.

    A refused record whose removal is held back stays, with the reason.
    """
    held = exists().where(
        source_entries.c.data_source == source, NOT_LIVE, source_entries.c.state == REFUSED,
        source_entries.c.record_key == _TABLE.record_key,
    )  # fmt: skip
    unseen = (_TABLE.data_source == source, _seen_before(since, now), ~held)
    connection.execute(delete(rejected_entries).where(*unseen))


def _seen_before(since: str, now: str) -> ColumnElement[bool]:
    """Whether a record was last seen before a cycle; if later than now, by a clock that was ahead."""
    return or_(_TABLE.last_seen_at < since, _TABLE.last_seen_at > now)


def _may_have_any(connection: Connection, source: str) -> bool:
    # To ask costs SQLite less than the statement, but a PostgreSQL server's client a round trip.
    return connection.dialect.name == "postgresql" or connection.scalar(_FIND_ANY, {"source": source}) is not None


_NAME_OBSTACLE = (
    update(rejected_entries)
    .where(
        _TABLE.data_source == bindparam("source"),
        _TABLE.record_key == bindparam("record"),
        or_(_TABLE.reason != bindparam("reason"), _TABLE.field != bindparam("field")),
    )
    .values({name: bindparam(name) for name in ("field", "reason", "other_item", "other_patient_id", "other_source")})
)
_FIND_REFUSED = select(source_entries.c.id, source_entries.c.record_key).where(
    source_entries.c.data_source == bindparam("source"), NOT_LIVE, source_entries.c.state == REFUSED
)
_FIND_ANY = select(_TABLE.id).where(_TABLE.data_source == bindparam("source")).limit(1)
_OF_KEYS = (
    _TABLE.data_source == bindparam("source"),
    _TABLE.record_key.in_(bindparam("keys", expanding=True)),
)
