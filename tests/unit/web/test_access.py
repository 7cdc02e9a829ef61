"""Passwords, tokens, sessions, and how wrong tries are slowed."""

from __future__ import annotations

import base64

import pytest

from pylantir.settings import HttpSettings
from pylantir.web.access import LOCKED_S, SESSION_S, TRIES, Gate, Locked, is_own_host, is_same_origin
from pylantir.web.passwords import hash_password, is_password
from pylantir.web.shown import DICOMWEB, PAGE, Notes

SETTINGS = HttpSettings(
    users={"anna": "right-horse", "otto": hash_password("Päßwort")}, tokens=("tok-en-1", "tok-en-2")
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> Gate:
    return Gate(SETTINGS, clock)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_hash_is_the_passwords_and_no_other_ones() -> None:
    stored = hash_password("Päßwort")
    assert stored.startswith("scrypt$")
    assert is_password("Päßwort", stored)
    assert not is_password("Passwort", stored)


@pytest.mark.parametrize("broken", ["scrypt$", "scrypt$1$2$3", "scrypt$x$8$1$AAAA$AAAA", "scrypt$16384$8$1$!$!"])
def test_a_broken_hash_lets_nobody_in(broken: str) -> None:
    assert not is_password("anything", broken)
    assert not is_password(broken, broken)


@pytest.mark.parametrize(("user", "password"), [("anna", "right-horse"), ("otto", "Päßwort")])
def test_the_right_password_begins_a_session_that_ends(gate: Gate, clock: Clock, user: str, password: str) -> None:
    session = gate.log_in(user, password)
    assert isinstance(session, str)
    assert gate.user_of_session(session) == user
    clock.now += SESSION_S
    assert gate.user_of_session(session) is None


def test_whoever_logs_out_is_out(gate: Gate) -> None:
    session = gate.log_in("anna", "right-horse")
    assert isinstance(session, str)
    gate.log_out(session)
    assert gate.user_of_session(session) is None


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic !", basic("anna", "wrong"), basic("", ""), basic("nobody", "right-horse"), "Bearer", "Bearer x",
     "Digest anna", basic("anna", "right-horse")[:-3]],
)  # fmt: skip
def test_other_headers_let_nobody_in(gate: Gate, header: str) -> None:
    assert gate.user_of_header(header) is None


def test_basic_and_bearer_let_in(gate: Gate) -> None:
    assert gate.user_of_header(basic("otto", "Päßwort")) == "otto"
    assert gate.user_of_header("bearer tok-en-2") == "token"


def test_wrong_tries_lock_that_user_for_a_while_and_nobody_else(gate: Gate, clock: Clock) -> None:
    session = gate.log_in("anna", "right-horse")
    for _ in range(TRIES):
        assert gate.log_in("anna", "wrong") is None
    assert isinstance(gate.log_in("anna", "right-horse"), Locked)
    assert isinstance(gate.user_of_header(basic("anna", "right-horse")), Locked)
    assert isinstance(gate.log_in("otto", "Päßwort"), str)
    assert isinstance(session, str)
    assert gate.user_of_session(session) == "anna"
    clock.now += LOCKED_S
    assert isinstance(gate.log_in("anna", "right-horse"), str)


def test_an_unknown_user_is_slowed_like_a_known_one(gate: Gate) -> None:
    answers = [type(gate.log_in("mallory", "guess")) for _ in range(TRIES + 1)]
    assert answers == [type(gate.log_in("anna", "guess")) for _ in range(TRIES + 1)]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:4280", "127.0.0.1:4280", "[::1]:4280", "[::1]"])
def test_names_of_this_machine(host: str) -> None:
    assert is_own_host(host)


@pytest.mark.parametrize("host", ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "[::2]:1"])
def test_names_of_others(host: str) -> None:
    assert not is_own_host(host)


@pytest.mark.parametrize(
    ("headers", "is_ours"),
    [
        ({"host": "w.example"}, True),
        ({"host": "w.example", "origin": "https://w.example"}, True),
        ({"host": "w.example", "origin": "https://evil.example"}, False),
        ({"host": "w.example", "origin": "null"}, False),
        ({"host": "inner:4280", "origin": "https://w.example", "sec-fetch-site": "same-origin"}, True),
        ({"host": "w.example", "origin": "https://w.example", "sec-fetch-site": "cross-site"}, False),
        ({"host": "w.example", "sec-fetch-site": "same-site"}, False),
    ],
)
def test_forms_of_other_sites_are_told_from_ours(headers: dict[str, str], is_ours: bool) -> None:
    assert is_same_origin(headers) is is_ours


@pytest.mark.parametrize(
    ("service", "path", "query", "status", "asked"),
    [
        (PAGE, "/", b"date=x&patient=ZQ-77&ZQ-77=x&ZQ77=x&P1", 200, "/?date&patient"),
        (DICOMWEB, "/d/modality-scheduled-procedure-steps", b"PatientID=ZQ77&limit=1", 200,
         "/d/modality-scheduled-procedure-steps?PatientID&limit"),
        (DICOMWEB, "/d/modality-scheduled-procedure-steps", b"ZQ77=1", 400, "/d/modality-scheduled-procedure-steps"),
        (DICOMWEB, "/d/modality-performed-procedure-steps/1.2.3", b"", 404, "/d/modality-performed-procedure-steps/1.2.3"),
        (DICOMWEB, "/d/modality-performed-procedure-steps/ZQ77", b"", 404, "/d/modality-performed-procedure-steps/?"),
        (DICOMWEB, "/d/modality-performed-procedure-steps/771177", b"", 404, "/d/modality-performed-procedure-steps/?"),
        (DICOMWEB, "/d/modality-performed-procedure-steps/1.2\nZQ77", b"", 404, "/d/modality-performed-procedure-steps/?"),
    ],
)  # fmt: skip
def test_what_was_asked_is_noted_without_what_may_name_a_patient(
    service: str, path: str, query: bytes, status: int, asked: str
) -> None:
    shown = Notes(service=service).take({"path": path, "query_string": query, "client": None}, status, "anna")
    assert shown is not None
    assert shown.asked == asked
