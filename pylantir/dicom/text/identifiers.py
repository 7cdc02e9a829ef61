"""Which identifiers can be sent to a scanner exactly as they are?

Lives in the server process and in `pylantir explain`. Columns of stored identifiers come in; the rows with one that the
scanner's character set or the attribute's value representation cannot hold go out. A transliterated or shortened
identifier might be another patient's, so such an item is not sent at all.

Source: DICOM PS3.5 6.2 (LO, SH, UI: length, insignificant spaces, backslash as delimiter).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pylantir.dicom.text.charset import CharacterSet
from pylantir.entry import WORKLIST_FIELDS
from pylantir.invisible import has_invisible

IDENTIFIERS = frozenset(
    {"patient_id", "issuer_of_patient_id", "accession_number", "scheduled_procedure_step_id"}
    | {"requested_procedure_id", "admission_id", "study_instance_uid"}
)
"""The worklist fields that say which patient, order, visit or study is meant."""


class IdentifierCheck:
    """Finds the rows that a scanner cannot be sent."""

    def __init__(self, fields: Iterable[str], charset: CharacterSet | None) -> None:
        """Prepare to look at rows.

        Args:
            fields: The worklist fields that the response is made of.
            charset: The scanner's; None is UTF-8.
        """
        self._fields = [name for name in fields if name in IDENTIFIERS]
        self._charset = charset
        self._holds_ascii = charset is None or charset.holds("\\~")

    def unfit_rows(self, columns: Mapping[str, Sequence[object]]) -> dict[int, str]:
        """List row number -> the first field that cannot be sent exactly."""
        unfit: dict[int, str] = {}
        for name in self._fields:
            limit = WORKLIST_FIELDS[name].max_length
            if not self._are_plain(columns[name], limit):
                for number, value in enumerate(columns[name]):
                    if value is not None and not self._fits(str(value), name, limit):
                        unfit.setdefault(number, name)
        return unfit

    def _are_plain(self, values: Sequence[object], limit: int) -> bool:
        """Whether all are short ASCII text without anything special: a quick look at many."""
        try:
            texts: list[str] = [value for value in values if value] if None in values else values  # type: ignore[assignment, misc]
            whole = "|".join(texts)
        except TypeError:
            return False
        return (
            self._holds_ascii
            and whole.isascii()
            and whole.isprintable()
            and "\\" not in whole
            and not (" " in whole and (" |" in whole or "| " in whole or whole != whole.strip()))
            and max(map(len, texts), default=0) <= limit
        )

    def _fits(self, text: str, name: str, limit: int) -> bool:
        if (
            not text.isprintable()
            or has_invisible(text)
            or "\\" in text
            or text != text.strip(" ")
            or len(text) > limit
        ):
            return False
        if WORKLIST_FIELDS[name].vr == "UI":
            return text.isascii()
        return self._charset is None or self._charset.holds(text)
