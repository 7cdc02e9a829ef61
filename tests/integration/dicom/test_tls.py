"""DICOM over TLS, with certificates made by openssl and DCMTK as the scanner."""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from dicom_server import Served, serving
from fuzz.seeds import associate_request
from waiting import wait_until

from pylantir.certificates import read_wanted
from pylantir.dicom.client import Peer, echo, find_scheduled
from pylantir.dicom.net import reception
from pylantir.dicom.tls import ServerTls
from pylantir.errors import ConfigurationError, DicomPeerError
from pylantir.settings import ScannerProfile, TlsSettings
from workers.supervisor.probe import PROBE_EVERY_S, ServerWatch

pytestmark = pytest.mark.usefixtures("quiet_dicom_libraries")
Ask = Callable[..., subprocess.CompletedProcess[str]]


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def issue(folder: Path, name: str, *, days: int = 2, ca: str = "ca") -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(folder, "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
    signing = ("-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", str(days))
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for ca in ("ca", "other_ca"):
        openssl(folder, "req", "-x509", *key, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj", f"/CN={ca}")
    for name in ("server", "scanner"):
        issue(folder, name)
    issue(folder, "expired", days=-1)
    issue(folder, "stranger", ca="other_ca")
    return folder


@pytest.fixture
def tls(certificates: Path, tmp_path: Path) -> TlsSettings:
    for name in ("server.pem", "server.key"):
        shutil.copy(certificates / name, tmp_path)
    return TlsSettings(
        certificate=str(tmp_path / "server.pem"),
        key=str(tmp_path / "server.key"),
        ca=str(certificates / "ca.pem"),
        require_client_certificate=True,
    )


@pytest.fixture
def served(bound: socket.socket, tls: TlsSettings) -> Iterator[Served]:
    with serving(bound, lambda _query: [{"id": 1, "patient_id": "P1", "modality": "MR"}], tls=tls) as running:
        yield running


@pytest.fixture
def ask(findscu: str, certificates: Path) -> Ask:
    """Run echoscu, or findscu, as a scanner with this certificate."""

    def run(served: Served, *options: str, certificate: str | None, program: str = "echoscu"):
        files = [str(certificates / f"{certificate}.{kind}") for kind in ("key", "pem")]
        trust = ["+cf", str(certificates / "ca.pem")]
        secure = ["+tls", *files, *trust] if certificate else ["+tla", *trust]
        command = [str(Path(findscu).with_name(program)), "-to", "5", *secure, *options, "127.0.0.1", str(served.port)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    return run


def test_a_scanner_with_a_certificate_of_the_authority_is_served(served: Served, ask: Ask) -> None:
    assert ask(served, certificate="scanner").returncode == 0
    found = ask(served, "-W", "-k", "PatientID", certificate="scanner", program="findscu")
    assert found.returncode == 0
    assert "P1" in found.stdout + found.stderr


def test_many_answers_in_one_write_arrive_whole(bound: socket.socket, tls: TlsSettings, ask: Ask) -> None:
    items = [{"id": number, "patient_id": f"P{number:05}", "modality": "MR"} for number in range(2000)]
    with serving(bound, lambda _query: items, tls=tls) as served:
        found = ask(served, "-W", "-k", "PatientID", certificate="scanner", program="findscu")
    assert found.returncode == 0
    assert (found.stdout + found.stderr).count("[P0") == 2000


def test_the_commands_of_this_machine_ask_over_tls(served: Served, tls: TlsSettings) -> None:
    peer = Peer(host="127.0.0.1", port=served.port, called="PYLANTIR", calling="TEST", tls=tls)
    echo(peer)
    # Answered with success; the only item lacks what a full query may not be sent without.
    assert find_scheduled(peer, {}) == []


def test_a_command_that_cannot_read_the_certificates_says_so(tls: TlsSettings) -> None:
    absent = TlsSettings(certificate=tls.certificate, key="/nowhere/server.key", ca=tls.ca)
    with pytest.raises(DicomPeerError, match=r"certificates cannot be used \(no such file"):
        echo(Peer(host="127.0.0.1", port=1, called="PYLANTIR", calling="TEST", tls=absent))


@pytest.mark.parametrize("certificate", [None, "expired", "stranger"])
def test_a_scanner_without_a_good_certificate_is_refused(
    served: Served, ask: Ask, caplog: pytest.LogCaptureFixture, certificate: str | None
) -> None:
    assert ask(served, certificate=certificate).returncode != 0
    wait_until(lambda: "TLS refused: " in caplog.text, "the refusal is logged")
    assert served.server.active_associations == 0
    assert ask(served, certificate="scanner").returncode == 0


def test_a_scanner_without_tls_is_refused(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as plain:
        plain.sendall(associate_request())
        # An alert, the end, or both so fast that it is a reset: no A-ASSOCIATE-AC.
        with suppress(ConnectionResetError):
            assert plain.recv(1) in {b"", b"\x15"}
    wait_until(lambda: "TLS refused: wrong version number: it speaks no TLS" in caplog.text, "the log says why")
    assert served.server.active_associations == 0


def test_without_an_authority_everybody_is_served_encrypted(bound: socket.socket, tls: TlsSettings, ask: Ask) -> None:
    everybody = TlsSettings(certificate=tls.certificate, key=tls.key)
    with serving(bound, lambda _query: (), tls=everybody) as served:
        assert ask(served, certificate="stranger").returncode == 0


def test_old_versions_of_tls_are_refused(served: Served, certificates: Path) -> None:
    client = ["openssl", "s_client", "-connect", f"127.0.0.1:{served.port}", "-cipher", "ALL:@SECLEVEL=0"]
    client += ["-cert", str(certificates / "scanner.pem"), "-key", str(certificates / "scanner.key")]
    for version, is_served in (("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
        tried = subprocess.run([*client, version], input=b"", capture_output=True, timeout=30, check=False)
        assert (b"Verify return code" in tried.stdout and b"Cipher is (NONE)" not in tried.stdout) is is_served


def test_a_renewed_certificate_is_used_without_a_restart(
    served: Served, ask: Ask, certificates: Path, tls: TlsSettings, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(served, certificate="scanner").returncode == 0
    shutil.copy(certificates / "expired.pem", tls.certificate)
    assert ask(served, certificate="scanner").returncode == 0
    assert "those from before stay in use" in caplog.text
    shutil.copy(certificates / "expired.key", tls.key)
    os.utime(tls.key, (1, 1))
    # What it shows now is the expired one.
    assert ask(served, certificate="scanner").returncode != 0


def test_who_hangs_in_the_handshake_holds_up_nobody(
    served: Served, ask: Ask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reception, "REQUEST_TIMEOUT_S", 1.0)
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as silent:
        with socket.create_connection(("127.0.0.1", served.port)):
            pass
        assert ask(served, certificate="scanner").returncode == 0
        assert silent.recv(1) == b""
    assert caplog.text == ""


def test_files_that_are_no_certificates_are_an_error_of_the_configuration(tmp_path: Path, tls: TlsSettings) -> None:
    Path(tls.certificate).write_text("not a certificate")
    with pytest.raises(ConfigurationError, match=r"dicom\.tls: the certificates cannot be used"):
        ServerTls(tls)


def test_the_supervisor_hears_a_server_that_wants_a_certificate_and_nobody_complains(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    watch = ServerWatch(("127.0.0.1", served.port), "PYLANTIR", "PYL-1", over_tls=True)
    watch.serve(17, 0.0)
    watch.serve(17, PROBE_EVERY_S)
    wait_until(lambda: not watch.serve(17, PROBE_EVERY_S) and watch.deadline() == 2 * PROBE_EVERY_S, "it answers")
    assert caplog.text == ""


def fingerprint_of(certificates: Path, name: str) -> str:
    command = ["openssl", "x509", "-in", f"{name}.pem", "-noout", "-fingerprint", "-sha256"]
    shown = subprocess.run(command, cwd=certificates, check=True, capture_output=True, text=True, timeout=60)
    return shown.stdout.strip().partition("=")[2]


@pytest.mark.parametrize("by", ["fingerprint", "subject"])
@pytest.mark.parametrize("is_required", [True, False])
def test_a_title_that_is_bound_to_a_certificate_is_for_its_owner_alone(
    bound: socket.socket,
    tls: TlsSettings,
    ask: Ask,
    certificates: Path,
    caplog: pytest.LogCaptureFixture,
    by: str,
    is_required: bool,
) -> None:
    issue(certificates, "ct1")
    wanted = read_wanted(fingerprint_of(certificates, "ct1") if by == "fingerprint" else "CN=ct1")
    settings = replace(tls, require_client_certificate=is_required)
    profiles = {"CT1": ScannerProfile(certificates=(wanted,))}
    with serving(bound, lambda _query: (), tls=settings, profiles=profiles) as served:
        assert ask(served, "-aet", "CT1", certificate="ct1").returncode == 0
        assert ask(served, "-aet", "MR1", certificate="scanner").returncode == 0
        assert ask(served, "-aet", "CT1", certificate="scanner").returncode != 0
        if not is_required:
            assert ask(served, "-aet", "CT1", certificate=None).returncode != 0
        assert served.server.refusals == {"certificate": 1 if is_required else 2}
    assert (
        '(CT1 calls ANY-SCP): refused: "CT1" is bound to a certificate in modalities, and it shows another'
        in caplog.text
    )


def test_the_certificate_in_use_is_judged_also_after_its_renewal(
    served: Served, ask: Ask, certificates: Path, tls: TlsSettings
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    assert "in 1 days" in served.server.certificate_verdict(now).text
    assert served.server.certificate_verdict(now + datetime.timedelta(days=3)).is_unusable
    issue(certificates, "renewed", days=400)
    for kind in ("pem", "key"):
        shutil.copy(certificates / f"renewed.{kind}", Path(tls.certificate).with_name(f"server.{kind}"))
    assert ask(served, certificate="scanner").returncode == 0
    assert served.server.certificate_verdict(datetime.datetime.now(datetime.UTC)).text == ""
