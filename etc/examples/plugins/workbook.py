"""Rows of a sheet in an Excel workbook (.xlsx), by the names in its header."""

import zipfile
from pathlib import Path

from openpyxl import load_workbook

from pylantir.data_sources.base import RECORD_LABEL, DataSourcePlugin
from pylantir.errors import SourceUnavailable


class WorkbookPlugin(DataSourcePlugin):
    def validate_config(self, config):
        self.path, self.sheet = Path(config.get("file_path", "")), config.get("sheet")
        self.skip_rows = config.get("skip_rows", 0)  # title lines above the header
        return self.path.suffix in {".xlsx", ".xlsm"}, "file_path: expected the path of an .xlsx file"

    def fetch_entries(self, field_mapping, interval):
        try:
            # data_only: what a formula gave when the workbook was last saved, not the formula.
            book = load_workbook(self.path, read_only=True, data_only=True)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise SourceUnavailable(f"{self.path}: cannot be read ({error.__class__.__name__}); is it saved?") from None
        try:
            if self.sheet and self.sheet not in book.sheetnames:
                raise SourceUnavailable(f'{self.path}: no sheet "{self.sheet}"; it has {", ".join(book.sheetnames)}')
            rows = (book[self.sheet] if self.sheet else book.worksheets[0]).iter_rows(min_row=self.skip_rows + 1)
            header = [str(value(cell) or "").strip() for cell in next(rows, ())]
            if missing := set(self.record_mapping(field_mapping).columns) - set(header):
                raise SourceUnavailable(f"{self.path}: the header has no column {', '.join(sorted(missing))}")
            for number, row in enumerate(rows, self.skip_rows + 2):
                record = dict(zip(header, map(value, row), strict=False))
                if any(one not in (None, "") for one in record.values()):
                    yield {**self.map_record(record, field_mapping), RECORD_LABEL: f"row {number}"}
        finally:
            book.close()

    def get_source_name(self):
        return "Excel workbook"


def value(cell):
    """Give what the sheet shows: 12 in a cell of the format 0000 is 0012."""
    shown_with = getattr(cell, "number_format", "")
    return f"{cell.value:0{len(shown_with)}}" if type(cell.value) is int and set(shown_with) == {"0"} else cell.value
