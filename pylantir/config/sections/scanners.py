"""Checks the entries of `modalities`, and turns them into scanner profiles.

Lives in the configuration check. The entry for `*` holds for all scanners; any other entry says what differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pylantir.certificates import read_wanted
from pylantir.config.messages import Finding
from pylantir.config.models.serving import Scanner
from pylantir.config.sections.http import is_loopback
from pylantir.settings import DicomSettings, ScannerProfile

EVERY_OTHER = "*"


def check_scanners(document: Mapping[str, object]) -> Iterator[Finding]:
    """Find entries that cannot be told apart, or that can never be used."""
    listed, allowed = document.get("modalities"), document.get("allowed_aet")
    first: dict[str, int] = {}
    for position, entry in enumerate(listed if isinstance(listed, list) else ()):
        title = entry.get("ae_title") if isinstance(entry, dict) else None
        if not isinstance(title, str):
            continue
        place = ("modalities", position, "ae_title")
        if first.setdefault(title, position) != position:
            yield Finding(place=place, text=f'"{title}" has an entry already: modalities[{first[title]}]')
        elif isinstance(allowed, list) and allowed and title not in (EVERY_OTHER, *allowed):
            yield Finding(place=place, text=f'"{title}" is not in allowed_aet, so it would be refused: add it there')
        if isinstance(entry, dict) and entry.get("certificate") is not None:
            yield from _check_certificate(document, position, title)


def open_to_everybody(document: Mapping[str, object]) -> Iterator[Finding]:
    """Warn if any machine of the network can read every patient's name, and say which keys change that."""
    dicom = document.get("dicom")
    section = dicom if isinstance(dicom, dict) else {}
    tls = section.get("tls")
    host = section.get("host", DicomSettings().host)
    wants_certificate = isinstance(tls, dict) and tls.get("require_client_certificate") is True
    if document.get("allowed_aet") or document.get("allowed_hosts") or wants_certificate or is_loopback(str(host)):
        return
    text = (
        f"whoever can reach {host} gets the worklist, under any AE title: set allowed_aet, allowed_hosts or "
        "dicom.tls.require_client_certificate, or 127.0.0.1 here if the scanners are on this machine"
    )
    yield Finding(place=("dicom", "host"), text=text)


def _check_certificate(document: Mapping[str, object], position: int, title: str) -> Iterator[Finding]:
    place = ("modalities", position, "certificate")
    dicom = document.get("dicom")
    tls = dicom.get("tls") if isinstance(dicom, dict) else None
    if not (isinstance(tls, dict) and tls.get("ca")):
        yield Finding(place=place, text="needs dicom.tls.ca: without it no scanner's certificate is looked at")
    if title == EVERY_OTHER:
        yield Finding(place=place, text='"*" stands for many scanners: name the certificate at each scanner')


def scanner_profiles(entries: Sequence[Scanner]) -> dict[str, ScannerProfile]:
    """Complete each entry with the values that hold for every scanner.

    Returns:
        AE title -> profile; the profile of all other scanners is under `EVERY_OTHER`, if it has an entry.
    """
    common = next((entry for entry in entries if entry.ae_title == EVERY_OTHER), Scanner(ae_title=EVERY_OTHER))
    return {entry.ae_title: _profile(entry, common) for entry in entries}


def _profile(entry: Scanner, common: Scanner) -> ScannerProfile:
    def chosen(key: str) -> object:
        own = getattr(entry, key)
        return getattr(common, key) if own is None else own

    max_answers = chosen("max_answers")
    return ScannerProfile(
        hosts=tuple(entry.host or common.host or ()),
        charset=tuple(entry.charset or common.charset or ()),
        only_own_station=chosen("only_own_station") is True,
        modalities=tuple(entry.modality or common.modality or ()),
        max_answers=max_answers if isinstance(max_answers, int) else None,
        required_empty=chosen("required_empty") is not False,
        certificates=tuple(read_wanted(text) for text in entry.certificate or ()),
    )
