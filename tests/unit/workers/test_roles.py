"""Which processes a configuration calls for, and what each of them may see."""

from __future__ import annotations

import pickle
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pylantir.settings import DeduplicationSettings, DicomSettings, PluginType, Settings, SourceSettings
from pylantir.store.hosts.decision import rank_sources
from workers.supervisor.children.roles import Changes, Role, digests_in, plan_changes, plan_roles
from workers.supervisor.probe import probe_title
from workers.writer.settings import WriterSettings

CSV = PluginType(type_name="csv", module="pylantir.data_sources.csv_file", class_name="CsvPlugin", builtin=True)


def source(name: str, **changes: object) -> SourceSettings:
    return SourceSettings(name=name, plugin=CSV, **changes)  # type: ignore[arg-type]


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.socket() as queue, socket.socket() as dicom:
        yield queue, dicom


def plan(sockets: tuple[socket.socket, socket.socket], *sources: SourceSettings, **changes: object) -> dict[str, Role]:
    settings = Settings(
        config_path="/c/pylantir.json",
        base_dir="/c",
        db_url="sqlite:////c/w.db",
        runtime_dir="/run/p",
        sources=sources,
        **changes,  # type: ignore[arg-type]
    )
    return plan_roles(settings, b"key", *sockets)


def test_a_writer_a_server_and_a_worker_per_enabled_source(sockets: tuple[socket.socket, socket.socket]) -> None:
    roles = plan(sockets, source("a"), source("b", enabled=False), source("c"))
    assert list(roles) == ["writer", "mwl-scp", "a", "c"]
    assert [role.role for role in roles.values()] == ["writer", "mwl-scp", "source", "source"]


def test_the_order_of_enabled_sources_is_their_rank_and_a_disabled_one_has_none(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    roles = plan(
        sockets, source("a"), source("b", enabled=False), source("c", missing_entries="keep", timezone="Asia/Tokyo")
    )
    (settings, _) = roles["writer"].arguments
    assert isinstance(settings, WriterSettings)
    assert rank_sources(settings.sources) == {"a": 0, "c": 1}
    assert settings.keep_missing == {"c"}
    assert settings.zones == {"c": "Asia/Tokyo"}


def test_services_are_back_within_a_second_sources_may_wait(sockets: tuple[socket.socket, socket.socket]) -> None:
    caps = {name: role.retry_cap_s for name, role in plan(sockets, source("a")).items()}
    assert caps == {"writer": 1.0, "mwl-scp": 1.0, "a": 60.0}


def test_the_supervisor_may_ask_the_server_whoever_else_may(sockets: tuple[socket.socket, socket.socket]) -> None:
    def admitted(**dicom: object) -> DicomSettings:
        settings = plan(sockets, source("a"), dicom=DicomSettings(**dicom))["mwl-scp"].arguments[0]  # type: ignore[arg-type]
        assert isinstance(settings, DicomSettings)
        return settings

    assert admitted().allowed_aet == ()
    assert admitted(allowed_aet=("MR1",)).allowed_aet == ("MR1", probe_title(b"key"))
    assert admitted(host="10.1.2.3").allowed_hosts == ()
    assert admitted(host="10.1.2.3", allowed_hosts=("10.9.0.0/16",)).allowed_hosts == ("10.9.0.0/16", "10.1.2.3")
    assert admitted(host="here", allowed_hosts=("10.9.0.0/16",)).allowed_hosts == ("10.9.0.0/16",)


def test_a_secret_is_seen_by_its_own_source_alone(sockets: tuple[socket.socket, socket.socket]) -> None:
    roles = plan(
        sockets,
        source("a", secret_env=("A_TOKEN",), env_values={"A_TOKEN": "s3cret"}),
        source("b", secret_env=("B_TOKEN", "SHARED"), env_values={"B_TOKEN": "to-b", "SHARED": "us3d"}),
    )
    seen = {
        name: {
            token for token in ("s3cret", "to-b", "us3d") if token in pickle.dumps(role.arguments[:1]).decode("latin-1")
        }
        for name, role in roles.items()
    }
    assert seen == {"writer": set(), "mwl-scp": set(), "a": {"s3cret"}, "b": {"to-b", "us3d"}}
    assert roles["a"].secrets == ("s3cret",)
    assert "s3cret" not in repr(roles)


def test_the_same_configuration_gives_equal_roles_and_a_changed_source_another(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    before = plan(sockets, source("a"), source("b"))
    assert plan(sockets, source("a"), source("b")) == before
    after = plan(sockets, source("a"), source("b", sync_interval_s=5.0))
    assert [name for name, role in after.items() if role != before[name]] == ["b"]


def test_hosts_hear_of_each_other_when_they_would_read_or_match_a_source_differently(
    sockets: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(minutes: float | None = 240, **changes: object) -> str:
        matching = DeduplicationSettings(max_minutes=minutes)
        return digests_in(plan(sockets, source("a", **changes), deduplication=matching)["writer"])["a"]

    def in_zone(zone: str, **changes: object) -> str:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        return digest(**changes)

    try:
        here = in_zone("UTC0")
        assert digest(priority=7.0) == here
        assert len({here, digest(sync_interval_s=5.0), digest(None)}) == 3
        assert in_zone("XXX-1") != here
        assert in_zone("XXX-1", timezone="Europe/Zurich") == in_zone("UTC0", timezone="Europe/Zurich")
    finally:
        monkeypatch.undo()
        time.tzset()


A, B = Role(role="source", source="a", body="m:f"), Role(role="source", source="b", body="m:f")
WRITER = Role(role="writer", body="m:f")
PRESENT = {"writer": WRITER, "a": A, "b": B}


@pytest.mark.parametrize(
    ("wanted", "why", "changes"),
    [
        (PRESENT, {}, Changes()),
        ({"writer": WRITER, "b": B}, {}, Changes(removed=("a",))),
        ({**PRESENT, "c": replace(A, source="c")}, {}, Changes(added=("c",))),
        ({**PRESENT, "b": replace(B, sync_interval_s=5.0)}, {}, Changes(restarted=("b",))),
        (PRESENT, {"failed": {"a"}}, Changes(restarted=("a",))),
        (PRESENT, {"log_changed": True}, Changes(restarted=("writer", "a", "b"))),
        (PRESENT, {"restart_sources": True}, Changes(restarted=("a", "b"))),
        ({"writer": WRITER, "c": replace(A, source="c")}, {"log_changed": True, "failed": {"b"}},
         Changes(restarted=("writer",), added=("c",), removed=("a", "b"))),
    ],
)  # fmt: skip
def test_a_reload_touches_only_the_processes_that_it_changes(
    wanted: dict[str, Role], why: dict[str, Any], changes: Changes
) -> None:
    assert plan_changes(PRESENT, wanted, **why) == changes
