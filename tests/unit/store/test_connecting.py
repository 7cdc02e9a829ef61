"""How an address with several servers is taken apart, and how long each attempt to connect may take."""

from __future__ import annotations

from typing import Any

import pytest

from pylantir.store.schema import server
from pylantir.store.schema.server import CONNECT_S, each_address, each_host, timeout_s


@pytest.mark.parametrize(
    ("given", "each"),
    [
        ({}, [{}]),
        ({"host": "a", "port": 1}, [{"host": "a", "port": "1"}]),
        ({"host": "a,b", "port": "1,2"}, [{"host": "a", "port": "1"}, {"host": "b", "port": "2"}]),
        ({"host": "a,b", "port": ",2"}, [{"host": "a"}, {"host": "b", "port": "2"}]),
        ({"host": "a,/b", "port": 5}, [{"host": "a", "port": "5"}, {"host": "/b", "port": "5"}]),
        (
            {"host": "a,b", "hostaddr": "10.0.0.1,::1"},
            [{"host": "a", "hostaddr": "10.0.0.1"}, {"host": "b", "hostaddr": "::1"}],
        ),
        ({"hostaddr": "10.0.0.1,::1"}, [{"hostaddr": "10.0.0.1"}, {"hostaddr": "::1"}]),
        ({"host": "a,b,c", "port": "1,2"}, [{"host": "a,b,c", "port": "1,2"}]),
    ],
)
def test_each_of_several_servers_is_tried_by_itself(given: dict[str, Any], each: list[dict[str, Any]]) -> None:
    assert each_host({**given, "user": "u"}) == [{**one, "user": "u"} for one in each]


def test_each_address_of_a_name_is_tried_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(_name: str, port: object, **_options: object) -> list[tuple[Any, ...]]:
        return [(0, 0, 0, "", (address, port)) for address in ("::1", "10.0.0.1", "::1")]

    monkeypatch.setattr(server.socket, "getaddrinfo", look_up)
    # The name stays, because the server's certificate is for it.
    assert each_address({"host": "db", "port": "1"}) == [
        {"host": "db", "port": "1", "hostaddr": "::1"},
        {"host": "db", "port": "1", "hostaddr": "10.0.0.1"},
    ]
    for settled in ({}, {"host": "/run"}, {"host": "db", "hostaddr": "10.0.0.2"}):
        assert each_address(settled) == [settled]


@pytest.mark.parametrize("given", [None, 0, "-1", 1, "10", 3600])
@pytest.mark.parametrize("attempts", range(1, 9))
def test_no_attempt_takes_the_time_of_the_others(given: object, attempts: int) -> None:
    limit = timeout_s(given, attempts, CONNECT_S)
    assert limit >= 2
    assert limit * attempts <= CONNECT_S or limit == 2


def test_whoever_asks_for_more_or_less_time_gets_it() -> None:
    assert [timeout_s(given, 1, CONNECT_S) for given in (None, "2", "6", "60")] == [3, 2, 6, CONNECT_S]
