"""Looking items up by their study instance UID, in the form that the indexes serve.

A UID that cannot be one of ours is in an index of its own. One of ours is looked for in every row that the rest of the
query leaves: without a patient or a day beside it, in all of them.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, and_, or_

from pylantir.store.decide.claims import may_be_generated
from pylantir.store.schema.tables import worklist_items

_ITEMS = worklist_items.columns


def has_study_uid(uids: Collection[str]) -> ColumnElement[bool]:
    """The condition that an item has one of some study UIDs."""
    supplied = has_supplied_uid(uids)
    generated = [uid for uid in uids if may_be_generated(uid)]
    return or_(supplied, _ITEMS.study_instance_uid.in_(generated)) if generated else supplied


def has_supplied_uid(uids: Collection[str]) -> ColumnElement[bool]:
    """The same for those that Pylantir cannot have made, which is always quick."""
    foreign = [uid for uid in uids if not may_be_generated(uid)]
    is_foreign = _ITEMS.study_instance_uid.is_distinct_from(_ITEMS.generated_study_uid)
    return and_(_ITEMS.study_instance_uid.in_(foreign), is_foreign)
