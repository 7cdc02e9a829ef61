"""Reads X.509 certificates: how long the server's is valid, and which scanner a peer's belongs to.

Lives in the configuration check and in the server process. Text and encoded certificates come in, values go out. Pure:
the clock is passed in, no file is read. Whether a certificate can be trusted is decided by the TLS library alone.

Source: RFC 5280 4.1 (fields), 4.1.2.5 (validity); RFC 4514 (subjects as text); RFC 4517 4.2.11 (how they compare).
"""

from __future__ import annotations

import binascii
import datetime
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WARN_DAYS = 30
_SEQUENCE, _EXPLICIT_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_PEM_BEGIN, _PEM_END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_ATTRIBUTE_TYPES = {
    "CN": "commonname", "L": "localityname", "ST": "stateorprovincename", "O": "organizationname",
    "OU": "organizationalunitname", "C": "countryname", "STREET": "streetaddress", "DC": "domaincomponent",
    "UID": "userid", "SN": "surname", "GN": "givenname", "E": "emailaddress", "EMAIL": "emailaddress",
    "T": "title",
}  # fmt: skip
_KNOWN_TYPES = frozenset({*_ATTRIBUTE_TYPES.values(), "serialnumber", "dnqualifier", "pseudonym", "initials"})

Subject = tuple[frozenset[tuple[str, str]], ...]
"""Relative distinguished names, the most general one first; types and values in one form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From when until when a certificate is valid (UTC)."""

    begins: datetime.datetime
    ends: datetime.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement of a validity.

    Attributes:
        text: For people; empty if all is well.
        is_unusable: Every client refuses the certificate today.
    """

    text: str = ""
    is_unusable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCertificate:
    """A certificate that a peer has shown and that the TLS library has accepted.

    Attributes:
        fingerprint: SHA-256, in hexadecimal digits.
        subject: In the form in which subjects are compared.
        name: The subject as text, by RFC 4514.
    """

    fingerprint: str
    subject: Subject
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedCertificate:
    """A certificate as the configuration names it: one of the two is set."""

    fingerprint: str = ""
    subject: Subject = ()

    def fits(self, shown: PeerCertificate) -> bool:
        """Whether the shown certificate is the one that the configuration names."""
        return self.fingerprint == shown.fingerprint if self.fingerprint else self.subject == shown.subject


def read_validity(pem: str) -> Validity:
    """Read the validity of the first certificate in a PEM file.

    Raises:
        ValueError: The file has no certificate, or it cannot be read.
    """
    start, end = pem.find(_PEM_BEGIN), pem.find(_PEM_END)
    if start < 0 or end < start:
        raise ValueError("holds no certificate in PEM form")
    try:
        return _validity(binascii.a2b_base64(pem[start + len(_PEM_BEGIN) : end]))
    except (ValueError, IndexError, StopIteration) as error:
        raise ValueError("holds a certificate that cannot be read") from error


def judge_validity(validity: Validity, now: datetime.datetime) -> Verdict:
    """Say whether a server's certificate is valid, and for how long."""
    if now < validity.begins:
        text = f"the server's certificate is not valid before {_shown(validity.begins)}: scanners refuse it"
        return Verdict(text=text, is_unusable=True)
    if now >= validity.ends:
        text = f"the server's certificate has expired on {_shown(validity.ends)}: scanners refuse it; renew it"
        return Verdict(text=text, is_unusable=True)
    left = validity.ends - now
    if left < datetime.timedelta(days=WARN_DAYS):
        return Verdict(
            text=f"the server's certificate expires on {_shown(validity.ends)}, in {left.days} days; renew it"
        )
    return Verdict()


def shown_certificate(encoded: bytes, subject: Sequence[Sequence[tuple[str, str]]]) -> PeerCertificate:
    """Make a `PeerCertificate` from the TLS library's data.

    Args:
        encoded: The certificate in DER form.
        subject: Its subject as `ssl.SSLSocket.getpeercert` gives it.
    """
    import hashlib  # source workers import this module and never see a certificate

    names = tuple(frozenset((kind.lower(), _in_one_form(value)) for kind, value in part) for part in subject)
    fingerprint = hashlib.sha256(encoded).hexdigest()
    return PeerCertificate(fingerprint=fingerprint, subject=names, name=written_subject(subject))


def written_subject(subject: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Write a subject by RFC 4514, the most special name first.

    Args:
        subject: As `ssl.SSLSocket.getpeercert` gives it.
    """
    short = {long: name for name, long in reversed(_ATTRIBUTE_TYPES.items())}
    parts = (
        "+".join(f"{short.get(kind.lower(), kind)}={_escaped(value)}" for kind, value in part)
        for part in reversed(subject)
    )
    return ",".join(parts)


def _escaped(value: str) -> str:
    escaped = re.sub(r'([\\,+"<>;=])', r"\\\1", value).replace("\0", "\\00")
    if escaped.endswith(" "):
        escaped = escaped[:-1] + "\\ "
    return "\\" + escaped if escaped.startswith((" ", "#")) else escaped


def read_wanted(text: str) -> WantedCertificate:
    """Read how the configuration names a certificate: a SHA-256 fingerprint, or a subject by RFC 4514.

    Raises:
        ValueError: It is neither; the message says what is expected.
    """
    digits = text.replace(":", "").strip().lower()
    if _FINGERPRINT.fullmatch(digits):
        return WantedCertificate(fingerprint=digits)
    if "=" not in text:
        raise ValueError("expected a SHA-256 fingerprint (64 hexadecimal digits) or a subject as CN=MR1,O=Clinic,C=DE")
    # As text, the most special name comes first; in the certificate it is the last one.
    return WantedCertificate(subject=tuple(_names(part) for part in reversed(_split(text, ","))))


def _names(part: str) -> frozenset[tuple[str, str]]:
    names = set()
    for name in _split(part, "+"):
        written, equals, value = name.partition("=")
        kind = _ATTRIBUTE_TYPES.get(written.strip().upper(), written.strip().lower())
        if not equals or not value.strip() or not (kind in _KNOWN_TYPES or re.fullmatch(r"\d+(\.\d+)+", kind)):
            raise ValueError(f"expected names as CN=MR1 between the commas of a subject, got {name.strip()!a}")
        names.add((kind, _in_one_form(_unescaped(value))))
    return frozenset(names)


def _split(text: str, separator: str) -> list[str]:
    """Split at separators, except those after a backslash."""
    return re.findall(rf"(?:\\.|[^\\{separator}])+", text, re.DOTALL) or [text]


def _unescaped(value: str) -> str:
    def one(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[2]
        return bytes.fromhex(match[1].replace("\\", "")).decode("utf-8", "replace")

    return re.sub(r"\\([0-9a-fA-F]{2}(?:\\[0-9a-fA-F]{2})*)|\\(.)", one, value.strip(), flags=re.DOTALL)


def _in_one_form(value: str) -> str:
    return " ".join(value.casefold().split())


def _validity(certificate: bytes) -> Validity:
    (_, whole), *_ = _elements(certificate)
    (_, to_be_signed), *_ = _elements(whole)
    fields = list(_elements(to_be_signed))
    # Serial number, algorithm and issuer come before it, and perhaps the version.
    kind, validity = fields[4 if fields[0][0] == _EXPLICIT_VERSION else 3]
    if kind != _SEQUENCE:
        raise ValueError
    begins, ends = _elements(validity)
    return Validity(begins=_moment(*begins), ends=_moment(*ends))


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Read DER elements: tag and contents."""
    start = 0
    while start < len(data):
        tag, length, start = data[start], data[start + 1], start + 2
        if length & 0x80:
            count = length & 0x7F
            length, start = int.from_bytes(data[start : start + count], "big"), start + count
        if start + length > len(data):
            raise ValueError
        yield tag, data[start : start + length]
        start += length


def _moment(kind: int, content: bytes) -> datetime.datetime:
    text = content.decode("ascii")
    if kind == _UTC_TIME:
        # RFC 5280 4.1.2.5.1: years from 50 on are of the 20th century.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif kind != _GENERALIZED_TIME:
        raise ValueError
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.UTC)


def _shown(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
