from pathlib import Path

from pylantir.data_sources.base import DataSourcePlugin


class CalendarPlugin(DataSourcePlugin):
    def validate_config(self, config):
        self.path = Path(config.get("file_path", ""))
        return self.path.suffix == ".ics", "file_path: expected the path of an .ics file"

    def fetch_entries(self, field_mapping, interval):
        text = self.path.read_text(encoding="utf-8").replace("\n ", "")
        for event in text.split("BEGIN:VEVENT\n")[1:]:
            lines = [line.partition(":") for line in event.partition("END:VEVENT")[0].splitlines()]
            yield self.map_record({name.partition(";")[0]: value for name, _, value in lines}, field_mapping)

    def get_source_name(self):
        return "iCalendar file"
