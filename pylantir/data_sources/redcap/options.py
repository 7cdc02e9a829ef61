"""The `config` of a REDCap source, checked.

Lives in the configuration check and in the worker of a REDCap source. In: `config` and the environment that holds
the secrets; out: frozen values, and the problems found. Sends no request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pylantir.data_sources.options import Options
from pylantir.data_sources.redcap.naming import Protocols
from pylantir.data_sources.redcap.plan import RecordRules

KEYS = (
    "api_url",
    "api_url_env",
    "api_token_env",
    "site_id",
    "site",
    "protocol",
    "instrument",
    "events",
    "server_timezone",
    "reconcile_interval",
    "batch_size",
    "timeout",
    "patience",
    "verify",
    "ca_bundle",
    "legacy",
    "labels",
    "missing_codes",
)
_TOKEN_LENGTH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RedcapAccess:
    """A project's address and token, and the time limits for its requests.

    Attributes:
        url: Ends in "/api/".
        token: 32 characters; a secret.
        token_env: The environment variable that holds it, for messages.
        verify: Whether the server's certificate is checked, or the file of CA certificates to check it with.
        timeout_s: Longest silence within one request, in seconds.
        patience_s: Longest time from `renew_patience` to giving up, all attempts and pauses included.
    """

    url: str
    token: str = field(repr=False)
    token_env: str
    verify: bool | str = True
    timeout_s: float = 60.0
    patience_s: float = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RedcapOptions:
    """All values of `config`.

    Attributes:
        access: Where the project is.
        rules: What its records mean.
        server_timezone: The zone of the server's clock; empty: this machine's.
        reconcile_interval_s: From one comparison of record IDs to the next, in seconds.
        batch_size: Records per request.
    """

    access: RedcapAccess
    rules: RecordRules
    server_timezone: str = ""
    reconcile_interval_s: float = 3600.0
    batch_size: int = 200


def read_options(config: Mapping[str, object], environ: Mapping[str, str]) -> tuple[RedcapOptions, list[str]]:
    """Read `config`.

    Returns:
        The options, usable if there are no problems, and the problems: in words, without any secret.
    """
    options = Options(config, KEYS)
    url = options.text("api_url")
    url_env = options.text("api_url_env", "" if url else "REDCAP_API_URL")
    token_env = options.text("api_token_env", "REDCAP_API_TOKEN")
    if url and url_env:
        options.problems.append("api_url and api_url_env: give one of them")
    url, url_problem = _check_url(url or environ.get(url_env, "").strip(), url_env)
    token = environ.get(token_env, "").strip()
    options.problems += [problem for problem in (url_problem, _token_problem(token, token_env)) if problem]
    ca_bundle, verify = options.text("ca_bundle"), options.flag("verify", default=True)
    if ca_bundle and not verify:
        options.problems.append('ca_bundle has no effect with "verify": false; leave one of them out')
    read = RedcapOptions(
        access=RedcapAccess(
            url=url,
            token=token,
            token_env=token_env,
            verify=ca_bundle or verify,
            timeout_s=options.number("timeout", 60.0, 1.0),
            patience_s=options.number("patience", 240.0, 1.0),
        ),
        rules=RecordRules(
            instrument=options.text("instrument", "mri"),
            events=options.texts("events"),
            legacy=options.flag("legacy", default=False),
            protocols=_read_protocols(options, config.get("protocol")),
            labels=_read_labels(options, config.get("labels", False)),
            missing_codes=frozenset(options.texts("missing_codes")),
        ),
        server_timezone=options.time_zone("server_timezone"),
        reconcile_interval_s=options.number("reconcile_interval", 3600.0, 1.0),
        batch_size=int(options.number("batch_size", 200, 1)),
    )
    return read, options.problems


def _check_url(url: str, url_env: str) -> tuple[str, str]:
    where = url_env or "api_url"
    if not url:
        return url, f"the environment variable {where} is not set; it holds the address of REDCap's API"
    scheme, _, rest = url.partition("://")
    if scheme not in {"http", "https"} or "@" in rest or any(mark in url for mark in "?# "):
        return url, f"{where}: expected an address such as https://redcap.example.org/api/"
    url = url if url.endswith("/") else url + "/"
    return url, "" if url.endswith("/api/") else f"{where}: the address of REDCap's API ends in /api/"


def _token_problem(token: str, token_env: str) -> str:
    """Check the token's form here, because PyCap would print it."""
    if not token:
        return f"the environment variable {token_env} is not set; it holds the API token"
    if len(token) != _TOKEN_LENGTH or not (token.isascii() and token.isalnum()):
        expected = f"expected a project's token of {_TOKEN_LENGTH} letters and digits"
        return f"{token_env}: {expected}, got {len(token)} characters"
    return ""


def _read_labels(options: Options, labels: object) -> bool | frozenset[str]:
    if isinstance(labels, bool):
        return labels
    if isinstance(labels, list) and all(isinstance(name, str) and name for name in labels):
        return frozenset(labels)
    options.problems.append("labels: expected true, or a list of fields whose answers are taken by their labels")
    return False


def _read_protocols(options: Options, protocol: object) -> Protocols:
    site, also = options.text("site_id"), options.text("site")
    if site and also and site != also:
        options.problems.append("site_id and site: give one of them")
    if isinstance(protocol, Mapping) and all(isinstance(name, str) for name in protocol.values()):
        return Protocols(site=site or also, protocol=dict(protocol))
    if protocol is None or isinstance(protocol, str):
        return Protocols(site=site or also, protocol=protocol or "")
    options.problems.append('protocol: expected text, or an object by site such as {"792": "BRAIN_MRI_3T"}')
    return Protocols(site=site or also)
