"""Reading what scanners have reported.

Lives in the server process (N-GET), the writer and the commands. A connection comes in, instances go out; nothing here
writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from pylantir.errors import StoreError
from pylantir.mpps.model import MppsInstance
from pylantir.store.failures import describe_error
from pylantir.store.read.worklist import ROWS_PER_FETCH
from pylantir.store.schema.tables import mpps_instances

_COLUMNS = mpps_instances.c


def find_instance(connection: Connection, sop_instance_uid: str) -> MppsInstance | None:
    """Return the performed procedure step with this UID, if there is one."""
    this = _COLUMNS.sop_instance_uid == sop_instance_uid
    row = connection.execute(select(mpps_instances).where(this)).one_or_none()
    if row is None:
        return None
    return MppsInstance(
        sop_instance_uid=row.sop_instance_uid,
        status=row.status,
        attributes=json.loads(row.attributes),
        item_ids=tuple(json.loads(row.item_ids)),
    )


def find_creator(connection: Connection, sop_instance_uid: str) -> str | None:
    """Return the AE title that created the performed procedure step with this UID, if there is one."""
    this = _COLUMNS.sop_instance_uid == sop_instance_uid
    return connection.execute(select(_COLUMNS.scanner).where(this)).scalar_one_or_none()


def find_reported(connection: Connection, *, patient_id: str | None = None) -> Iterator[Mapping[str, Any]]:
    """Yield all performed procedure steps, or one patient's, the oldest first, `item_ids` and `attributes` decoded.

    Raises:
        StoreError: The database cannot be read just now.
    """
    statement = select(mpps_instances).order_by(_COLUMNS.created_at, _COLUMNS.sop_instance_uid)
    if patient_id is not None:
        statement = statement.where(_COLUMNS.patient_id == patient_id)
    try:
        with connection.execute(statement, execution_options={"yield_per": ROWS_PER_FETCH}) as result:
            for row in result.mappings():
                yield {**row, **{name: json.loads(row[name]) for name in ("item_ids", "attributes")}}
    except SQLAlchemyError as error:
        raise StoreError(f"the database cannot be read: {describe_error(error)}") from None
