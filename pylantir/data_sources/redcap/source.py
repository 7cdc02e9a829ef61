"""A REDCap project as a source of worklist entries.

Lives in the worker of a REDCap source (and in the configuration check, which asks for `validate_config` alone). In:
the source's `config` and `field_mapping`; out: one dictionary per scan, batch by batch. An idle cycle is one request:
which records changed? Those are then fetched whole, because a scan takes values from several rows of its record.
"""

from __future__ import annotations

import datetime
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pylantir.columns import SOURCE_VALUES, RecordMapping
from pylantir.data_sources.base import BadRecord, DataSourcePlugin
from pylantir.data_sources.redcap.answers import RedcapRefused
from pylantir.data_sources.redcap.ids import SeenIds
from pylantir.data_sources.redcap.naming import ROLES_OF_ID, ROLES_OF_NAME
from pylantir.data_sources.redcap.options import RedcapOptions, read_options
from pylantir.data_sources.redcap.plan import RecordPlan, Row, plan_records
from pylantir.data_sources.redcap.records import find_scans, possible_ids, scan_id, source_values, to_fields
from pylantir.data_sources.wall_clock import wall_clock_before
from pylantir.errors import SourceUnavailable

if TYPE_CHECKING:
    from pylantir.data_sources.redcap.client import RedcapClient

logger = logging.getLogger(__name__)

_DESCRIPTIONS = frozenset({"modality", "procedure_description", "protocol_name", "study_description", "allergies"})
METADATA_LIFETIME_S = 86400.0
COMPLETE_S = 10 * 365 * 86400.0
"""If the host looks back at least this far, every record is fetched, whenever it changed."""
CLOCK_MARGIN_S = 5.0
"""Added to the host's look-back: the Date header, which gives the server's time, has whole seconds only."""


class RedcapPlugin(DataSourcePlugin):
    """Reads scans from a REDCap project through its API."""

    type_name = "redcap"
    targets = ("study_id", "session_id", "family_id")

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._options: RedcapOptions | None = None
        self._client: RedcapClient | None = None
        self._plan: RecordPlan | None = None
        self._mapping: Mapping[str, str] = {}
        self._planned_at = 0.0
        self._compared_at: float | None = None
        self._given = SeenIds()
        self._noted: set[str] = set()

    def get_source_name(self) -> str:
        """Say what kind of source this is."""
        return "REDCap"

    def supports_incremental_sync(self) -> bool:
        """Say yes: REDCap knows which records changed. `current_record_ids` finds the scans that are gone."""
        return True

    def validate_config(self, config: dict[str, Any]) -> tuple[bool, str]:
        """Check `config` and the form of the token, and keep them. Asks no server."""
        options, problems = read_options(config, os.environ)
        # A token of the wrong form must not reach PyCap, which would print it.
        self._options = None if problems else options
        return not problems, "; ".join(problems)

    def fetch_entries(self, field_mapping: dict[str, str], interval: float) -> Iterator[Mapping[str, Any] | BadRecord]:
        """Give the scans of the records that changed within `interval` seconds, or of all if that is ten years.

        Raises:
            SourceUnavailable: REDCap cannot be reached, refuses, or lacks a field; the message says which.
        """
        started = self._monotonic()
        complete = interval >= COMPLETE_S
        client, plan = self._prepare(field_mapping)
        since = None
        if not complete:
            zone_name = self._configured.server_timezone
            since = wall_clock_before(client.server_time(), interval + CLOCK_MARGIN_S, zone_name)
        for rows in self._records(client, plan, plan.fields, since):
            scans = list(find_scans(plan, rows))
            names = {scan_id(plan, scan) for scan in scans}
            if len(names) < len(scans):
                self._note("scans of one record share a source_record_id; map no field to it, or one that differs")
            # A row that was a scan has lost its date or was deleted: the host should be told in this cycle.
            if since and any(name in self._given for name in possible_ids(plan, rows) if name not in names):
                self._compared_at = None
            for name in names:
                self._given.add(name)
            for scan in scans:
                fields = to_fields(plan, scan, self._note)
                if self.shows_source_values and not isinstance(fields, BadRecord):
                    yield {**fields, SOURCE_VALUES: source_values(plan, scan)}
                else:
                    yield fields
        if complete:
            self._compared_at = started

    def current_record_ids(self) -> Iterable[str] | None:
        """List the existing scans, every `reconcile_interval` and whenever a scan seems to be gone."""
        interval_s = self._configured.reconcile_interval_s
        due = self._compared_at is None or self._monotonic() - self._compared_at >= interval_s
        return self._existing_ids() if due and self._plan is not None else None

    def compare_now(self) -> None:
        """Compare in this cycle, even if the last comparison was recent."""
        self._compared_at = None

    def source_fields(self) -> dict[str, str]:
        """Name the REDCap fields behind each worklist field, those of composed names too."""
        if self._plan is None:
            return {}
        names = {target: " or ".join(fields) for target, fields in self._plan.sources.items()}
        if self._plan.composite:
            names["patient_id"] = " + ".join(names[role] for role in ROLES_OF_ID if role in names)
            names["patient_name"] = " + ".join(names[role] for role in ROLES_OF_NAME if role in names)
        return names

    def cleanup(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _existing_ids(self) -> Iterator[str]:
        started = self._monotonic()
        client, plan = self._prepare(self._mapping)
        for rows in self._records(client, plan, plan.id_fields, None):
            for scan in find_scans(plan, rows):
                name = scan_id(plan, scan)
                self._given.add(name)
                yield name
        self._compared_at = started

    @property
    def _configured(self) -> RedcapOptions:
        if self._options is None:
            raise SourceUnavailable("REDCap: the configuration is not valid, or was not checked")
        return self._options

    def _prepare(self, field_mapping: Mapping[str, str]) -> tuple[RedcapClient, RecordPlan]:
        """Prepare the client and the plan; the project's fields are read again after a day."""
        if self._client is None:
            # PyCap and requests take a tenth of a second, which the configuration check does not have.
            from pylantir.data_sources.redcap.client import RedcapClient

            self._client = RedcapClient(self._configured.access)
        client, now = self._client, self._monotonic()
        client.renew_patience()
        if self._plan is None or self._mapping != field_mapping or now - self._planned_at >= METADATA_LIFETIME_S:
            client.forget_metadata()
            self._plan = plan_records(
                client.metadata(),
                field_mapping,
                self._configured.rules,
                where=RecordMapping({}, where=self.where) if self.where else None,
                empty_values=self.empty_values,
                missing_codes=client.missing_codes(),
            )
            self._mapping, self._planned_at = dict(field_mapping), now
            for name in self._plan.unknown:
                self._note(f"the project has no field {name}; it is left out")
            self._note_codes(self._plan)
        return client, self._plan

    def _note_codes(self, plan: RecordPlan) -> None:
        """Warn of descriptions that are codes: a scanner would show "1"."""
        for target in sorted(_DESCRIPTIONS & plan.sources.keys() - plan.labelled - plan.readers.keys()):
            for source in plan.sources[target]:
                if source in plan.choices and source not in plan.boxes:
                    told = f'"{source}" gives codes for {target}; set "labels": ["{source}"] in config for their labels'
                    self._note(told)

    def _records(
        self, client: RedcapClient, plan: RecordPlan, fields: Sequence[str], since: datetime.datetime | None
    ) -> Iterator[list[Row]]:
        """Fetch all records, or those that changed, and give the rows of each."""
        try:
            for batch in client.record_ids(since).batches(self._configured.batch_size):
                records: dict[str, list[Row]] = {}
                rows = client.rows(batch, fields, with_groups=plan.with_groups)
                if rows:
                    self._check_columns(plan, fields, rows[0])
                elif len(batch) > 1:
                    # If this answer were believed, the cycle would succeed without these scans, or cancel all of them.
                    raise SourceUnavailable(f"REDCap gave no rows of {len(batch)} records that it had just listed")
                for row in rows:
                    if (record := row.get(plan.record_field)) in {None, ""}:
                        raise SourceUnavailable(f"REDCap gave a row without {plan.record_field}, the record ID")
                    records.setdefault(str(record), []).append(row)
                yield from records.values()
                client.renew_patience()
        except RedcapRefused:
            # The project's fields may have changed: the next cycle reads them anew.
            self._plan = None
            raise

    def _check_columns(self, plan: RecordPlan, fields: Sequence[str], row: Row) -> None:
        """Check that the token's user sees all columns: REDCap silently leaves out the others."""
        advice = "does not export {}; give the token's user the right to export the full data set"
        if hidden := plan.needed_columns - row.keys():
            raise SourceUnavailable(f"REDCap {advice.format(', '.join(sorted(hidden)))}")
        if fields is plan.fields and (hidden := plan.columns - row.keys()):
            self._note(advice.format(", ".join(sorted(hidden))))

    def _note(self, text: str) -> None:
        """Log a warning once that would otherwise be repeated for every record."""
        if text not in self._noted:
            self._noted.add(text)
            logger.warning("REDCap: %s", text)
