"""Bookings of a system like Calpendo: one request for the list, one per booking for its details.

The details are mapped by (dotted) names; patient and procedure often stand in the title: take them out with "extract".
"""

import datetime
import os

import requests

from pylantir.data_sources.base import RECORD_LABEL, DataSourcePlugin
from pylantir.errors import SourceUnavailable


class BookingSystemPlugin(DataSourcePlugin):
    def validate_config(self, config):
        missing = [key for key in ("base_url", "username_env", "password_env", "resources") if not config.get(key)]
        self.config = config
        return not missing, f"{', '.join(missing)}: missing from config"

    def fetch_entries(self, field_mapping, interval):
        today = datetime.datetime.now().astimezone().date()
        until = today + datetime.timedelta(days=self.config.get("days", 14))
        with requests.Session() as session:
            session.auth = tuple(os.environ[self.config[key]] for key in ("username_env", "password_env"))
            for resource in self.config["resources"]:
                window = {"resource": resource, "from": str(today), "to": str(until)}
                for booking in self.ask(session, "bookings", window)["bookings"]:
                    details = self.ask(session, f"bookings/{booking['id']}")
                    if details.get("status") in self.config.get("status_filter", ["Approved"]):
                        entry = self.map_record({"resource": resource, **details}, field_mapping)
                        yield {"source_record_id": booking["id"], RECORD_LABEL: f"booking {booking['id']}", **entry}

    def ask(self, session, path, parameters=None):
        url = f"{self.config['base_url'].rstrip('/')}/{path}"
        try:
            # No redirects: they would carry the password elsewhere, or lead to a login page.
            answer = session.get(url, params=parameters, timeout=30, allow_redirects=False)
            if answer.status_code != 200:
                raise SourceUnavailable(f"{url}: answers HTTP {answer.status_code}; check base_url and the account")
            return answer.json()
        except (requests.RequestException, ValueError) as error:
            raise SourceUnavailable(f"{url}: no usable answer ({type(error).__name__})") from None

    def get_source_name(self):
        return "booking system"
