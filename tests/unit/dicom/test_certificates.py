"""How long the server's certificate is good, and whose a scanner's is."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.certificates import (
    PeerCertificate,
    Validity,
    judge_validity,
    read_validity,
    read_wanted,
    shown_certificate,
)

NOW = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.UTC)
SUBJECT = ((("countryName", "DE"),), (("organizationName", "Clinic, North"),), (("commonName", "MR1"),))


def valid(from_days: float, to_days: float) -> Validity:
    return Validity(begins=NOW + datetime.timedelta(days=from_days), ends=NOW + datetime.timedelta(days=to_days))


@pytest.mark.parametrize(
    ("validity", "text", "is_unusable"),
    [
        (valid(-1, 365), "", False),
        (valid(-1, 30), "", False),
        (valid(-1, 29.9), "expires on 2026-12-26 09:36 UTC, in 29 days", False),
        (valid(-1, 0.5), "in 0 days", False),
        (valid(-9, 0), "has expired on 2026-11-26 12:00 UTC", True),
        (valid(-9, -5), "has expired", True),
        (valid(0.5, 9), "is not valid before 2026-11-27 00:00 UTC", True),
    ],
)
def test_a_certificate_is_judged_before_its_end_and_after(validity: Validity, text: str, is_unusable: bool) -> None:
    verdict = judge_validity(validity, NOW)
    assert text in verdict.text
    assert bool(verdict.text) is bool(text)
    assert verdict.is_unusable is is_unusable


@pytest.mark.parametrize("days", [1, 400, 30_000], ids=["UTCTime", "next year", "GeneralizedTime"])
def test_the_validity_is_read_as_openssl_wrote_it(tmp_path: Path, days: int) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -out c -subj /CN=x -days"
    subprocess.run([*command.split(), str(days)], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    validity = read_validity("bag attributes\n" + (tmp_path / "c").read_text())
    shown = subprocess.run(
        ["openssl", "x509", "-in", "c", "-noout", "-enddate"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    ends = datetime.datetime.strptime(shown.stdout.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(
        tzinfo=datetime.UTC
    )
    assert validity.ends == ends
    assert validity.ends - validity.begins == datetime.timedelta(days=days)


@given(st.binary(max_size=200))
def test_what_is_no_certificate_is_a_value_error(junk: bytes) -> None:
    import base64

    pem = f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(junk).decode()}\n-----END CERTIFICATE-----\n"
    for text in ("", pem, pem[:40]):
        with pytest.raises(ValueError, match="certificate"):
            read_validity(text)


@pytest.mark.parametrize(
    "written",
    [
        r"CN=MR1,O=Clinic\, North,C=DE",
        r"cn=mr1, o=clinic\, north, c=de",
        r"CN=MR1,O=Clinic\2C North,C=DE",
        r"commonName=MR1,organizationName=Clinic\,  North,countryName=DE",
    ],
)
def test_a_subject_is_compared_by_meaning(written: str) -> None:
    assert read_wanted(written).fits(shown_certificate(b"der", SUBJECT))


@pytest.mark.parametrize(
    "written",
    ["CN=MR1", "CN=MR2,O=Clinic\\, North,C=DE", "C=DE,O=Clinic\\, North,CN=MR1", "O=MR1,O=Clinic\\, North,C=DE"],
)
def test_another_subject_does_not_fit(written: str) -> None:
    assert not read_wanted(written).fits(shown_certificate(b"der", SUBJECT))


def test_a_name_of_several_parts_has_no_order() -> None:
    shown = shown_certificate(b"der", ((("commonName", "MR1"), ("userId", "7")),))
    assert read_wanted("UID=7+CN=MR1").fits(shown)


@given(digest=st.binary(min_size=32, max_size=32), upper=st.booleans(), colons=st.booleans())
def test_a_fingerprint_is_taken_with_colons_and_in_any_case(digest: bytes, upper: bool, colons: bool) -> None:
    text = digest.hex(":") if colons else digest.hex()
    wanted = read_wanted(text.upper() if upper else text)
    assert wanted.fits(PeerCertificate(fingerprint=digest.hex(), subject=()))
    assert not wanted.fits(PeerCertificate(fingerprint="0" * 63 + "1", subject=())) or digest == bytes(31) + b"\x01"


@pytest.mark.parametrize("written", ["", "MR1", "12:34", "ab" * 31, "CN=", "=MR1", "CN=MR1,,C=DE,nonsense", "Foo=MR1"])
def test_any_other_form_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_wanted(written)
