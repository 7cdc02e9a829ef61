from __future__ import annotations

import subprocess
import sys

import pytest

from pylantir.data_sources.redcap.options import KEYS, read_options

TOKEN = "0123456789ABCDEF0123456789ABCDEF"
ENVIRON = {"REDCAP_API_URL": "https://redcap.example.org/api/", "REDCAP_API_TOKEN": TOKEN}


def test_example_configuration_is_read() -> None:
    config = {
        "api_url_env": "REDCAP_API_URL",
        "api_token_env": "REDCAP_API_TOKEN",
        "site_id": "792",
        "protocol": {"792": "BRAIN_MRI_3T"},
    }
    options, problems = read_options(config, ENVIRON)
    assert problems == []
    assert options.access.url == "https://redcap.example.org/api/"
    assert options.rules.protocols.name == "BRAIN_MRI_3T"
    assert options.rules.instrument == "mri"
    assert options.reconcile_interval_s == 3600


def test_defaults_are_those_of_old_installations() -> None:
    options, problems = read_options({"site": 792, "_comment": 1, "legacy": True}, ENVIRON)
    assert problems == []
    assert options.rules.protocols.site == "792"
    assert options.access.token == TOKEN


@pytest.mark.parametrize(
    ("config", "environ", "problem"),
    [
        ({}, {"REDCAP_API_TOKEN": TOKEN}, "the environment variable REDCAP_API_URL is not set"),
        ({}, {"REDCAP_API_URL": ENVIRON["REDCAP_API_URL"]}, "the environment variable REDCAP_API_TOKEN is not set"),
        (
            {"api_token_env": "T"},
            ENVIRON | {"T": "short"},
            "T: expected a project's token of 32 letters and digits, got 5",
        ),
        ({"api_url": "redcap.example.org/api/"}, ENVIRON, "api_url: expected an address such as"),
        ({"api_url": "https://u:p@h/api/"}, ENVIRON, "api_url: expected an address such as"),
        ({"api_url": "https://h/redcap/"}, ENVIRON, "api_url: the address of REDCap's API ends in /api/"),
        ({"api_url": "https://h/api/", "api_url_env": "X"}, ENVIRON, "api_url and api_url_env: give one"),
        ({"api_tokn_env": "X"}, ENVIRON, 'unknown key "api_tokn_env": did you mean "api_token_env"?'),
        ({"api_token": TOKEN}, ENVIRON, 'unknown key "api_token": did you mean "api_token_env"?'),
        ({"site": "1", "site_id": "2"}, ENVIRON, "site_id and site: give one"),
        ({"protocol": 3}, ENVIRON, "protocol: expected text, or an object by site"),
        ({"server_timezone": "Europe/Nowhere"}, ENVIRON, "server_timezone: expected a known time zone"),
        ({"server_timezone": "../x"}, ENVIRON, "server_timezone: expected a"),
        ({"reconcile_interval": "1h"}, ENVIRON, "reconcile_interval: expected a number >= 1"),
        ({"batch_size": 0}, ENVIRON, "batch_size: expected a number >= 1"),
        ({"timeout": True}, ENVIRON, "timeout: expected a number >= 1"),
        ({"verify": "no"}, ENVIRON, "verify: expected true or false"),
        ({"verify": False, "ca_bundle": "ca.pem"}, ENVIRON, "ca_bundle has no effect"),
        ({"events": "visit"}, ENVIRON, "events: expected a list of texts"),
        ({"instrument": ""}, ENVIRON, "instrument: expected text"),
    ],
)
def test_mistakes_are_named_without_secrets(config: dict[str, object], environ: dict[str, str], problem: str) -> None:
    _, problems = read_options(config, environ)
    assert len(problems) == 1
    assert problems[0].startswith(problem)
    assert TOKEN not in problems[0]
    assert "u:p" not in problems[0]


def test_all_mistakes_are_told_at_once() -> None:
    assert len(read_options({"site": [], "verify": 1, "x": 1}, {})[1]) == 5


def test_secret_is_not_shown_by_repr() -> None:
    assert TOKEN not in repr(read_options({}, ENVIRON))


def test_missing_slash_at_the_end_is_added() -> None:
    options, problems = read_options({"api_url": "https://h/redcap/api"}, ENVIRON)
    assert (options.access.url, problems) == ("https://h/redcap/api/", [])


def test_check_of_the_configuration_loads_no_http_library() -> None:
    heavy = "('requests', 'redcap', 'ssl', 'pydantic')"
    code = f"import sys, pylantir.data_sources.redcap.source; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_key_is_documented() -> None:
    from pathlib import Path

    guide = (Path(__file__).parents[3] / "docs/howto/redcap.md").read_text(encoding="utf-8")
    assert [key for key in KEYS if f"`{key}`" not in guide] == []
