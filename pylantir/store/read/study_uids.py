"""Conditions that find items by their study instance UID with the help of the indexes.

UIDs that Pylantir did not generate have an index. For a generated UID the database reads every row that the rest of
the query leaves; without a patient or a day that is the whole table.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, and_, or_

from pylantir.store.decide.claims import may_be_generated
from pylantir.store.schema.tables import worklist_items

_ITEMS = worklist_items.columns


def has_study_uid(uids: Collection[str]) -> ColumnElement[bool]:
    """Return the condition that an item has one of these study UIDs."""
    supplied = has_supplied_uid(uids)
    generated = [uid for uid in uids if may_be_generated(uid)]
    return or_(supplied, _ITEMS.study_instance_uid.in_(generated)) if generated else supplied


def has_supplied_uid(uids: Collection[str]) -> ColumnElement[bool]:
    """Return the condition for those UIDs that Pylantir cannot have generated; it is always fast."""
    foreign = [uid for uid in uids if not may_be_generated(uid)]
    is_foreign = _ITEMS.study_instance_uid.is_distinct_from(_ITEMS.generated_study_uid)
    return and_(_ITEMS.study_instance_uid.in_(foreign), is_foreign)
