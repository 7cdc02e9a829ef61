"""The commands of `pylantir` that talk to running processes: a worklist server, a supervisor's control socket."""

from __future__ import annotations

import json
import logging
import selectors
import socket
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom.config
import pytest
from dicom_server import in_batches_of_one
from ports import free_port
from pynetdicom import _config

from pylantir.cli.main import main
from pylantir.dicom.find.answers import QueryService
from pylantir.dicom.net.acceptor import DicomServer
from pylantir.dicom.net.services import Services
from pylantir.errors import ExitStatus, StoreError
from pylantir.ipc.control import SOCKET_NAME
from pylantir.ipc.frames import Frame, FrameReader, encode_frame
from pylantir.ipc.sockets import listen_at
from pylantir.query import WorklistQuery, item_matches
from pylantir.settings import DicomSettings

ITEMS: list[Mapping[str, object]] = [
    {
        "id": number,
        "patient_id": f"P{number}",
        "patient_name": name,
        "scheduled_start_date": f"2026080{number}",
        "scheduled_start_time": "093000",
        "modality": "MR",
        "patient_weight_lb": "220",
        "study_instance_uid": f"2.25.{number}",
        "procedure_description": "Head",
        "performed_procedure_step_status": "SCHEDULED",
    }
    for number, name in ((1, "DOE^JANE"), (2, "Łęcki^Stanisław"))
]


@pytest.fixture(autouse=True)
def libraries_as_before() -> Iterator[None]:
    """The command sets up its process, which here is the test's."""
    kept = (_config.LOG_HANDLER_LEVEL, _config.LOG_REQUEST_IDENTIFIERS, _config.LOG_RESPONSE_IDENTIFIERS)
    levels = {name: logging.getLogger(name).level for name in ("pynetdicom", "pydicom")}
    settings = pydicom.config.settings
    modes = (settings.reading_validation_mode, settings.writing_validation_mode)
    with warnings.catch_warnings():
        yield
    _config.LOG_HANDLER_LEVEL, _config.LOG_REQUEST_IDENTIFIERS, _config.LOG_RESPONSE_IDENTIFIERS = kept
    settings.reading_validation_mode, settings.writing_validation_mode = modes
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@contextmanager
def looping(sock: Any, accept: Callable[[], object]) -> Iterator[None]:
    """Call `accept` whenever the socket is ready, in a thread."""
    ours, theirs = socket.socketpair()

    def loop() -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            selector.register(theirs, selectors.EVENT_READ)
            while theirs not in {key.fileobj for key, _ in selector.select()}:
                accept()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        ours.close()
        thread.join()
        theirs.close()


def find(query: WorklistQuery) -> Iterable[Mapping[str, object]]:
    return [item for item in ITEMS if item_matches(query, item)]


def fail(_query: WorklistQuery) -> Iterable[Mapping[str, object]]:
    raise StoreError("gone")


@contextmanager
def serving(answer: Callable[[WorklistQuery], Iterable[Mapping[str, object]]] = find, **settings: Any) -> Iterator[str]:
    """A worklist server on loopback; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = str(listener.getsockname()[1])
    configured = DicomSettings(**settings)
    services = Services(query=QueryService(configured, in_batches_of_one(answer)).answer)
    server = DicomServer(listener, configured, services)
    try:
        with looping(server, server.accept_pending):
            yield port
    finally:
        server.stop(0)


def ask(port: str, *arguments: str) -> int:
    return main(["test-client", "--host", "127.0.0.1", "--port", port, *arguments])


def test_client_shows_what_a_scanner_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # no configuration is needed for a server that is named
    monkeypatch.delenv("PYLANTIR_CONFIG", raising=False)
    with serving() as port:
        assert ask(port) == ExitStatus.OK
        assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["PATIENT", "P1", "P2"]
        assert ask(port, "--name", "łę*", "--date", "2026-08-01..", "--modality", "MR", "--json") == ExitStatus.OK
        (match,) = json.loads(capsys.readouterr().out)
        assert match["patient_name"] == "Łęcki^Stanisław"
        assert match["procedure_description"] == "Head"
        assert match["patient_weight_kg"].startswith("99.79")
        assert match["study_instance_uid"] == "2.25.2"
        assert ask(port, "--patient", "nobody") == ExitStatus.OK
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.endswith("answers: no matches\n")
        assert ask(port, "--echo") == ExitStatus.OK
        assert capsys.readouterr().out == f"PYLANTIR at 127.0.0.1:{port} answers\n"


def test_client_takes_the_server_from_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(ae_title="WORK", allowed_aet=("MRI_1",)) as port:
        document = {"dicom": {"host": "0.0.0.0", "port": int(port), "ae_title": "WORK"}, "allowed_aet": ["MRI_1"]}
        (tmp_path / "here.json").write_text(json.dumps(document))
        assert main(["test-client", "--config", "here.json", "--echo"]) == ExitStatus.OK
        assert capsys.readouterr().out.startswith("WORK at 127.0.0.1")


def test_client_says_why_it_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(allowed_aet=("MRI_1",)) as port:
        assert ask(port, "--calling", "STRANGER") == ExitStatus.FAILURE
    assert 'the calling AE title "STRANGER" is not in its allowed_aet' in capsys.readouterr().err


def test_client_tells_a_failure_of_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(fail) as port:
        assert ask(port) == ExitStatus.FAILURE
    assert "status 0xA700: the worklist cannot be read just now" in capsys.readouterr().err


def test_client_tells_that_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    port = str(free_port())
    assert ask(port) == ExitStatus.FAILURE
    assert "Connection refused" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=str(int(ExitStatus.USAGE))):
        ask(port, "--calling", "A" * 17)
    assert "1-16 ASCII characters" in capsys.readouterr().err


def test_client_tells_a_peer_that_is_no_dicom_server(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.close()

        with looping(listener, hang_up):
            assert ask(str(listener.getsockname()[1])) == ExitStatus.FAILURE
    assert "is no DICOM server" in capsys.readouterr().err


@contextmanager
def supervising(folder: Path, answer: Frame | None) -> Iterator[list[Frame]]:
    """A control socket that answers every request alike, or hangs up; gives the requests."""
    (folder / "run").mkdir(mode=0o700)
    (folder / "pylantir.json").write_text('{"runtime_dir": "run"}')
    requests: list[Frame] = []

    def answer_one() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.setblocking(True)
            reader = FrameReader()
            while answer is not None and not requests:
                requests.extend(reader.feed(connection.recv(4096)))
            if answer is not None:
                connection.sendall(encode_frame(answer))

    with listen_at(folder / "run" / SOCKET_NAME) as listener, looping(listener, answer_one):
        yield requests


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ({"text": "clinic: begins now"}, ExitStatus.OK, "clinic: begins now"),
        ({"error": 'no process "clinic"'}, ExitStatus.FAILURE, 'no process "clinic"'),
        (None, ExitStatus.UNREACHABLE, "does not answer"),
    ],
)
def test_accept_asks_the_running_supervisor(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: Frame | None,
    status: ExitStatus,
    said: str,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with supervising(tmp_path, answer) as requests:
        assert main(["accept", "clinic", "--config", str(tmp_path / "pylantir.json")]) == status
    assert requests == ([] if answer is None else [{"command": "accept", "name": "clinic", "dry_run": False}])
    assert said in "".join(capsys.readouterr())


def test_accept_says_that_no_supervisor_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "pylantir.json").write_text('{"runtime_dir": "run", "broken": ')
    assert main(["accept", "clinic", "--config", str(tmp_path / "pylantir.json")]) == ExitStatus.NOT_RUNNING
    assert f"not running with {tmp_path / 'pylantir.json'}; `pylantir-supervisor start`" in capsys.readouterr().err
