"""Active orders of a FHIR R4 server, each as {"request": ServiceRequest, "task": Task, "patient": Patient}."""

import datetime
import json
import os
from urllib.parse import urlencode

from pylantir.data_sources.base import RECORD_LABEL, DataSourcePlugin
from pylantir.data_sources.http_pages import HttpAccess, HttpPages

TO_PATIENT = {"_include": "ServiceRequest:subject", "_revinclude": "Task:focus"}
FROM_TASK = {"_include": "Task:focus", "_include:iterate": "ServiceRequest:subject"}
FROM_PATIENT = {"_revinclude": "ServiceRequest:subject", "_revinclude:iterate": "Task:focus"}


class FhirPlugin(DataSourcePlugin):
    def validate_config(self, config):
        self.base, self.filter = config.get("base_url", "").rstrip("/"), config.get("filter", {})
        self.headers = {"Authorization": f"Bearer {os.environ[config['token_env']]}"} if "token_env" in config else {}
        return self.base.startswith("http"), "base_url: expected the address of the FHIR server"

    def supports_incremental_sync(self):
        return True

    def current_record_ids(self):
        return [key.partition("/")[2] for key in self.search("ServiceRequest", status="active", **self.filter)]

    def fetch_entries(self, field_mapping, interval):
        since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=interval)
        active, changed = self.current_record_ids(), {"_lastUpdated": f"ge{since:%Y-%m-%dT%H:%M:%SZ}"}
        found = self.search("ServiceRequest", **changed, **TO_PATIENT) | self.search("Task", **changed, **FROM_TASK)
        found |= self.search("Patient", **changed, **FROM_PATIENT)
        tasks = {one["focus"]["reference"]: one for one in found.values() if "focus" in one}
        for key in found.keys() & {f"ServiceRequest/{name}" for name in active}:
            one = {"request": found[key], "task": tasks.get(key), "patient": found[found[key]["subject"]["reference"]]}
            yield {RECORD_LABEL: key, "source_record_id": key[15:], **self.map_record(one, field_mapping)}

    def search(self, kind, **asked):
        pages = HttpPages(HttpAccess(url=f"{self.base}/{kind}?{urlencode(asked)}", headers=self.headers))
        address, found = pages.begin(), {}
        while address:
            with pages.fetch(address) as page:
                bundle = json.load(page)
            found |= {"{resourceType}/{id}".format_map(e["resource"]): e["resource"] for e in bundle.get("entry", [])}
            address = pages.next_address(address, {one["relation"]: one["url"] for one in bundle["link"]}.get("next"))
        return found

    def get_source_name(self):
        return "FHIR server"
