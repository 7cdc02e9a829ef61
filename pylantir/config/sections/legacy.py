"""Recognises and converts configurations from the time when Pylantir had a single source.

Pure: a document goes in, a document comes out. `OLD_PLACES` lets a message about the converted document name the
key of the old document, which is the only one that its owner knows.
"""

from __future__ import annotations

from collections.abc import Mapping

SOURCE_NAME = "redcap_legacy"
OLD_KEYS = (
    "redcap2wl",
    "site",
    "protocol",
    "db_update_interval",
    "operation_interval",
    "mri_visit_session_mapping",
    "users_db_path",
    "api",
)
FETCHED_ANYWAY = frozenset({"record_id", "mri_instance", "mri_date", "mri_time", "youth_dob_y", "t1_date", "demo_sex"})
"""Old configurations map these to themselves, as the old example did; without effect, as they are fetched anyway."""
DEFAULT_DB_PATH = "~/Desktop/worklist.db"

_SOURCE = ("data_sources", 0)
OLD_PLACES: Mapping[tuple[str | int, ...], str] = {
    (*_SOURCE, "field_mapping"): "redcap2wl",
    (*_SOURCE, "sync_interval"): "db_update_interval",
    (*_SOURCE, "operation_interval"): "operation_interval",
    (*_SOURCE, "config", "site_id"): "site",
    (*_SOURCE, "config", "protocol"): "protocol",
}
"""Place in the converted document -> key of the old one."""


def is_old(document: object) -> bool:
    """Tell whether a configuration has the old form: it has `legacy_mode`, or `redcap2wl` and no source."""
    if not isinstance(document, Mapping):
        return False
    return document.get("legacy_mode") is True or ("redcap2wl" in document and not document.get("data_sources", []))


def convert(document: Mapping[str, object]) -> dict[str, object]:
    """Convert an old configuration into the new form with the same meaning.

    Relative paths are not touched: in the old form they start from the working directory, in the new one
    from the file's folder.

    Args:
        document: An old configuration, not checked yet; wrong values are copied, so that the check reports them.

    Returns:
        The same configuration with its REDCap project as the only source. Keys without effect are gone.
    """
    config: dict[str, object] = {"api_url_env": "REDCAP_API_URL", "api_token_env": "REDCAP_API_TOKEN"}
    config |= _renamed(document, {"site": "site_id", "protocol": "protocol"})
    # This marker keeps behaviour that only old installations rely on, such as fields that are always fetched.
    config["legacy"] = True
    source: dict[str, object] = {"name": SOURCE_NAME, "type": "redcap"}
    source |= _renamed(document, {"db_update_interval": "sync_interval", "operation_interval": "operation_interval"})
    source["config"] = config
    mapping = document.get("redcap2wl", {})
    if isinstance(mapping, Mapping):
        mapping = {name: to for name, to in mapping.items() if name != to or name not in FETCHED_ANYWAY}
    source["field_mapping"] = mapping
    gone = {*OLD_KEYS, "legacy_mode", "data_sources"}
    kept = {key: value for key, value in document.items() if key not in gone}
    if not kept.keys() & {"db_path", "db_url", "db_url_env"}:
        kept["db_path"] = DEFAULT_DB_PATH
    return {**kept, "data_sources": [source]}


def convert_with(document: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, object]:
    """Convert an old configuration and the environment variables that could replace its keys; see `convert`."""
    completed = dict(document)
    if not completed.keys() & {"db_path", "db_url", "db_url_env"} and environment.get("DB_PATH"):
        completed["db_path"] = environment["DB_PATH"]
    if environment.get("DB_ECHO"):
        completed.setdefault("db_echo", environment["DB_ECHO"])
    if environment.get("DEBUG", "").lower() in {"1", "true"}:
        completed.setdefault("log", {"level": "DEBUG"})
    return convert(completed)


def _renamed(document: Mapping[str, object], names: Mapping[str, str]) -> dict[str, object]:
    return {new: document[old] for old, new in names.items() if old in document}
