"""The section `access`: which syslog servers are understood, and which files have to be there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pylantir.config.loading import load_settings
from pylantir.config.sections.syslog_url import EXPECTED_SYSLOG
from pylantir.data_sources.registry import discover
from pylantir.errors import ConfigurationError
from pylantir.settings import AccessSettings, SyslogServer


def load(tmp_path: Path, access: object) -> AccessSettings:
    path = tmp_path / "pylantir.json"
    (tmp_path / "a.csv").write_text("id,day\n")
    mapping = {"id": "patient_id", "day": "scheduled_start_date"}
    source = {"name": "a", "type": "csv", "config": {"file_path": "a.csv"}, "field_mapping": mapping}
    path.write_text(json.dumps({"data_sources": [source], "access": access}))
    return load_settings(path, discover=discover, environ={}).access


def test_answers_are_recorded_and_nothing_is_sent_by_default(tmp_path: Path) -> None:
    assert load(tmp_path, {}) == AccessSettings(log=True, syslog=None)
    assert load(tmp_path, {"log": False}) == AccessSettings(log=False)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("udp://log.example", SyslogServer(transport="udp", host="log.example", port=514)),
        ("tcp://10.0.0.7", SyslogServer(transport="tcp", host="10.0.0.7", port=601)),
        ("tls://log.example/", SyslogServer(transport="tls", host="log.example", port=6514)),
        ("TCP://[::1]:1514", SyslogServer(transport="tcp", host="::1", port=1514)),
    ],
)
def test_syslog_server_is_understood(tmp_path: Path, url: str, server: SyslogServer) -> None:
    assert load(tmp_path, {"syslog": url}).syslog == server


@pytest.mark.parametrize(
    "url",
    [
        "", "log.example", "syslog://log.example", "http://log.example", "udp:log.example", "udp://", "udp://:514",
        "udp://log.example:0", "udp://log.example:65536", "tcp://log.example:abc", "tls://user:word@log.example",
        "tls://log.example/path", "udp://log.example?x=1", "udp://log example", "udp://[::1", 514, ["udp://a"], True,
    ],
)  # fmt: skip
def test_anything_else_is_an_error(tmp_path: Path, url: object) -> None:
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, {"syslog": url})
    (problem,) = error.value.problems
    assert problem.startswith(f"pylantir.json: access.syslog: expected {EXPECTED_SYSLOG}, got ")
    assert "word" not in problem


def test_unknown_key_is_an_error_with_the_near_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match='access: unknown key "syslogg": did you mean "syslog"'):
        load(tmp_path, {"syslogg": "udp://a"})


def test_files_of_tls_become_absolute(tmp_path: Path) -> None:
    for name in ("ca.pem", "own.pem", "own.key"):
        (tmp_path / name).touch()
    files = {"ca": "ca.pem", "certificate": "own.pem", "key": "own.key"}
    syslog = load(tmp_path, {"syslog": "tls://log.example", "tls": files}).syslog
    assert syslog is not None
    assert (syslog.ca, syslog.certificate, syslog.key) == tuple(str(tmp_path / name) for name in files.values())


@pytest.mark.parametrize(
    ("access", "problem"),
    [
        ({"syslog": "tls://a", "tls": {"ca": "nope.pem"}}, "access.tls.ca: no such file"),
        ({"syslog": "tls://a", "tls": {"key": "here.pem"}}, "access.tls: certificate and key are given together"),
        ({"syslog": "tcp://a", "tls": {}}, 'access.tls: is for "syslog": "tls://…" only'),
        ({"tls": {}}, 'access.tls: is for "syslog": "tls://…" only'),
    ],
)
def test_unusable_tls_is_an_error(tmp_path: Path, access: object, problem: str) -> None:
    (tmp_path / "here.pem").touch()
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, access)
    assert [line for line in error.value.problems if problem in line]
