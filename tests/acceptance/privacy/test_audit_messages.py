"""Audit messages of a real instance, received by a real rsyslog, and valid by the standard's schema."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from audit_schema import event, objects
from dcmtk import find_worklist
from installation import Installation, csv_source, wait_until
from ports import free_port
from rsyslog import Rsyslog
from scanner import beginning, change, connected, create, ending, retrieve

from pylantir.settings import SyslogServer
from workers.writer.audit import syslog_sender
from workers.writer.audit.syslog_sender import SyslogSender

QUERY, RECORD, ACTIVITY, ALERT = "110112", "110111", "110100", "110113"


@pytest.fixture
def rsyslog(tmp_path: Path) -> Iterator[Rsyslog]:
    server = Rsyslog(tmp_path / "rsyslog", free_port())
    yield server
    server.stop()


def received(server: Rsyslog) -> list[str]:
    """The XML of each message."""
    return [line.split(" ", 3)[3].strip() for line in server.messages()]


def test_an_instances_messages_reach_the_server_that_comes_late(
    installation: Installation, findscu: str, rsyslog: Rsyslog
) -> None:
    installation.write_csv("a.csv", ["P1", "P2"])
    http_port = free_port()
    installation.environment["ANNA"] = "right horse"
    installation.configure(
        csv_source("a", "a.csv"),
        access={"syslog": f"tcp://127.0.0.1:{rsyslog.port}"},
        allowed_aet=["MR1"],
        http={"port": http_port, "users": {"anna": {"password_env": "ANNA"}}},
    )
    installation.start()
    wait_until(lambda: len(installation.patients()) == 2, "two patients")
    ((study, number),) = installation.rows("select study_instance_uid, id from worklist_items where patient_id = 'P1'")
    # Nobody listens yet: what happens is done all the same, the messages wait, and `status` says so.
    assert len(find_worklist(findscu, installation.port, installation.folder, "PatientName=NAME*", calling="MR1")) == 2
    with pytest.raises(subprocess.CalledProcessError):
        find_worklist(findscu, installation.port, installation.folder, "PatientID", calling="OTHER")
    wait_until(lambda: "audit messages wait" in str(installation.process("writer").get("warning")), "a warning")
    assert installation.status()["health"] == "healthy"
    rsyslog.start()
    with connected(installation.port) as association:
        assert create(association, "1.2.3.9", beginning(study)).Status == 0
        assert change(association, "1.2.3.9", ending()).Status == 0
        assert retrieve(association, "1.2.3.9")[0].Status == 0
    with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=20) as client:
        assert client.get(f"/items/{number}", auth=("anna", "right horse")).status_code == 200
        assert client.get("/metrics", auth=("anna", "wrong")).status_code == 401

    def kinds() -> list[tuple[str, str | None]]:
        return sorted((event(message) for message in received(rsyslog)), key=str)

    wanted = [(ACTIVITY, "110120"), (RECORD, None), (RECORD, None), (RECORD, None), (RECORD, None), (QUERY, None),
              (ALERT, "110126"), (ALERT, "110132")]  # fmt: skip
    wait_until(lambda: kinds() == sorted(wanted, key=str), lambda: f"{kinds()}")
    records = [objects(message) for message in received(rsyslog) if event(message)[0] == RECORD]
    assert records == [{"110180": study, "2": "P1"}] * 4
    wait_until(lambda: installation.process("writer").get("warning") is None, "no warning")
    assert installation.terminate() == 0
    wait_until(lambda: kinds()[1:2] == [(ACTIVITY, "110121")], lambda: f"{kinds()}")
    for line in rsyslog.messages():
        assert line.startswith("DICOM+RFC3881 pylantir ")
    query = next(message for message in received(rsyslog) if event(message)[0] == QUERY)
    assert "P1" not in query
    assert "Name^" not in "".join(received(rsyslog))


def test_datagrams_that_nobody_took_are_sent_again(rsyslog: Rsyslog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syslog_sender, "RETRY_S", 0.05)
    told: list[object] = []
    sender = SyslogSender(SyslogServer(transport="udp", host="127.0.0.1", port=rsyslog.port), told.append)
    for number in range(3):
        sender.send(b"<85>1 2026-11-30T12:00:00.123Z h pylantir 1 DICOM+RFC3881 - <m>%d</m>" % number)
    wait_until(lambda: told, "trouble is told")
    rsyslog.start()
    wait_until(lambda: {"<m>0</m>", "<m>1</m>", "<m>2</m>"} <= set(received(rsyslog)), "all three")
    wait_until(lambda: told[-1] == {"warning": None}, "the trouble is over")
    sender.close(10)


def certificate(folder: Path) -> tuple[Path, Path]:
    files = folder / "server.pem", folder / "server.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=DNS:localhost", "-out", files[0], "-keyout", files[1]]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return files


def test_over_tls_a_server_is_known_by_its_certificate_and_octets_are_counted(tmp_path: Path) -> None:
    ca, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca, key)
    came: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            while b"5 hello" not in came:
                connection, _ = listener.accept()
                try:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        came.append(secured.recv(100))
                except OSError:
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        told: list[object] = []
        stranger = SyslogSender(SyslogServer(transport="tls", host="localhost", port=port), told.append)
        stranger.send(b"hello")
        wait_until(lambda: told, "a certificate of an unknown authority is refused")
        assert "certificate" in str(told[0])
        stranger.close(10)
        assert came == []
        known = SyslogServer(transport="tls", host="localhost", port=port, ca=str(ca))
        sender = SyslogSender(known, told.append)
        sender.send(b"hello")
        thread.join(120)
        assert came == [b"5 hello"]
        sender.close(10)


def test_a_server_that_hangs_delays_nobody_and_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syslog_sender, "MAX_WAITING", 5)
    monkeypatch.setattr(syslog_sender, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(syslog_sender, "RETRY_S", 0.05)
    monkeypatch.setattr(syslog_sender, "TELL_LOST_EVERY_S", 0.0)
    told: list[object] = []
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        # Connections that nobody accepts fill the listener's backlog, so that further ones hang.
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(address)
        sender = SyslogSender(SyslogServer(transport="tcp", host="127.0.0.1", port=address[1]), told.append)
        for _ in range(8):
            sender.send(b"x" * 100)
        wait_until(lambda: {"audit_lost": 3} in told, lambda: f"{told}")
        sender.close(10)
        for other in others:
            other.close()


def test_a_message_that_no_datagram_holds_is_counted_as_lost() -> None:
    told: list[object] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        sender = SyslogSender(
            SyslogServer(transport="udp", host="127.0.0.1", port=listener.getsockname()[1]), told.append
        )
        sender.send(b"x" * 70_000)
        sender.send(b"short")
        wait_until(lambda: {"audit_lost": 1} in told, lambda: f"{told}")
        assert b"short" in listener.recv(100)
        sender.close(10)
