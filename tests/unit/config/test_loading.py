"""A configuration file becomes settings, or a list of everything that is wrong with it."""

from __future__ import annotations

import copy
import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pylantir.config.loading import load_settings
from pylantir.errors import ConfigurationError
from pylantir.settings import (
    Catalogue,
    ClusterSettings,
    OperationWindow,
    PluginProblem,
    PluginType,
    ScannerProfile,
    ServingSettings,
    Settings,
)

CATALOGUE = Catalogue(
    types={
        "csv": PluginType(type_name="csv", builtin=True),
        "json": PluginType(type_name="json", builtin=True),
        "redcap": PluginType(type_name="redcap", builtin=True, targets=("study_id", "session_id", "family_id")),
        "booking": PluginType(type_name="booking", path="/plugins/booking.py"),
    }
)
SOURCE = {
    "name": "bookings",
    "type": "csv",
    "config": {"file_path": "bookings.csv"},
    "field_mapping": {"id": "patient_id", "date": "scheduled_start_date"},
    "defaults": {"modality": "MR"},
}
Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Write a document (or text) to pylantir.json and load it."""
    working_dir = tmp_path / "elsewhere"
    working_dir.mkdir()
    monkeypatch.chdir(working_dir)
    path = tmp_path / "site" / "pylantir.json"
    path.parent.mkdir()

    def write_and_load(
        document: object,
        *,
        environ: dict[str, str] | None = None,
        catalogue: Catalogue = CATALOGUE,
        overrides: dict[str, object] | None = None,
    ) -> Settings:
        text = document if isinstance(document, str) else json.dumps(document)
        path.write_text(text, encoding="utf-8")
        settings = load_settings(path, discover=lambda dirs: catalogue, environ=environ or {}, overrides=overrides)
        return but_for_openness(settings)

    return write_and_load


def but_for_openness(settings: Settings) -> Settings:
    """Nearly all documents here are open to everybody: the warning of it would stand beside every other."""
    told = tuple(line for line in settings.warnings if "gets the worklist" not in line)
    return replace(settings, warnings=told)


def problems_of(load: Load, document: object, **options: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load(document, **options)
    return caught.value.problems


def with_source(**changes: object) -> dict[str, Any]:
    return {"data_sources": [{**copy.deepcopy(SOURCE), **changes}]}


@pytest.mark.parametrize(
    ("cluster", "problem"),
    [
        ({"lease_s": 1.9}, "cluster.lease_s: expected a number of seconds >= 2 and <= 86400, got 1.9"),
        ({"lease_s": 1e9}, "cluster.lease_s: expected a number of seconds >= 2 and <= 86400, got"),
        ({"lease_s": "5"}, 'cluster.lease_s: expected a number of seconds >= 2 and <= 86400, got "5"'),
        ({"host": ""}, "cluster.host: expected 1-255 characters"),
        ({"host": 3}, "cluster.host: expected"),
        ({"name": "north"}, 'cluster: unknown key "name"'),
    ],
)
def test_a_host_has_a_name_and_a_lease_of_two_seconds_at_least(
    load: Load, cluster: dict[str, Any], problem: str
) -> None:
    (found,) = problems_of(load, {**with_source(), "cluster": cluster})
    assert problem in found


def test_a_host_is_called_as_its_machine_unless_it_has_a_name(load: Load) -> None:
    assert load(with_source()).cluster == ClusterSettings(host=socket.gethostname(), lease_s=5)
    named = {**with_source(), "cluster": {"host": "north", "lease_s": 2}}
    assert load(named).cluster == ClusterSettings(host="north", lease_s=2)


def test_every_problem_is_reported_at_once_in_the_agreed_form(load: Load) -> None:
    document = {
        "data_sources": [
            {"name": "a", "type": "csv", "field_maping": {}, "operation_interval": {"start_time": [25, 0]}},
            {"name": "b", "type": "csv", "sync_interval": "5m"},
            {"name": "a", "type": "cvs"},
        ]
    }
    assert problems_of(load, document) == (
        "pylantir.json: data_sources[0].operation_interval.start_time: hour must be 0-23, got 25",
        'pylantir.json: data_sources[0]: unknown key "field_maping": did you mean "field_mapping"?',
        'pylantir.json: data_sources[1].sync_interval: expected a number of seconds >= 1, got "5m"',
        'pylantir.json: data_sources[2].name: "a" is also the name of data_sources[0]; each needs its own',
        (
            'pylantir.json: data_sources[2].type: unknown source type "cvs": did you mean "csv"?'
            " (types that exist: booking, csv, json, redcap)"
        ),
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": ""}, 'name: expected 1-255 characters without control characters, got ""'),
        ({"name": "a\nb"}, 'name: expected 1-255 characters without control characters, got "a\\nb"'),
        ({"name": "x" * 256}, "name: expected 1-255 characters"),
        ({"sync_interval": 0.5}, "sync_interval: expected a number of seconds >= 1, got 0.5"),
        ({"sync_interval": True}, "sync_interval: expected a number of seconds >= 1, got true"),
        ({"sync_interval": None}, "sync_interval: expected a number of seconds >= 1, got null"),
        ({"type": ["csv"]}, "type: expected text, got a list"),
        ({"enabled": "yes"}, 'enabled: expected true or false, got "yes"'),
        ({"operation_interval": {"end_time": [7]}}, "operation_interval.end_time: expected [hour, minute], got [7]"),
        ({"operation_interval": {"end_time": [7, 60]}}, "operation_interval.end_time: minute must be 0-59, got 60"),
        ({"operation_interval": []}, "operation_interval: expected an object, got []"),
        ({"timezone": "Europe/Zurch"}, 'timezone: unknown time zone "Europe/Zurch": did you mean "Europe/Zurich"?'),
        ({"timezone": "../etc/passwd"}, "timezone: unknown time zone"),
        ({"missing_entries": "drop"}, 'missing_entries: expected "cancel" or "keep", got "drop"'),
        ({"fetch_timeout": -1}, "fetch_timeout: expected a number of seconds >= 1, got -1"),
        ({"priority": "high"}, 'priority: expected a number, got "high"'),
        ({"date_format": "%d.%m"}, "date_format: expected a strptime format with day, month and year"),
        ({"time_format": "%d.%m.%Y"}, "time_format: expected a strptime format with hour and minute"),
        ({"config": "bookings.csv"}, "config: expected an object, got text"),
        ({"field_mapping": {"my id": 3}}, 'field_mapping["my id"]: expected text, got 3'),
        (
            {"field_mapping": {"id": "scheduled_start_dat"}},
            'field_mapping.id: unknown worklist field "scheduled_start_dat": did you mean "scheduled_start_date"?',
        ),
        (
            {"field_mapping": {"accession_number": "id"}},
            'field_mapping.accession_number: "id" is no worklist field; if it is the source\'s field, write "id": "acc',
        ),
        (
            {"field_mapping": {"x": "dicom:PatientSise"}},
            'field_mapping.x: unknown DICOM attribute "dicom:PatientSise": did',
        ),
        (
            {"field_mapping": {"x": "dicom:PatientIDs"}},
            'field_mapping.x: unknown DICOM attribute "dicom:PatientIDs"; the',
        ),
        ({"field_mapping": {"patient_id": {}}}, 'field_mapping.patient_id: needs "from"'),
        (
            {"field_mapping": {"patient_id": {"from": 3}}},
            "field_mapping.patient_id.from: expected text, or a list of texts",
        ),
        (
            {"field_mapping": {"patient_id": {"from": "a", "extrct": "b"}}},
            'field_mapping.patient_id: unknown key "extrct": did you mean "extract"?',
        ),
        (
            {"field_mapping": {"patient_id": {"from": "a", "extract": "(b"}}},
            "field_mapping.patient_id.extract: not a regular expression: missing ), unterminated subpattern",
        ),
        (
            {"field_mapping": {"patient_id": {"from": "a", "_extract": {"pattern": "(b)", "group": 2}}}},
            "field_mapping.patient_id._extract.group: the expression has 1 groups",
        ),
        (
            {"field_mapping": {"patient_id": {"from": "a", "source_field": "b"}}},
            'field_mapping.patient_id: "from" and "source_field" mean the same: keep one',
        ),
        (
            {"field_mapping": {"patient_id": {"from": "a", "format": "%d.%m.%Y"}}},
            'field_mapping.patient_id.format: "patient_id" is neither a date nor a time',
        ),
        (
            {"field_mapping": {"patient_birth_date": {"from": "a", "format": "%H:%M"}}},
            'field_mapping.patient_birth_date.format: "%H:%M" has no year, month and day',
        ),
        (
            {"field_mapping": {"patient_birth_date": {"from": "a", "format": "%Q"}}},
            "field_mapping.patient_birth_date.format: expected a strptime format",
        ),
        (
            {"field_mapping": {"a": "patient_id", "patient_id": {"from": "b"}}},
            'field_mapping: "a" and "patient_id" are mapped to the same field "patient_id": keep one',
        ),
        (
            {"field_mapping": {"a": "dicom:PatientID", "b": ["patient_id", "source_record_id"]}},
            'field_mapping: "a" and "b" are mapped to the same field "patient_id": keep one',
        ),
        ({"field_mapping": {"a": []}}, "field_mapping.a: expected a list that is not empty"),
        ({"where": {"a": {"not": [], "nor": []}}}, 'where.a: unknown key "nor": did you mean "not"?'),
        ({"empty_values": "NA"}, "empty_values: expected a list of texts"),
        ({"unusable_values": "drop"}, 'unusable_values: expected "omit" or "reject"'),
        ({"patient_id_prefix": "a b"}, "patient_id_prefix: expected at most 32 printable ASCII"),
        ({"issuer_of_patient_id": "a\u200bb"}, "issuer_of_patient_id: contains an invisible character"),
        ({"date_format": ["%d.%m.%Y", "%H:%M"]}, "date_format: expected a strptime format with day, month and year"),
        ({"defaults": {"dicom:PatientSize": "175"}}, 'defaults["dicom:PatientSize"]: expected a length in metres'),
        (
            {"field_mapping": {"id": "patientid"}},
            'field_mapping.id: unknown worklist field "patientid"; the configuration reference',
        ),
        ({"field_mapping": {"id": "study_id"}}, 'field_mapping.id: unknown worklist field "study_id"'),
        (
            {"field_mapping": {"a": "patient_id", "b": "patient_id"}},
            'field_mapping: "a" and "b" are mapped to the same field "patient_id": keep one',
        ),
        (
            {"defaults": {"modalty": "MR"}},
            'defaults: unknown worklist field "modalty": did you mean "modality"?',
        ),
        ({"defaults": {"modality": True}}, "defaults.modality: expected text or a number, got true"),
        ({"defaults": {"scheduled_station_aetitle": "x" * 17}}, "defaults.scheduled_station_aetitle: "),
        ({"defaults": {"source_record_id": "1"}}, "defaults.source_record_id: identifies one record"),
        (
            {"config": {"password_env": "BOOKING_PW"}},
            "config.password_env: the environment variable BOOKING_PW is not set",
        ),
        (
            {"config": {"headers": {"Authorization": {"env": "BOOKING_TOKEN"}}}},
            "config.headers.Authorization.env: the environment variable BOOKING_TOKEN is not set",
        ),
        (
            {"config": {"servers": [{"password_env": "BOOKING_PW"}]}},
            "config.servers[0].password_env: the environment variable BOOKING_PW is not set",
        ),
    ],
)
def test_wrong_source_is_told_with_its_place(load: Load, change: dict[str, object], problem: str) -> None:
    problems = problems_of(load, with_source(**change))
    assert len(problems) == 1
    assert problems[0].startswith(f"pylantir.json: data_sources[0].{problem}")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"dicom": {"port": 70000}}, "dicom.port: expected a port number 1-65535, got 70000"),
        ({"dicom": {"prot": 104}}, 'dicom: unknown key "prot": did you mean "port"?'),
        ({"dicom": {"ae_title": "A_TITLE_OF_17_CHR"}}, "dicom.ae_title: expected an AE title"),
        ({"allowed_aet": ["A\\B"]}, "allowed_aet[0]: expected an AE title"),
        ({"allowed_aet": "MRI"}, "allowed_aet: expected a list, got text"),
        ({"db_path": "a", "db_url": "sqlite:///b"}, "db_url: db_path and db_url exclude each other: keep one"),
        ({"db_url": "worklist.db"}, "db_url: expected a SQLAlchemy URL"),
        ({"db_url": "sqlite://"}, "db_url: expected a SQLite file"),
        ({"db_url_env": "WORKLIST_DB"}, "db_url_env: the environment variable WORKLIST_DB is not set"),
        ({"db_echo": "maybe"}, 'db_echo: expected true or false, got "maybe"'),
        ({"deduplication": {"match_on": ["patient"]}}, 'deduplication.match_on[0]: unknown worklist field "patient"'),
        ({"deduplication": {"match_on": []}}, "deduplication.match_on: expected a list that is not empty, got []"),
        ({"mwl": {"serve_statuses": ["PLANED"]}}, 'mwl.serve_statuses[0]: unknown status "PLANED": expected one of '),
        ({"mwl": {"serve_statuses": ["CANCELLED"]}}, 'mwl.serve_statuses[0]: unknown status "CANCELLED": did you mean'),
        ({"mwl": {"serve_statuses": []}}, "mwl.serve_statuses: expected a list that is not empty, got []"),
        ({"mwl": {"when_too_many": "stop"}}, 'mwl.when_too_many: expected "truncate" or "fail", got "stop"'),
        ({"allowed_hosts": ["scanner"]}, "allowed_hosts[0]: expected an address or a network, as "),
        ({"dicom": {"max_associations": 0}}, "dicom.max_associations: expected a whole number >= 1, got 0"),
        ({"dicom": {"tls": {"key": "k"}}}, 'dicom.tls: the key "certificate" is missing'),
        ({"dicom": {"tls": {"certificate": "c.pem", "key": "k.pem"}}}, "dicom.tls.certificate: no such file: "),
        (
            {"dicom": {"tls": {"certificate": "c", "key": "k", "require_client_certificate": True}}},
            'dicom.tls.require_client_certificate: needs "ca"',
        ),
        (
            {"modalities": [{"ae_title": "MR1", "certificate": "ab" * 32}]},
            "modalities[0].certificate: needs dicom.tls.ca: without it no scanner's certificate is looked at",
        ),
        (
            {"modalities": [{"ae_title": "*", "certificate": "ab" * 32}]},
            'modalities[0].certificate: "*" stands for many scanners',
        ),
        (
            {"modalities": [{"ae_title": "MR1", "certificate": []}]},
            "modalities[0].certificate: expected a list that is",
        ),
        (
            {"modalities": [{"ae_title": "MR1", "certificate": "MR1"}]},
            "modalities[0].certificate[0]: expected a SHA-256",
        ),
        (
            {"modalities": [{"ae_title": "MR1", "certificate": ["ab"]}]},
            "modalities[0].certificate[0]: expected a SHA-256",
        ),
        (
            {"modalities": [{"ae_title": "MR1", "certificate": "XX=1"}]},
            "modalities[0].certificate[0]: expected names as",
        ),
        ({"mpps": {"own_only": "perhaps"}}, 'mpps.own_only: expected true or false, got "perhaps"'),
        ({"modalities": [{}]}, 'modalities[0]: the key "ae_title" is missing'),
        ({"modalities": [{"ae_title": "MR1"}] * 2}, 'modalities[1].ae_title: "MR1" has an entry already: modalities['),
        (
            {"modalities": [{"ae_title": "MR1"}], "allowed_aet": ["CT1"]},
            'modalities[0].ae_title: "MR1" is not in allowed_aet',
        ),
        (
            {"modalities": [{"ae_title": "MR1", "charset": "ISO_IR 1000"}]},
            'modalities[0].charset: unknown character set "ISO_IR 1000": did you mean "ISO_IR 100"?',
        ),
        (
            {"modalities": [{"ae_title": "MR1", "charset": ["ISO_IR 100", "ISO 2022 IR 87"]}]},
            "modalities[0].charset: several character sets are combined by their ISO 2022 terms only",
        ),
        (
            {"modalities": [{"ae_title": "MR1", "host": "10.0.0.0/40"}]},
            "modalities[0].host[0]: expected an address or a network",
        ),
        (
            {"modalities": [{"ae_title": "MR1", "modality": ["mr"]}]},
            "modalities[0].modality[0]: expected a code of capital letters, as",
        ),
        ({"modalities": [{"ae_title": "MR1", "charsets": ""}]}, 'modalities[0]: unknown key "charsets": did you mean'),
        ({"mwl": {"days_ahead": -1}}, "mwl.days_ahead: expected a whole number of days >= 0, got -1"),
        ({"mwl": {"expire_after_day": 1}}, 'mwl: unknown key "expire_after_day": did you mean "expire_after_days"?'),
        ({"log": {"level": "LOUD"}}, 'log.level: expected "DEBUG", "INFO", "WARNING" or "ERROR", got "LOUD"'),
        ({"data_sources": {}}, "data_sources: expected a list, got an object"),
        ({"data_sources": [7]}, "data_sources[0]: expected an object, got 7"),
        ({"data_sources": []}, "data_sources: is empty: add a source"),
        ({"data_sources": [{"name": "a"}]}, 'data_sources[0]: the key "type" is missing'),
        ({"legacy_mode": True}, "redcap2wl: is missing, but legacy_mode needs it"),
    ],
)
def test_wrong_top_level_is_told_with_its_place(load: Load, change: dict[str, object], problem: str) -> None:
    problems = problems_of(load, {**with_source(), **change})
    assert [line for line in problems if line.startswith(f"pylantir.json: {problem}")], problems


def test_configuration_without_any_source_says_what_to_do(load: Load) -> None:
    (problem,) = problems_of(load, {})
    assert problem.startswith("pylantir.json: data_sources: is missing: add a source, such as ")


SECRET = "0123456789ABCDEF0123456789ABCDEF"


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"api_token_env": SECRET}},
        {"config": {"api_token_env": "ghp_" + SECRET}},
        {"config": {"api_token_env": [SECRET]}},
        {"config": SECRET},
        {"enabled": {"token": SECRET}},
        {"operation_interval": SECRET},
    ],
)
def test_secret_in_the_wrong_place_is_not_shown(load: Load, change: dict[str, object]) -> None:
    problems = problems_of(load, with_source(**change, sync_interval="x"))
    assert not [line for line in problems if SECRET in line]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            f"postgresql://u:a@{SECRET}@h/d",
            'there is an "@" that is no separator; in a user name or password, write "@" as',
        ),
        (f"postgresql://u:a?{SECRET}@h/d", 'there is an "@" that is no separator'),
        (f"postgresql://u:a#{SECRET}@h/d", 'there is a "#"'),
        (f"postgresql://u:{SECRET}@h:54x2/d", "the port is no number from 1 to 65535"),
        (f"postgresql://u:{SECRET}@h:65536/d", "the port is no number from 1 to 65535"),
        (f"postgresql://u:{SECRET}@h:0/d", "the port is no number from 1 to 65535"),
        (f"postgresql://u:{SECRET}@/d?host=a:1&host=b:x", "the port is no number from 1 to 65535"),
        (f"postgresql://u:{SECRET}@/d?host=a&port=1,y", "the port is no number from 1 to 65535"),
        (f"postgresql://u:{SECRET}@[::1]:x/d", "the port is no number from 1 to 65535"),
        (f"postgresql://u:{SECRET}", "the port is no number from 1 to 65535"),
        (f"postgresql://u:{SECRET}@a:1,b:2/d", "several hosts are written"),
        (f"postgresql://u:{SECRET}@/d?host=a:1,b:2", "several hosts are written"),
        (f"postgresql://u:{SECRET}@/d?host=[::1]:1&host=b:2", "an IPv6 address is written"),
        (f"postgresql://u:{SECRET}@/d?host=%5B::1%5D", "an IPv6 address is written"),
        (f"postgresql://u:{SECRET}@/d?host=::1&host=b:2", "an IPv6 address is written"),
        (f"postgresql://u:{SECRET}@%2Frun%2Fpostgresql/d", "the folder of a socket is written"),
        (
            f"postgresql+psycopg2://u:{SECRET}@h/d",
            'the driver "psycopg2" is not supported: write "postgresql+psycopg://',
        ),
        (f"postgresql+asyncpg://u:{SECRET}@h/d", 'the driver "asyncpg" is not supported'),
        (f"mysql+pymysql://u:{SECRET}@h/d", 'the database "mysql" is not supported'),
        (f"oracle://u:{SECRET}@h/d", 'the database "oracle" is not supported'),
        (f"sqlite+aiosqlite:///{SECRET}.db", 'the driver "aiosqlite" is not supported'),
        (f"postgresql://u:{SECRET}@h/d?sslmod=require", 'unknown connection option "sslmod": did you mean "sslmode"?'),
        (f"postgresql://u:{SECRET}@h/d?sslmode=verify", "sslmode: expected one of disable, allow"),
        (f"postgresql://u:{SECRET}@h/d?sslmode", "a connection option has no value"),
        (f"postgresql://u:{SECRET}@h/d?connect_timeout=2&sslmode=", "a connection option has no value"),
        (f"postgresql://u:{SECRET}@h/d?connect_timeout=soon", "connect_timeout: expected a whole number"),
        (f"postgresql://u:{SECRET}@h/d?keepalives_idle=1.5", "keepalives_idle: expected a whole number"),
        (f"postgresql://u:{SECRET}@h/d?channel_binding=yes", "channel_binding: expected one of disable, prefer"),
        (f"postgresql://u:{SECRET}@h/d?target_session_attrs=rw", "target_session_attrs: expected one of any"),
    ],
)
def test_a_servers_address_is_checked_and_never_shown(load: Load, url: str, said: str) -> None:
    for document, environment in (({"db_url": url}, {}), ({"db_url_env": "DB"}, {"DB": url})):
        with pytest.raises(ConfigurationError) as caught:
            load({**with_source(), **document}, environ=environment)
        assert said in str(caught.value)
        assert SECRET not in str(caught.value)


def test_an_address_to_read_from_goes_with_a_server(load: Load) -> None:
    one, other = "postgresql://u:p%40w@h/d", "postgresql+psycopg://u@/d?host=a:1&host=b:2&target_session_attrs=any"
    settings = load({**with_source(), "db_url": one, "db_read_url": other})
    assert (settings.db_url, settings.db_read_url) == (one, other)
    with pytest.raises(ConfigurationError, match="db_read_url: db_url is needed"):
        load({**with_source(), "db_read_url": other})
    with pytest.raises(ConfigurationError, match='db_read_url: the database "mysql" is not supported'):
        load({**with_source(), "db_url": one, "db_read_url": "mysql://h/d"})


@pytest.mark.parametrize(
    "url", ["postgresql://u@/d?host=::1", "postgresql://u@/d?host=::1,h&port=1,2", "postgresql://u@[::1]:1/d"]
)
def test_an_ipv6_address_of_a_server_is_understood(load: Load, url: str) -> None:
    """Blanks around the value of a variable are not the URL's."""
    assert load({**with_source(), "db_url_env": "DB"}, environ={"DB": f" {url}\n"}).db_url == url


def test_a_missing_driver_is_named(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r'pip install "pylantir\[postgresql\]"'):
        load({**with_source(), "db_url": "postgresql://u@h/d"})


@pytest.mark.parametrize("change", [{"db_url": f"x {SECRET}"}, {"db_url_env": SECRET}, {"db_url": [SECRET]}])
def test_database_secret_is_not_shown(load: Load, change: dict[str, object]) -> None:
    problems = problems_of(load, {**with_source(), **change}, environ={SECRET: SECRET})
    assert problems
    assert not [line for line in problems if SECRET in line]


def test_settings_show_no_secret(load: Load) -> None:
    document = with_source(config={"token": SECRET, "pw_env": "PW"}) | {"db_url": f"postgresql://u:{SECRET}@h/d"}
    settings = load(document, environ={"PW": SECRET})
    assert SECRET not in repr(settings)
    assert settings.sources[0].env_values == {"PW": SECRET}


def test_settings_cross_a_process_boundary(load: Load) -> None:
    settings = load(with_source())
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_broken_plugin_file_matters_only_to_the_source_that_needs_it(load: Load) -> None:
    broken = PluginProblem(path="/plugins/clinic.py", reason="line 3: invalid syntax")
    catalogue = Catalogue(types=CATALOGUE.types, problems=(broken,))
    settings = load(with_source(), catalogue=catalogue)
    expected = "pylantir.json: plugin /plugins/clinic.py is not used: line 3: invalid syntax"
    assert settings.warnings == (expected,)
    settings = load(with_source(type="clinic"), catalogue=catalogue)
    assert settings.warnings == (
        (
            "pylantir.json: data_sources[0].type: plugin /plugins/clinic.py cannot be used: line 3: invalid syntax; "
            "this source fails until it is mended"
        ),
    )
    assert settings.sources[0].plugin == PluginType(type_name="clinic", path="/plugins/clinic.py")


def test_source_cannot_take_the_name_of_a_process(load: Load) -> None:
    (problem,) = problems_of(load, with_source(name="writer"))
    assert problem.startswith('pylantir.json: data_sources[0].name: "writer" is the name of')


def test_disabled_source_gets_the_checks_of_form_only(load: Load) -> None:
    unfinished = {
        "enabled": False,
        "name": "later",
        "type": "not_there_yet",
        "config": {"token_env": "NOT_SET"},
        "field_mapping": {"a": "nothing"},
    }
    settings = load({"data_sources": [SOURCE, unfinished]})
    assert [source.name for source in settings.enabled_sources] == ["bookings"]
    assert settings.warnings == ()
    (problem,) = problems_of(load, {"data_sources": [SOURCE, {**unfinished, "sync_interval": 0}]})
    assert problem.startswith("pylantir.json: data_sources[1].sync_interval: ")


def test_what_is_served_comes_from_the_file(load: Load) -> None:
    assert load(with_source()).dicom.serving == ServingSettings()
    section = {"serve_statuses": ["SCHEDULED"], "expire_after_days": 0, "days_ahead": 7}
    assert load({**with_source(), "mwl": section}).dicom.serving == ServingSettings(
        serve_statuses=("SCHEDULED",), expire_after_days=0, days_ahead=7
    )


def test_a_scanner_has_what_its_entry_says_and_what_all_have_in_common(load: Load) -> None:
    entries = [
        {"ae_title": "*", "charset": "ISO_IR 100", "max_answers": 50, "required_empty": False},
        {"ae_title": "MR1", "host": "10.0.0.1", "charset": ["", "ISO 2022 IR 87"], "modality": ["MR", "PT"]},
        {"ae_title": "CT1", "charset": "\\ISO 2022 IR 149", "only_own_station": True, "required_empty": True},
    ]
    dicom = load({**with_source(), "modalities": entries}).dicom
    common = ScannerProfile(charset=("ISO_IR 100",), max_answers=50, required_empty=False)
    assert dicom.profile_of("ANY") == common
    assert dicom.profile_of("MR1") == replace(
        common, hosts=("10.0.0.1",), charset=("", "ISO 2022 IR 87"), modalities=("MR", "PT")
    )
    assert dicom.profile_of("CT1") == replace(
        common, charset=("", "ISO 2022 IR 149"), only_own_station=True, required_empty=True
    )
    assert load(with_source()).dicom.profile_of("MR1") == ScannerProfile()


def test_unknown_top_level_key_is_a_warning(load: Load) -> None:
    settings = load({**with_source(), "allowed_aets": []})
    assert settings.warnings == ('pylantir.json: unknown key "allowed_aets" is ignored: did you mean "allowed_aet"?',)


def test_fields_that_nobody_gives_are_warned_of(load: Load) -> None:
    settings = load(with_source(field_mapping={"id": "patient_id"}, defaults={}))
    assert settings.warnings == (
        (
            'pylantir.json: data_sources[0].field_mapping: nothing is mapped to "scheduled_start_date", '
            "without which every record is refused"
        ),
        'pylantir.json: data_sources[0]: no modality is mapped or given in "defaults": MR is assumed',
    )
    assert load(with_source(type="booking", field_mapping={}, defaults={})).warnings == ()


def test_all_sources_disabled_is_warned_of(load: Load) -> None:
    assert load(with_source(enabled=False)).warnings == (
        "pylantir.json: data_sources: no source is enabled: the worklist gets no entries",
    )


def test_comments_are_no_keys_on_any_level(load: Load) -> None:
    document = with_source(_why="because", config={"_old": 1, "file_path": "x", "deep": [{"_c": 1, "d": 2}]})
    text = json.dumps({"_a": 1, **document})[:-1] + ', "_a": 2}'
    settings = load(text)
    assert settings.sources[0].config == {"file_path": "x", "deep": [{"d": 2}]}
    assert settings.warnings == ()


def test_byte_order_mark_is_no_problem(load: Load) -> None:
    assert load("\ufeff" + json.dumps(with_source())).sources[0].name == "bookings"


def test_relative_paths_start_from_the_file(load: Load, tmp_path: Path) -> None:
    settings = load({**with_source(), "db_path": "data/w.db", "runtime_dir": "../run"})
    assert settings.base_dir == str(tmp_path / "site")
    assert settings.db_url == f"sqlite:///{tmp_path}/site/data/w.db"
    assert settings.runtime_dir == str(tmp_path / "run")
    assert settings.sources[0].config == {"file_path": "bookings.csv"}


@pytest.mark.parametrize("name", ["plain.db", "a b.db", "50%25.db", "really?.db", "#1.db", "ü@:.db"])
def test_database_url_leads_sqlalchemy_to_the_very_file(load: Load, tmp_path: Path, name: str) -> None:
    from sqlalchemy import make_url

    settings = load({**with_source(), "db_path": name})
    assert make_url(settings.db_url).database == str(tmp_path / "site" / name)


def test_database_is_found_by_url_variable_and_default(load: Load, tmp_path: Path) -> None:
    site = tmp_path / "site"
    url = "postgresql+psycopg://u:p@h/d"
    assert load({**with_source(), "db_url": url}).db_url == url
    assert load({**with_source(), "db_url_env": "DB"}, environ={"DB": url}).db_url == url
    assert load({**with_source(), "db_url": "sqlite:///w.db?x=1"}).db_url == f"sqlite:///{site}/w.db?x=1"
    assert load(with_source()).db_url == f"sqlite:///{site}/worklist.db"
    assert load(with_source(), environ={"STATE_DIRECTORY": "/s:/t"}).db_url == "sqlite:////s/worklist.db"


def test_dot_env_reaches_only_the_source_that_names_it(load: Load, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / ".env").write_text("TOKEN=working\nPW=pw\nOTHER=x\n")
    (tmp_path / "site" / ".env").write_text("TOKEN='beside'\nURL=from_file\n")
    sources = [
        {**SOURCE, "name": "a", "config": {"token_env": "TOKEN", "url_env": "URL"}},
        {**SOURCE, "name": "b", "config": {"pw_env": "PW"}},
    ]
    before = dict(os.environ)
    settings = load({"data_sources": sources}, environ={"URL": "real"})
    first, second = settings.sources
    assert first.secret_env == ("TOKEN", "URL")
    assert first.env_values == {"TOKEN": "beside", "URL": "real"}
    assert second.env_values == {"PW": "pw"}
    assert dict(os.environ) == before


def test_redcap_reads_its_usual_variables(load: Load) -> None:
    source = {"name": "r", "type": "redcap", "config": {"api_url": "https://x/api/"}}
    (problem,) = problems_of(load, {"data_sources": [source]})
    assert "config.api_token_env: the environment variable REDCAP_API_TOKEN is not set" in problem
    settings = load({"data_sources": [source]}, environ={"REDCAP_API_TOKEN": SECRET, "REDCAP_API_URL": "u"})
    assert settings.sources[0].env_values == {"REDCAP_API_TOKEN": SECRET}


def test_sources_come_in_the_order_of_priority(load: Load) -> None:
    priorities = {"a": None, "b": 0, "c": -1.5, "d": None}
    sources = [{**SOURCE, "name": name, "priority": number} for name, number in priorities.items()]
    settings = load({"data_sources": sources})
    assert [(source.name, source.priority) for source in settings.sources] == [
        ("c", -1.5),
        ("a", 0.0),
        ("b", 0.0),
        ("d", 3.0),
    ]


def test_values_arrive_with_their_units(load: Load) -> None:
    document = with_source(
        operation_interval={"start_time": [22, 0], "end_time": [5, 59]},
        timezone="Europe/Zurich",
        date_format="%d/%m/%Y",
        time_format="%I:%M %p",
        missing_entries="keep",
        defaults={"patient_weight_kg": 70},
    )
    log = {"format": "json", "level": "DEBUG"}
    settings = load({**document, "log": log, "deduplication": {"max_minutes": 30}, "db_echo": "True"})
    (source,) = settings.sources
    assert source.window == OperationWindow(start_minute=1320, end_minute=359)
    assert (source.sync_interval_s, source.fetch_timeout_s, source.missing_entries) == (60.0, 300.0, "keep")
    assert source.defaults == {"patient_weight_kg": "70"}
    assert (settings.log.format, settings.log.level, settings.db_echo) == ("json", "DEBUG", True)
    assert (settings.deduplication.max_minutes, settings.deduplication.max_minutes_touched) == (30, 30)


@pytest.mark.parametrize(("given", "bounds"), [({}, (240, 120)), ({"max_minutes": None}, (None, None))])
def test_how_far_apart_one_step_may_start(load: Load, given: dict[str, Any], bounds: tuple[object, object]) -> None:
    settings = load({**with_source(), "deduplication": given})
    assert (settings.deduplication.max_minutes, settings.deduplication.max_minutes_touched) == bounds


def test_command_line_wins_and_is_named_in_problems(load: Load) -> None:
    document = {**with_source(), "dicom": {"port": 104, "ae_title": "OTHER"}}
    settings = load(document, overrides={"port": 4243, "host": None})
    assert (settings.dicom.port, settings.dicom.ae_title) == (4243, "OTHER")
    (problem,) = problems_of(load, document, overrides={"port": 0})
    assert problem == "pylantir.json: --port: expected a port number 1-65535, got 0"


def test_plugin_folders_start_from_the_file_and_an_absent_one_is_warned_of(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    def discover(dirs: Sequence[str]) -> Catalogue:
        asked.append(list(dirs))
        return CATALOGUE

    path = tmp_path / "pylantir.json"
    (tmp_path / "plugins").mkdir()
    path.write_text(json.dumps(with_source()))
    load_settings(path, discover=discover, environ={})
    path.write_text(json.dumps({**with_source(), "plugin_dirs": ["plugins", "gone"]}))
    settings = but_for_openness(load_settings(path, discover=discover, environ={}))
    assert asked == [[str(tmp_path / "plugins")]] * 2
    assert settings.warnings == (f"pylantir.json: plugin_dirs[1]: no such folder: {tmp_path}/gone",)


def test_processes_that_stay_import_no_pydantic() -> None:
    # What was loaded before is the interpreter's own, or that of a tool which measures the tests.
    program = (
        "import sys; before = set(sys.modules);"
        "import pylantir.config.locate, pylantir.settings;"
        "print(sorted({'pydantic', 'dotenv', 'hashlib', 'sqlalchemy'} & (sys.modules.keys() - before)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_misspelt_key_for_the_sources_is_pointed_at(load: Load) -> None:
    (problem,) = problems_of(load, {"data_source": [SOURCE]})
    assert problem == 'pylantir.json: data_sources: is missing: is "data_source" meant?'


@pytest.mark.parametrize(
    ("days", "mode", "warned"),
    [
        ("365", 0o600, []),
        ("20", 0o600, ["dicom.tls.certificate: the server's certificate expires on "]),
        ("-1", 0o600, ["dicom.tls.certificate: the server's certificate has expired on "]),
        ("365", 0o644, ["dicom.tls.key: others can read "]),
    ],
)
def test_a_certificate_near_its_end_and_a_key_for_everybody_are_warnings(
    load: Load, tmp_path: Path, days: str, mode: int, warned: list[str]
) -> None:
    keyed = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "k.pem"]
    for command in (
        ["req", *keyed, "-out", "c.csr", "-subj", "/CN=x"],
        ["x509", "-req", "-in", "c.csr", "-signkey", "k.pem", "-days", days, "-out", "c.pem"],
    ):
        subprocess.run(["openssl", *command], cwd=tmp_path / "site", check=True, capture_output=True, timeout=60)
    (tmp_path / "site/k.pem").chmod(mode)
    settings = load({"data_sources": [SOURCE], "dicom": {"tls": {"certificate": "c.pem", "key": "k.pem"}}})
    told = [warning for warning in settings.warnings if "dicom.tls" in warning]
    assert len(told) == len(warned)
    assert all(text in line for text, line in zip(warned, told, strict=True))


@pytest.mark.parametrize(
    ("pattern", "is_told"), [("^(a+)+$", True), ("(x*){2,}", True), ("^([A-Z]+)_(.*)$", False), (r"(\(+)a", False)]
)
def test_an_expression_that_may_take_very_long_is_told(load: Load, pattern: str, is_told: bool) -> None:
    mapping = {"patient_id": {"from": "a", "extract": pattern}, "b": "scheduled_start_date"}
    warnings = load(with_source(field_mapping=mapping)).warnings
    assert any("field_mapping.patient_id.extract: a repetition within" in line for line in warnings) is is_told
