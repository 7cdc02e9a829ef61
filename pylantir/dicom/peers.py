"""Where Pylantir answers a worklist query otherwise than DCMTK's wlmscpfs or Orthanc's worklist plugin, and why.

The table stands in the conformance statement. A test asks all three servers the same questions over the same entries:
each difference has to be of one of these kinds, and each kind has to be met.
"""

from __future__ import annotations

from dataclasses import dataclass

DCMTK = "wlmscpfs 3.6.7"
ORTHANC = "Orthanc 1.10.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One kind of difference.

    Attributes:
        name: What it is about.
        clause: What of the standard decides, or leaves it open.
        here: What Pylantir does.
        there: Server -> what that one does; only those that differ.
    """

    name: str
    clause: str
    here: str
    there: dict[str, str]


DIFFERENCES = (
    Difference(
        name="letter case of a name",
        clause="PS3.4 C.2.2.2.1: an SCP may match names whatever their letter case",
        here="`doe*` finds *Doe*",
        there={DCMTK: "exact"},
    ),
    Difference(
        name="empty components at the end of a name",
        clause="PS3.5 6.2.1: they and their delimiters may be left out",
        here="`Doe^Jane^^` is `Doe^Jane`",
        there={DCMTK: "another text", ORTHANC: "another text"},
    ),
    Difference(
        name="wildcards in other attributes than names",
        clause="PS3.4 C.2.2.2.4 allows them in AE, CS, LO and SH, table K.6-1 does not require them",
        here="`M*`, `P00*` select",
        there={DCMTK: "characters like any other"},
    ),
    Difference(
        name="wildcards in a UID or a date",
        clause="PS3.4 C.2.2.2.4: none in DA and UI",
        here="in a UID a character like any other, in a date A900",
        there={ORTHANC: "C000"},
    ),
    Difference(
        name="optional keys that are matched here",
        clause="PS3.4 K.2.2.1.1.2: who does not match an optional key ignores it",
        here="selects",
        there={DCMTK: "ignored, FF01"},
    ),
    Difference(
        name="optional keys that are not matched here",
        clause="PS3.4 K.2.2.1.1.2: who does not match an optional key ignores it",
        here="ignored, FF01",
        there={ORTHANC: "no entry has it, so none matches"},
    ),
    Difference(
        name="several values of one key",
        clause="PS3.4 C.2.2.2.8, note 4: their meaning is undefined unless it was negotiated",
        here="any of them",
        there={DCMTK: "A900 where the VR is CS, DA or TM, else one text"},
    ),
    Difference(
        name="values that break their VR",
        clause="PS3.5 table 6.2-1; PS3.4 K.4.1.3 leaves open how much is checked",
        here="a code in lower case matches nothing",
        there={DCMTK: "A900"},
    ),
    Difference(
        name="spaces before a value",
        clause="PS3.5 table 6.2-1: not significant in CS",
        here="not significant",
        there={ORTHANC: "another text"},
    ),
    Difference(
        name="times of less precision",
        clause="PS3.5 table 6.2-1 (TM); PS3.4 C.2.2.2.1",
        here="`0830` is `083000`, a range up to `12` includes the whole hour",
        there={
            DCMTK: "a range up to `12` ends at its first second",
            ORTHANC: "compared as texts",
        },
    ),
    Difference(
        name="a range of dates with a range of times",
        clause="PS3.4 K.4.1.1.3, C.2.2.2.5: two ranges of the same form are one period",
        here="from the first day's time to the last day's",
        there={ORTHANC: "those hours of each day"},
    ),
    Difference(
        name="ranges of dates and times of different forms",
        clause="PS3.4 C.2.2.2.5 joins ranges of the same form (closed, open below, open above); others are left open",
        here="one period all the same",
        there={DCMTK: "those hours of each day, or neither", ORTHANC: "those hours of each day"},
    ),
    Difference(
        name="no station",
        clause="PS3.4 table K.6-1: the station's AE title is of type 1; K.2.2.1.1.1",
        here="the entry is the asking scanner's: found by, and returned with, its AE title",
        there={DCMTK: "not found, returned empty", ORTHANC: "not found, returned empty"},
    ),
    Difference(
        name="return keys without a value",
        clause="PS3.4 K.2.2.1.2: an SCU cannot expect those of type 3",
        here="every attribute that was asked for comes back, empty if need be",
        there={DCMTK: "what is not supported is missing", ORTHANC: "what the entry does not have is missing"},
    ),
    Difference(
        name="an empty sequence",
        clause="PS3.4 K.2.2.1.2, note 4: asks for the attributes of its items",
        here="all that is known of a scheduled step, its status included",
        there={DCMTK: "some of it", ORTHANC: "what the entry has"},
    ),
    Difference(
        name="the character set of an answer in ASCII",
        clause="PS3.4 C.2.2.2, PS3.3 C.12.1.1.2: needed beyond ASCII only",
        here="not declared",
        there={ORTHANC: "`ISO_IR 100`"},
    ),
)
