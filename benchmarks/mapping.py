"""Records per second through `EntryMapper`: 14 fields each, most of them clean, as a booking system gives them.

Run: python benchmarks/mapping.py [records]
"""

from __future__ import annotations

import sys
import time

from pylantir.mapping import EntryMapper


def make_records(count: int) -> list[dict[str, object]]:
    return [
        {
            "source_record_id": f"R{number:07}",
            "patient_id": f"P{number % 60000:06}",
            "patient_name": f"Family{number % 60000}^Given{number % 97}",
            "patient_birth_date": f"{1930 + number % 90}-{1 + number % 12:02}-{1 + number % 28:02}",
            "patient_sex": ("male", "F", "other")[number % 3],
            "patient_weight_kg": str(40 + number % 70),
            "accession_number": f"A{number:08}",
            "modality": "mr",
            "study_description": ("Brain 3T", "Knee", "Cardiac stress")[number % 3],
            "scheduled_station_aetitle": f"SCANNER{number % 4}",
            "scheduled_start_date": f"2026-12-{1 + number % 28:02}",
            "scheduled_start_time": f"{7 + number % 12:02}:{number % 12 * 5:02}",
            "procedure_description": f"Protocol {number % 40}",
            "performing_physician": f"Physician^{number % 25}",
        }
        for number in range(count)
    ]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    records = make_records(count)
    mapper = EntryMapper()
    started = time.perf_counter()
    for record in records:
        mapper.to_entry(record)
    seconds = time.perf_counter() - started
    print(f"{count} records in {seconds:.2f} s: {count / seconds:,.0f} records/s")


if __name__ == "__main__":
    main()
