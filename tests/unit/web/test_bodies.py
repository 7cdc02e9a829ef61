"""Bodies of requests are read within limits: of each, of all together, and of how many large ones are decoded at a time."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from pylantir.web.answers import Bodies
from pylantir.web.dicomweb import endpoints
from pylantir.web.dicomweb.endpoints import DicomWeb


def sending(*chunks: bytes) -> Request:
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        return messages.pop(0)

    return Request({"type": "http", "method": "POST"}, receive)


def test_a_body_is_limited_and_so_are_all_together() -> None:
    async def run() -> list[int]:
        bodies = Bodies(10, 25)
        statuses = []
        async with bodies.read(sending(b"12345", b"67890")) as first, bodies.read(sending(b"1234567890")) as second:
            assert (first, second) == (b"1234567890", b"1234567890")
            for length in (6, 11):
                with pytest.raises(HTTPException) as refused:
                    async with bodies.read(sending(length * b"x")):
                        pass
                statuses.append(refused.value.status_code)
            async with bodies.read(sending(b"12345")) as third:
                assert third == b"12345"
        async with bodies.read(sending(b"1234567890")), bodies.read(sending(b"1234567890")):
            pass
        return statuses

    assert asyncio.run(run()) == [503, 413]


def test_large_reports_are_decoded_one_at_a_time_and_small_ones_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "LARGE_BODY_WAIT_S", 0.01)
    large = endpoints.LARGE_BODY_BYTES + 1

    async def run() -> None:
        web = DicomWeb(cast("Any", None), cast("Any", None), cast("Any", None))
        async with web._turn(large), web._turn(large - 1):
            with pytest.raises(HTTPException) as refused:
                async with web._turn(large):
                    pass
            assert refused.value.status_code == 503
        async with web._turn(large):
            pass

    asyncio.run(run())
