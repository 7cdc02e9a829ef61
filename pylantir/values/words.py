"""Reads words and measures that sources write in many ways: sex, pregnancy, status, modality, weight, length, age.

Pure. A word is accepted if it has the same meaning in every language that uses it; all others are refused.

Source: DICOM PS3.3 C.7.1.1 (sex), C.4.13 (pregnancy status), C.7.3.1.1.1 (modality), PS3.5 6.2 (DS, AS).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pylantir.entry import CANCELED, COMPLETED, DISCONTINUED, IN_PROGRESS, SCHEDULED, STATUSES
from pylantir.errors import RecordRejected
from pylantir.values.text import Note, code_string

_POUNDS_PER_KG = 2.2046226218487757
_HEAVIEST_LB = 1500.0
_TALLEST_M = 3.0
_MEASURE = re.compile(r"(?P<number>[0-9]{1,6}(?:[.,][0-9]*)?)\s*(?P<unit>[A-Za-z]{0,9})\.?")
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}\.[0-9]{3}")
_AGE = re.compile(r"([0-9]{1,3})([DWMY])")


def _words(meanings: Mapping[str, str]) -> dict[str, str]:
    return {word.replace("_", " "): meaning for words, meaning in meanings.items() for word in words.split()}


_SEXES = _words({
    "M MALE MAN BOY MASCULINE MÄNNLICH MAENNLICH MANN HERR HOMME MASCULIN HOMBRE MASCULINO MASCHIO UOMO MANNELIJK": "M",
    "F FEMALE WOMAN GIRL FEMININE W WEIBLICH FRAU FEMME FÉMININ FEMININ MUJER FEMENINO FEMMINA DONNA VROUW": "F",
    "VROUWELIJK FEMININO KVINNA KVINDE": "F",
    "O OTHER X D DIVERS DIVERSE INTERSEX NON-BINARY NONBINARY AUTRE OTRO ALTRO": "O",
    "U UNK UNKNOWN NOT_KNOWN UNDISCLOSED UNSPECIFIED NOT_SPECIFIED N/A NA UNBEKANNT INCONNU DESCONOCIDO": "",
})  # fmt: skip
_STATUS_WORDS = _words({
    "SCHEDULED PLANNED BOOKED CONFIRMED ARRIVED READY OPEN NEW TENTATIVE PENDING REQUESTED CHECKED_IN": SCHEDULED,
    "GEPLANT GEBUCHT BESTÄTIGT PLANIFIÉ CONFIRMÉ PROGRAMADO CONFIRMADO": SCHEDULED,
    "IN_PROGRESS STARTED RUNNING BEGUN": IN_PROGRESS,
    "COMPLETED COMPLETE DONE FINISHED ERLEDIGT ABGESCHLOSSEN TERMINÉ COMPLETADO": COMPLETED,
    "DISCONTINUED ABORTED ABGEBROCHEN": DISCONTINUED,
    "CANCELED CANCELLED DELETED REJECTED STORNIERT ABGESAGT ANNULÉ ANNULÉE ANULADO CANCELADO ANNULLATO": CANCELED,
    "GEANNULEERD": CANCELED,
})  # fmt: skip
_PREGNANCY = _words({
    "1 NO N NOT_PREGNANT FALSE NEIN NON": "1",
    "2 POSSIBLY POSSIBLE POSSIBLY_PREGNANT MAYBE MÖGLICH": "2",
    "3 YES Y PREGNANT DEFINITELY_PREGNANT TRUE JA OUI SÍ SCHWANGER": "3",
    "4 UNKNOWN UNK U NOT_KNOWN UNBEKANNT": "4",
})  # fmt: skip
_MODALITY_TERMS = """
AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL IVOCT IVUS KER KO
LEN LS M3D MG MR NM OAM OCT OP OPM OPR OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE
RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC
"""
_MODALITIES = frozenset(_MODALITY_TERMS.split())
"""Defined terms; the retired ones are not among them."""
_UNITS_OF_WEIGHT: Mapping[str, float] = {
    **dict.fromkeys(("kg", "kgs", "kilo", "kilos", "kilogram", "kilograms"), _POUNDS_PER_KG),
    **dict.fromkeys(("lb", "lbs", "pound", "pounds"), 1.0),
    **dict.fromkeys(("g", "gram", "grams"), _POUNDS_PER_KG / 1000),
}
_UNITS_OF_LENGTH: Mapping[str, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254}


def sex(field: str, text: str, _note: Note) -> str:
    """Return M, F or O, or "" if the source does not know the sex."""
    word = _SEXES.get(text.upper())
    if text in {"H", "h"}:
        raise RecordRejected(field, 'H may be a man: map it with "values", and M too if it is a woman (mujer) here')
    if word is None:
        raise RecordRejected(field, "expected M, F, O, male, female, other or unknown")
    return word


def status(field: str, text: str, _note: Note) -> str:
    """Give one of the worklist's statuses."""
    word = _STATUS_WORDS.get(text.upper().replace("_", " ").replace("-", " "))
    if word is None:
        raise RecordRejected(field, f"expected one of {', '.join(STATUSES)}")
    return word


def pregnancy(field: str, text: str, _note: Note) -> str:
    """Give 1 (no), 2 (possibly), 3 (yes) or 4 (unknown)."""
    word = _PREGNANCY.get(text.upper())
    if text == "0":
        raise RecordRejected(field, '0 is no code of DICOM, whose 1 is "no": if 1 is a yes here, map it with "values"')
    if word is None:
        raise RecordRejected(field, "expected 1 (no), 2 (possibly), 3 (yes) or 4 (unknown), or the word")
    return word


def modality(field: str, text: str, note: Note) -> str:
    """Return a modality's code; a code that is no defined term is kept, too."""
    code = code_string(field, text)
    code = "MR" if code == "MRI" else code
    if code not in _MODALITIES and len(code) <= 16:
        note("no modality that DICOM defines; scanners will not find it under another one")
    return code


def pounds(field: str, text: str, *, in_kg: bool) -> str:
    """Return a weight in pounds; a unit in the text takes precedence over the field's own."""
    factor = _POUNDS_PER_KG if in_kg else 1.0
    number = _measured(field, text, _UNITS_OF_WEIGHT, factor, _HEAVIEST_LB)
    if not 0 < (weight := round(number, 4)) <= _HEAVIEST_LB:
        raise RecordRejected(field, f"expected a positive weight of at most {_HEAVIEST_LB:.0f} pounds")
    return f"{weight:.4f}".rstrip("0").rstrip(".")


def metres(field: str, text: str) -> str:
    """Give a length in metres."""
    number = _measured(field, text, _UNITS_OF_LENGTH, 1.0, _TALLEST_M)
    if not 0 < (length := round(number, 4)) <= _TALLEST_M:
        raise RecordRejected(field, f"expected a length in metres of at most {_TALLEST_M:.0f}, or with its unit")
    return f"{length:.4f}".rstrip("0").rstrip(".")


def age(field: str, text: str) -> str:
    """Give an age as DICOM writes it: `045Y`."""
    match = _AGE.fullmatch(text.upper())
    if match is None:
        raise RecordRejected(field, 'expected an age with its unit, as "045Y", "18M", "6W" or "3D"')
    return match[1].zfill(3) + match[2]


def _measured(field: str, text: str, units: Mapping[str, float], own: float, most: float) -> float:
    """Read a number with its unit.

    A point before three digits may separate thousands: "3.500 g" could be 3500 g, whereas "72.500 kg" has one meaning,
    as nobody weighs `most` and more.
    """
    match = _MEASURE.fullmatch(text)
    factor = None
    if match:
        factor = units.get(match["unit"].lower()) if match["unit"] else own
    if match is None or factor is None:
        raise RecordRejected(field, f"expected a positive number, alone or with a unit ({', '.join(units)})")
    number = match["number"]
    if re.fullmatch(r"[1-9][0-9]*,[0-9]{3}", number):
        raise RecordRejected(field, "the comma could separate thousands or decimals")
    if match["unit"] and _THOUSANDS.fullmatch(number) and int(number.replace(".", "")) * factor <= most:
        raise RecordRejected(field, "the point could separate thousands or decimals")
    return float(number.replace(",", ".")) * factor
