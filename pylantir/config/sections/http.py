"""Checks the section `http`: its values have to be safe and usable.

Lives in the configuration check. The pages show patients' names, so a login and encryption are obligatory on every
address that other machines can reach.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from pylantir.config.environment import check_variable
from pylantir.config.locate import fault_of, resolve_path
from pylantir.config.messages import Finding, Place
from pylantir.config.models.serving import Http, Scanner
from pylantir.settings import HttpSettings, TlsSettings

_PLACE: Place = ("http",)
_LIBRARIES = ("starlette", "uvicorn", "jinja2", "prometheus_client")
_HASH = re.compile(r"scrypt\$(\d{1,8})\$(\d{1,3})\$(\d{1,3})\$[A-Za-z0-9+/]+=*\$[A-Za-z0-9+/]+=*")
_MOST_MEMORY = 128 * 1024 * 1024
_EVERY_ADDRESS = {"0.0.0.0", "::", ""}  # noqa: S104 - it is compared


def check_http(document: Mapping[str, object], base_dir: Path, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Find missing values and forbidden combinations; the models report values of a wrong form."""
    section = document.get("http")
    users = section.get("users") if isinstance(section, dict) else None
    yield from _check_scanners(document.get("modalities"), users if isinstance(users, dict) else {})
    if not isinstance(section, dict):
        return
    if not all(map(find_spec, _LIBRARIES)):
        yield Finding(place=_PLACE, text="needs further libraries: pip install 'pylantir[web]'")
    yield from _check_login(section, environment)
    yield from _check_files(section.get("tls"), base_dir)
    host = section.get("host", "127.0.0.1")
    if isinstance(host, str) and not is_loopback(host):
        yield from _check_exposure(section, host)
    yield from _check_port(section, document.get("dicom", {}))


def http_settings(
    section: Http | None, scanners: list[Scanner], base_dir: Path, environment: Mapping[str, str]
) -> HttpSettings | None:
    """Read the passwords and tokens, and make paths absolute."""
    if section is None:
        return None
    variables = [*(user.password_env for user in section.users.values()), *section.tokens_env]
    tls = None
    if section.tls:
        certificate, key = (str(resolve_path(file, base_dir)) for file in (section.tls.certificate, section.tls.key))
        tls = TlsSettings(certificate=certificate, key=key)
    return HttpSettings(
        host=section.host,
        port=section.port,
        users={name: environment[user.password_env] for name, user in section.users.items()},
        tokens=tuple(environment[name] for name in section.tokens_env),
        secret_env=tuple(variables),
        tls=tls,
        behind_proxy=section.behind_proxy,
        stations={scanner.user: scanner.ae_title for scanner in scanners if scanner.user},
        pages=section.pages,
        dicomweb=section.dicomweb,
        metrics=section.metrics,
    )


def is_loopback(host: str) -> bool:
    """Say whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_scanners(modalities: object, users: Mapping[str, object]) -> Iterator[Finding]:
    """Find entries of `modalities` whose user is nobody, or somebody else's already."""
    owners: dict[str, object] = {}
    for position, entry in enumerate(modalities if isinstance(modalities, list) else ()):
        user = entry.get("user") if isinstance(entry, dict) else None
        if not isinstance(user, str):
            continue
        place = ("modalities", position, "user")
        if user not in users:
            yield Finding(place=place, text=f'"{user}" is not among http.users')
        elif entry.get("ae_title") == "*":
            yield Finding(place=place, text='"*" stands for all other scanners, and a user asks as one')
        elif user in owners:
            yield Finding(place=place, text=f'"{user}" asks as {owners[user]} already')
        owners.setdefault(user, entry.get("ae_title"))


def _check_login(section: Mapping[str, object], environment: Mapping[str, str]) -> Iterator[Finding]:
    users, tokens = section.get("users"), section.get("tokens_env")
    for name, user in users.items() if isinstance(users, dict) else ():
        if not name or ":" in name:
            yield Finding(place=(*_PLACE, "users", name), text='expected a name, without ":"')
        if isinstance(user, dict) and "password_env" in user:
            problem = check_variable(user["password_env"], environment)
            if not problem and not _is_usable(environment[user["password_env"]]):
                problem = "begins with scrypt$ and is no hash; make one with `python -m pylantir.web.passwords`"
            if problem:
                yield Finding(place=(*_PLACE, "users", name, "password_env"), text=problem)
    for position, variable in enumerate(tokens if isinstance(tokens, list) else ()):
        problem = check_variable(variable, environment)
        if problem:
            yield Finding(place=(*_PLACE, "tokens_env", position), text=problem)


def _check_files(section: object, base_dir: Path) -> Iterator[Finding]:
    for key in ("certificate", "key"):
        file = section.get(key) if isinstance(section, dict) else None
        if isinstance(file, str) and file:
            path = resolve_path(file, base_dir)
            if fault := fault_of(path):
                yield Finding(place=(*_PLACE, "tls", key), text=f"{fault}: {path}")

    if isinstance(section, dict) and all(isinstance(section.get(key), str) for key in ("certificate", "key")):
        yield from _check_pair(*(resolve_path(section[key], base_dir) for key in ("certificate", "key")))


def _check_pair(certificate: Path, key: Path) -> Iterator[Finding]:
    """Find a certificate and a key that cannot be used together."""
    if not (os.access(certificate, os.R_OK) and os.access(key, os.R_OK)):
        return
    try:
        # An encrypted key would ask for its password on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        yield Finding(place=(*_PLACE, "tls"), text=f"certificate and key cannot be used together: {reason}")


def _check_exposure(section: Mapping[str, object], host: str) -> Iterator[Finding]:
    if not section.get("users") and not section.get("tokens_env"):
        text = f'other machines can reach {host}: add "users" or "tokens_env", or set host to 127.0.0.1'
        yield Finding(place=(*_PLACE, "host"), text=text)
    if not section.get("tls") and section.get("behind_proxy") is not True:
        text = f'passwords and names would cross the network in the clear at {host}: add "tls", or "behind_proxy": true'
        yield Finding(place=(*_PLACE, "host"), text=text)


def _check_port(section: Mapping[str, object], dicom: object) -> Iterator[Finding]:
    other = dicom if isinstance(dicom, dict) else {}
    hosts = {_address(section.get("host", "127.0.0.1")), _address(other.get("host", "0.0.0.0"))}  # noqa: S104
    if section.get("port", 4280) == other.get("port", 4242) and (len(hosts) == 1 or hosts & _EVERY_ADDRESS):
        yield Finding(place=(*_PLACE, "port"), text="is the port of the DICOM server (dicom.port), too")


def _address(host: object) -> object:
    return "127.0.0.1" if host == "localhost" else host


def _is_usable(password: str) -> bool:
    """Say whether a variable holds a password, or a hash that passwords can be compared with."""
    if not password.startswith("scrypt$"):
        return True
    found = _HASH.fullmatch(password)
    if not found:
        return False
    cost, block, parallel = (int(found[number]) for number in (1, 2, 3))
    return cost.bit_count() == 1 and cost > 1 and 128 * cost * block <= _MOST_MEMORY and block * parallel > 0
