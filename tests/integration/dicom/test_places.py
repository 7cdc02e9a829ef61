"""A flood of strangers takes no configured scanner's place."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
from dicom_server import association, serving
from fuzz.seeds import associate_request
from waiting import wait_until

from pylantir.settings import ScannerProfile

pytestmark = pytest.mark.usefixtures("quiet_dicom_libraries")


def connect_from(address: str, port: int, *, calling: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(address, 0))
    connection.sendall(associate_request(calling=calling))
    return connection


def test_a_hundred_idle_strangers_leave_a_place_for_each_configured_scanner(
    bound: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    profiles = {title: ScannerProfile(hosts=("127.0.0.1",)) for title in ("MR1", "CT1")}
    with serving(bound, lambda _query: (), profiles=profiles, max_associations=50) as served, ExitStack() as held:
        strangers = [
            held.enter_context(connect_from(f"127.0.0.{2 + number % 5}", served.port, calling="STRANGER"))
            for number in range(100)
        ]
        answers = [stranger.recv(1) for stranger in strangers]
        assert answers.count(b"\x02") == 50
        assert answers.count(b"\x03") == 50
        for title in ("MR1", "CT1", "MR1"):
            with association(served, calling=title) as opened:
                assert opened.send_c_echo().Status == 0
        wait_until(lambda: served.server.active_associations < 50, "strangers have given way")
        refusals = served.server.refusals
        assert refusals["no place"] == 50
        assert 1 <= refusals["gave way to a configured scanner"] <= 3
    told = [record.getMessage() for record in caplog.records if "it was idle longest" in record.getMessage()]
    assert told[0].startswith("connection from 127.0.0.2 (STRANGER calls PYLANTIR): aborted: ")


def test_a_flood_of_half_open_connections_does_not_shut_out_a_scanners_address(bound: socket.socket) -> None:
    profiles = {"MR1": ScannerProfile(hosts=("127.0.0.1",))}
    with serving(bound, lambda _query: (), profiles=profiles) as served, ExitStack() as held:
        mine = held.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=10))
        mine.sendall(associate_request(calling="MR1")[:20])
        wait_until(lambda: served.server.waiting_connections == 1, "it has been received")
        for _ in range(300):
            held.enter_context(
                socket.create_connection(("127.0.0.1", served.port), timeout=10, source_address=("127.0.0.9", 0))
            )
        wait_until(lambda: served.server.waiting_connections >= 128, "the pool is full")
        mine.sendall(associate_request(calling="MR1")[20:])
        assert mine.recv(1) == b"\x02"
