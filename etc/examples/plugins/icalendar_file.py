"""Events of an iCalendar file, by the names of their properties: UID, SUMMARY, DTSTART, LOCATION, X-PATIENT-ID."""

from pathlib import Path

from icalendar import Calendar

from pylantir.data_sources.base import RECORD_LABEL, BadRecord, DataSourcePlugin
from pylantir.errors import SourceUnavailable


class CalendarPlugin(DataSourcePlugin):
    type_name = "icalendar"

    def validate_config(self, config):
        self.path = Path(config.get("file_path", ""))
        return self.path.suffix == ".ics", "file_path: expected the path of an .ics file"

    def fetch_entries(self, field_mapping, interval):
        try:
            content = self.path.read_bytes()
            calendars = Calendar.from_ical(content, multiple=True)
        except (OSError, ValueError) as error:
            raise SourceUnavailable(f"{self.path}: cannot be read ({type(error).__name__})") from None
        if not calendars or not content.rstrip().upper().endswith(b"END:VCALENDAR"):
            raise SourceUnavailable(f"{self.path}: is no calendar, or cut short")
        events = [event for calendar in calendars for event in calendar.walk("VEVENT")]
        for number, event in enumerate(events, 1):
            record = {name.upper(): plain(value) for name, value in event.items()}
            if str(record.get("STATUS", "")).upper() == "CANCELLED":
                continue
            if "RRULE" in record or "RDATE" in record:
                reason = "the event repeats; give each scan an event of its own"
                yield BadRecord(record=f"event {number}", field="RRULE", reason=reason)
                continue
            yield {**self.map_record(record, field_mapping), RECORD_LABEL: f"event {number}"}

    def get_source_name(self):
        return "iCalendar file"


def plain(value):
    """Give a date or time as such (with its zone, if it has one), several values as a list, the rest as text."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    return getattr(value, "dt", None) or str(value)
