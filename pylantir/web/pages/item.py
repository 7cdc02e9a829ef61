"""One item: who says what about it, which value counts, and what has happened to it.

Pure but for what it asks of its ports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pylantir.entry import RECORD_ID_FIELD, WORKLIST_FIELDS
from pylantir.web.pages.day import show_date, show_item, show_name, show_time
from pylantir.web.ports import Item, Ports

_UNTOLD = {"known_conflicts", "updated_at", "created_at"}
_NAMES = {
    "study_instance_uid": "Study instance UID",
    "patient_id": "Patient ID",
    "scheduled_station_aetitle": "Scheduled station AE title",
    "source_record_id": "Record ID",
    "performed_procedure_step_status": "Status",
}
_ACTIONS = {"conflict": "sources differ", "kept_apart": "kept apart from another item"}
_ACTORS = {"source": "source", "scanner": "scanner", "command": "command", "user": "user"}


def lay_out_item(item: Item, ports: Ports) -> dict[str, Any]:
    """Give the template's values: the item, what each source says about each field, and what has happened.

    Raises:
        StoreError: The database cannot be read just now.
    """
    number = int(str(item["id"]))
    owner = item.get("data_source")
    statements = sorted(ports.find_statements(number), key=lambda statement: statement["data_source"] != owner)
    rows = []
    for name in (*WORKLIST_FIELDS, RECORD_ID_FIELD):
        value, said = item.get(name) or "", [statement["fields"].get(name) or "" for statement in statements]
        if value or any(said):
            cells = [{"value": show_value(name, one), "differs": bool(one) and one != value} for one in said]
            rows.append({"field": show_field(name), "value": show_value(name, value), "said": cells})
    return {
        "item": show_item(item),
        "owner": owner,
        "sources": [statement["data_source"] for statement in statements],
        "rows": rows,
        "differences": [row for row in ports.find_conflicts() if number in row["items"]],
        "history": [_event(row) for row in ports.find_history(number)],
    }


def show_field(name: str) -> str:
    """Write the name of a worklist field as people do."""
    spoken = " ".join(word.upper() if word in {"id", "uid"} else word for word in name.split("_"))
    return _NAMES.get(name) or spoken[:1].upper() + spoken[1:]


def show_value(name: str, value: object) -> str:
    """Write a stored value as people do: dates, times and names."""
    vr = WORKLIST_FIELDS[name].vr if name in WORKLIST_FIELDS else ""
    if value in (None, ""):
        return ""
    return {"DA": show_date, "TM": show_time, "PN": show_name}.get(vr, str)(value)


def show_moment(moment: object) -> str:
    """Write a moment (ISO 8601) on this machine's clock."""
    return f"{datetime.fromisoformat(str(moment)).astimezone():%Y-%m-%d %H:%M:%S}"


def _event(row: Mapping[str, Any]) -> dict[str, Any]:
    changes = row.get("changes")
    parsed = json.loads(changes) if isinstance(changes, str) else changes or {}
    lines = [f"{show_field(name)}: {_change(name, change)}" for name, change in parsed.items() if name not in _UNTOLD]
    kind, _, name = str(row["actor"]).partition(":")
    action = str(row["action"])
    return {
        "at": show_moment(row["at"]),
        "actor": f"{_ACTORS.get(kind, kind)} {name}".strip(),
        "action": _ACTIONS.get(action, action.replace("_", " ")),
        "lines": lines,
    }


def _change(name: str, change: object) -> str:
    if isinstance(change, list) and len(change) == 2:
        before, after = ("none" if one in (None, "") else show_value(name, one) for one in change)
        return f"{before} → {after}"
    if isinstance(change, Mapping) and "winner" in change:
        value, lost = (show_value(name, change.get(key)) for key in ("value", "lost"))
        return f"{change.get('winner')} says {value}, {change.get('loser')} says {lost}"
    return str(change)
