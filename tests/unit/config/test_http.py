"""The section `http`: who may be let in, from where, and what is refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pylantir.config.loading import load_settings
from pylantir.data_sources.registry import discover
from pylantir.errors import ConfigurationError
from pylantir.settings import HttpSettings
from pylantir.web.passwords import hash_password

VARIABLES = {"ANNA": "a long password", "HASHED": hash_password("x"), "BROKEN": "scrypt$16384$8$1$AAAA", "TOKEN": "t0k-en",
             "EMPTY": "", "COSTLY": "scrypt$99999999$8$1$AAAA$AAAA"}  # fmt: skip
USER = {"anna": {"password_env": "ANNA"}}
OPEN: dict[str, Any] = {"host": "0.0.0.0", "users": USER, "behind_proxy": True}


def load(folder: Path, http: object, **whole: Any) -> HttpSettings | None:
    (folder / "a.csv").write_text("id,day\n")
    mapping = {"id": "patient_id", "day": "scheduled_start_date"}
    source = {"name": "a", "type": "csv", "config": {"file_path": "a.csv"}, "field_mapping": mapping}
    document = {"data_sources": [source], **({} if http is None else {"http": http}), **whole}
    (folder / "pylantir.json").write_text(json.dumps(document))
    return load_settings(folder / "pylantir.json", discover=discover, environ=VARIABLES).http


def problems(folder: Path, http: object, **whole: Any) -> str:
    with pytest.raises(ConfigurationError) as error:
        load(folder, http, **whole)
    return "\n".join(error.value.problems)


def test_an_empty_section_serves_this_machine_and_none_serves_nobody(tmp_path: Path) -> None:
    assert load(tmp_path, {}) == HttpSettings()
    assert load(tmp_path, None) is None


def test_passwords_and_tokens_come_from_the_environment(tmp_path: Path) -> None:
    http = load(tmp_path, {"users": {**USER, "otto": {"password_env": "HASHED"}}, "tokens_env": ["TOKEN"]})
    assert http
    assert (http.users["anna"], http.tokens) == ("a long password", ("t0k-en",))
    assert set(http.secret_env) == {"ANNA", "HASHED", "TOKEN"}
    assert "a long password" not in repr(http)


@pytest.mark.parametrize(
    ("http", "said"),
    [
        ({"users": {"a": {"password_env": "ABSENT_ONE"}}}, 'http.users.a.password_env: the environment variable ABSENT_ONE'),
        ({"users": {"a": {"password_env": "EMPTY"}}}, "EMPTY is not set"),
        ({"users": {"a": {"password_env": "BROKEN"}}}, "is no hash"),
        ({"users": {"a": {"password_env": "COSTLY"}}}, "is no hash"),
        ({"users": {"a:b": {"password_env": "ANNA"}}}, 'expected a name, without ":"'),
        ({"users": {"a": {}}}, 'the key "password_env" is missing'),
        ({"users": {"a": {"password": "open"}}}, "http.users.a"),
        ({"tokens_env": ["ABSENT_ONE"]}, "http.tokens_env[0]: the environment variable ABSENT_ONE"),
        ({"pasges": True}, 'did you mean "pages"'),
        ({"pages": "yes"}, "http.pages"),
        ({"port": 0}, "http.port"),
        ({"port": 70000}, "http.port"),
        ({"port": 4242}, "is the port of the DICOM server"),
        ({"tls": {"certificate": "absent.pem", "key": "absent.pem"}}, "no such file"),
        ({"tls": {"certificate": "a.csv"}}, 'http.tls: the key "key" is missing'),
        ({"tls": {"certificate": "a.csv", "key": "a.csv"}}, "cannot be used together"),
        ({"host": "0.0.0.0"}, '"users" or "tokens_env"'),
        ({"host": "0.0.0.0", "users": USER}, 'add "tls", or "behind_proxy"'),
        ({"host": "worklist.example.org", "behind_proxy": True}, '"users" or "tokens_env"'),
        ({"host": "::", "tokens_env": ["TOKEN"]}, 'add "tls", or "behind_proxy"'),
        ([], "http"),
    ],
)  # fmt: skip
def test_what_is_not_safe_or_not_usable_is_refused(tmp_path: Path, http: object, said: str) -> None:
    told = problems(tmp_path, http)
    assert said in told
    assert not [secret for secret in VARIABLES.values() if len(secret) > 3 and secret in told]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_on_loopback_no_login_is_needed(tmp_path: Path, host: str) -> None:
    http = load(tmp_path, {"host": host})
    assert http
    assert not http.needs_login


@pytest.mark.parametrize(
    ("dicom", "http", "clashes"),
    [("127.0.0.1", "127.0.0.1", True), ("0.0.0.0", "127.0.0.1", True), ("localhost", "127.0.0.1", True),
     ("10.0.0.1", "127.0.0.1", False)],
)  # fmt: skip
def test_both_servers_on_one_port_of_one_address_are_an_error(
    tmp_path: Path, dicom: str, http: str, clashes: bool
) -> None:
    whole = {"dicom": {"host": dicom, "port": 4280}}
    if clashes:
        assert "http.port" in problems(tmp_path, {"host": http}, **whole)
    else:
        load(tmp_path, {"host": http}, **whole)


def test_a_login_and_a_proxy_or_tls_open_it_to_others(tmp_path: Path) -> None:
    assert load(tmp_path, OPEN)
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=x",
        "-keyout",
        "web.key",
        "-out",
        "web.pem",
    ]
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    http = load(
        tmp_path, {"host": "0.0.0.0", "tokens_env": ["TOKEN"], "tls": {"certificate": "web.pem", "key": "web.key"}}
    )
    assert http
    assert http.tls


@pytest.mark.parametrize(
    ("modalities", "said"),
    [
        ([{"ae_title": "MR1", "user": "otto"}], 'modalities[0].user: "otto" is not among http.users'),
        ([{"ae_title": "MR1", "user": "anna"}, {"ae_title": "MR2", "user": "anna"}], "asks as MR1 already"),
        ([{"ae_title": "*", "user": "anna"}], '"*" stands for'),
    ],
)
def test_a_user_asks_as_one_scanner(tmp_path: Path, modalities: object, said: str) -> None:
    assert said in problems(tmp_path, {"users": USER}, modalities=modalities)
    http = load(tmp_path, {"users": USER}, modalities=[{"ae_title": "MR1", "user": "anna"}])
    assert http
    assert http.stations == {"anna": "MR1"}


def test_a_user_of_a_scanner_needs_the_section(tmp_path: Path) -> None:
    assert "is not among http.users" in problems(tmp_path, None, modalities=[{"ae_title": "MR1", "user": "anna"}])
