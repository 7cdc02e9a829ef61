"""HL7 v2 orders (ORM^O01, OMI^O23) in a folder; fields by name: PID-3.1, IPC-5; PID-5 is the name in DICOM's order."""

from pathlib import Path

import hl7

from pylantir.data_sources.base import BadRecord, DataSourcePlugin
from pylantir.errors import SourceUnavailable


class OrderMessagesPlugin(DataSourcePlugin):
    def validate_config(self, config):
        self.folder = Path(config.get("folder", ""))
        return bool(config.get("folder")), "folder: expected the path of the folder with the messages (*.hl7)"

    def fetch_entries(self, field_mapping, interval):
        if not self.folder.is_dir():
            raise SourceUnavailable(f"{self.folder}: there is no such folder")
        found = []
        for path in sorted(self.folder.glob("*.hl7")):
            try:
                message = hl7.parse("\r".join(path.read_text("utf-8").strip("\x0b\x1c\r\n").splitlines()))
                if str(message.segment("MSH")[9]).startswith(("ORM^O01", "OMI^O23")):
                    found += [(str(message.segment("MSH")[7]), order) for order in read_orders(message)]
            except (LookupError, ValueError, hl7.HL7Exception):
                yield BadRecord(record=path.name, field="", reason="no message in UTF-8 with numbered orders")
        # The newest message of an order counts.
        orders = {order["ORDER"]: order for _, order in sorted(found, key=lambda one: one[0])}
        yield from (
            self.map_record(one, field_mapping) for one in orders.values() if one["ORC-1"] in ("NW", "XO", "SC")
        )

    def get_source_name(self):
        return "HL7 order messages"


def read_orders(message):
    starts = [place for place, segment in enumerate(message) if str(segment[0]) == "ORC"]
    for begin, end in zip(starts, [*starts[1:], len(message)], strict=True):
        order = {}
        for segment in reversed([*message[: starts[0]], *message[begin:end]]):  # of two alike the first one counts
            for number, field in enumerate(segment[1:], 1):
                first, name = str(field).split("~")[0].replace('""', ""), f"{segment[0]}-{number}"
                parts = {f"{name}.{place}": part for place, part in enumerate(first.split("^"), 1)}
                order |= {key: message.unescape(text) for key, text in {name: first, **parts}.items()}
        name = [order.get(f"PID-5.{part}", "").split("&")[0] for part in (1, 2, 3, 5, 4)]
        start = [order[field] for field in ("TQ1-7", "OBR-36", "ORC-7.4") if order.get(field)]
        order |= {"PID-5": "^".join(name).rstrip("^"), "START": start[0] if start else None}
        yield order | {"ORDER": order.get("ORC-2.1") or order.get("ORC-3.1") or order["neither ORC-2 nor ORC-3"]}
