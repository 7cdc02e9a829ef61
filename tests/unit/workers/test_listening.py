"""Why the worklist's port cannot be had: the real reason, and what helps against just that."""

from __future__ import annotations

import errno
import socket

import pytest

from pylantir.errors import PylantirError
from pylantir.settings import DicomSettings
from workers.supervisor.listening import explain, find_host, listen_for_scanners


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.EACCES, "AmbientCapabilities=CAP_NET_BIND_SERVICE"),
        (errno.EPERM, "ip_unprivileged_port_start=104"),
        (errno.EADDRNOTAVAIL, "is no address of this machine; set dicom.host to one of 127.0.0.1"),
        (errno.EADDRINUSE, "stop the program that uses the port"),
        (errno.ENOBUFS, "look at dicom.host and dicom.port"),
    ],
)
def test_each_reason_has_its_own_cure(number: int, cure: str) -> None:
    said = explain(OSError(number, "reason"), "127.0.0.1", 104, "dicom")
    assert cure in said
    assert ("stop the program" in said) == (number == errno.EADDRINUSE)


def test_a_port_in_use_and_a_foreign_host_are_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PylantirError, match=f"cannot listen on 127.0.0.1 port {port}: .*stop the program"):
            listen_for_scanners(DicomSettings(host="127.0.0.1", port=port))
    with pytest.raises(PylantirError, match=r"192\.0\.2\.1 is no address of this machine"):
        listen_for_scanners(DicomSettings(host="192.0.2.1", port=port))


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 300, "two words", "\ud800"])
def test_a_host_that_cannot_be_resolved_is_called_that(host: str) -> None:
    assert "is not known" in (find_host(host, "dicom") or "")


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "localhost"])
def test_a_host_of_this_machine_is_right(host: str) -> None:
    assert find_host(host, "http") is None
