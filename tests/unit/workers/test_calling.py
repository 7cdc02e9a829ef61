"""Calls of a plugin: whatever it raises is that fetch's failure, and no fetch is without an end."""

from __future__ import annotations

import datetime
import itertools
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pylantir.data_sources.base import DataSourcePlugin
from pylantir.errors import PluginError, SourceUnavailable
from pylantir.settings import PluginType, SourceSettings
from workers.child.channel import Channel
from workers.source import calling
from workers.source.calling import PluginCalls, prepare_plugin
from workers.source.telling import CycleTelling

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


class _Plugin(DataSourcePlugin):
    def validate_config(self, config: dict[str, Any]) -> tuple[bool, str]:
        return True, ""

    def get_source_name(self) -> str:
        return "one"

    def fetch_entries(self, field_mapping: dict[str, Any], interval: float) -> Iterator[dict[str, Any]]:
        return ({"patient_id": f"P{number}"} for number in itertools.count())


@pytest.fixture
def channel() -> Iterator[Channel]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours)


def calls_of(plugin: DataSourcePlugin, channel: Channel) -> PluginCalls:
    kind = PluginType(type_name="own")
    settings = SourceSettings(name="own", plugin=kind)
    return PluginCalls(channel, settings, plugin, CycleTelling(channel, "own", kind), lambda: None)


def test_a_fetch_that_never_ends_is_given_up(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "MOST_RECORDS", 1000)
    monkeypatch.setattr(calling, "PROGRESS_EVERY_S", 0.0)
    records = calls_of(_Plugin(), channel).fetch(NOW, None)
    assert len(list(itertools.islice(records, 1000))) == 1000
    with pytest.raises(SourceUnavailable, match="more than 1,000 records"):
        list(records)


def test_a_plugin_that_cannot_say_whether_it_gives_changes_fails_its_fetch_and_cancels_nothing(
    channel: Channel,
) -> None:
    class Raises(_Plugin):
        def supports_incremental_sync(self) -> bool:
            raise KeyboardInterrupt

    calls = calls_of(Raises(), channel)
    for _ in range(2):
        assert calls.gives_snapshots() is False
        with pytest.raises(KeyboardInterrupt):
            next(calls.fetch(NOW, None))


@pytest.mark.parametrize("place", ["the module", "the check"])
def test_an_exception_of_any_kind_is_told_with_plugin_and_file(tmp_path: Path, channel: Channel, place: str) -> None:
    path = tmp_path / "own.py"
    raises = "raise KeyboardInterrupt\n"
    path.write_text(
        f"{raises if place == 'the module' else ''}"
        "from pylantir.data_sources.base import DataSourcePlugin\n"
        "class P(DataSourcePlugin):\n"
        f"    def validate_config(self, config): {raises}"
        "    def fetch_entries(self, field_mapping, interval): return []\n"
        "    def get_source_name(self): return ''\n",
        encoding="utf-8",
    )
    kind = PluginType(type_name="own", path=str(path), class_name="P")
    with pytest.raises(PluginError, match=r"own\.py.*KeyboardInterrupt"):
        prepare_plugin(channel, SourceSettings(name="own", plugin=kind))
