"""Recognises a file's kind by its first bytes: a `.csv` may be a workbook, and a server may send its login page.

Lives in source workers. Pure. In: the first bytes. Out: a message, or the encoding to read the file with.
"""

from __future__ import annotations

import codecs
import re

HEAD_BYTES = 4096
GZIP = b"\x1f\x8b"

_ZIP = b"PK\x03\x04"
_SIGNATURES = {
    b"\xd0\xcf\x11\xe0": "an Excel workbook of the old kind (.xls)",
    b"%PDF": "a PDF document",
    b"{\\rtf": "a text document (RTF)",
    b"SQLite format 3\x00": "an SQLite database",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"(\xb5/\xfd": "a zstd archive",
    b"PAR1": "a Parquet file",
}
_WORKBOOK_PARTS = (b"xl/", b"[Content_Types].xml", b"application/vnd.oasis.opendocument.spreadsheet")
_PAGE = re.compile(rb"<!doctype html|<html|<head|<body", re.IGNORECASE)


def strange_kind(head: bytes) -> str:
    """Say what kind of file this is and what to do, if it is no text with records; else return "".

    Args:
        head: The first bytes of the file, unpacked if it was gzip.
    """
    if head.startswith(_ZIP):
        if any(part in head for part in _WORKBOOK_PARTS):
            return (
                "is a spreadsheet (.xlsx or .ods), whatever its name says; save it as CSV, or use the workbook plugin"
            )
        return "is a zip archive; unpack it first"
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return f"is {kind}, not text; let the source export text"
    start = head.lstrip(codecs.BOM_UTF8).lstrip()[:256]
    if _PAGE.match(start):
        return "is an HTML page (a login or an error page perhaps), not an export; look at it in a browser"
    if start.startswith(b"<?xml") or (start.startswith(b"<") and b"xmlns" in start):
        return "is XML; let the source export CSV or JSON"
    return ""


def unmarked_utf16(head: bytes) -> str:
    """Recognise UTF-16 without a byte order mark by the zeros between Latin letters.

    Returns:
        "utf-16-le", "utf-16-be", or "" for anything else.
    """
    text = head[: len(head) // 2 * 2].rstrip(b"\x00\x1a")
    pairs = (len(text) + 1) // 2
    if pairs < 4:
        return ""
    even, odd = text[0::2].count(0), text[1::2].count(0)
    if odd > pairs * 0.6 and even < pairs * 0.1:
        return "utf-16-le"
    if even > pairs * 0.6 and odd < pairs * 0.1:
        return "utf-16-be"
    return ""
