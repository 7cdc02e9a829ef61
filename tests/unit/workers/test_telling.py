"""What a source tells of its cycles: the same thing once."""

from __future__ import annotations

import logging

import pytest

from pylantir.ipc.cycles import ValueWarning
from pylantir.settings import PluginType
from workers.source.telling import CycleTelling

SEX = ValueWarning("patient_sex", "expected M, F, O", 3)
TIME = ValueWarning("scheduled_start_time", "unknown time", 1)


def told(
    telling: CycleTelling, caplog: pytest.LogCaptureFixture, *warnings: ValueWarning, snapshot: bool = True
) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        telling.tell_warnings(warnings, snapshot=snapshot)
    return caplog.messages


def test_values_left_out_are_one_line_until_another_kind_comes(caplog: pytest.LogCaptureFixture) -> None:
    telling = CycleTelling(None, "csv", PluginType(type_name="csv"))  # type: ignore[arg-type]  # reports nothing here
    assert told(telling, caplog) == []
    (line,) = told(telling, caplog, SEX)
    assert "patient_sex (3): expected M, F, O" in line
    assert told(telling, caplog, SEX) == []
    (line,) = told(telling, caplog, SEX, TIME)
    assert "scheduled_start_time" in line
    assert told(telling, caplog, SEX) == []
    assert told(telling, caplog) == ["no value is left out or changed any more"]
    assert told(telling, caplog) == []


def test_a_source_of_changes_tells_each_kind_once(caplog: pytest.LogCaptureFixture) -> None:
    telling = CycleTelling(None, "redcap", PluginType(type_name="redcap"))  # type: ignore[arg-type]
    assert len(told(telling, caplog, SEX, snapshot=False)) == 1
    assert told(telling, caplog, snapshot=False) == []
    assert told(telling, caplog, SEX, snapshot=False) == []


def test_a_look_that_fails_is_told_once_until_one_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    telling = CycleTelling(None, "own", PluginType(type_name="own"))  # type: ignore[arg-type]
    for failure in (KeyError("1"), KeyError("2"), SystemExit(3), None, SystemExit(3)):
        telling.tell_watch_failure(failure)
    kinds = [type(made.exc_info[1]) for made in caplog.records if made.exc_info]
    assert kinds == [KeyError, SystemExit, SystemExit]
