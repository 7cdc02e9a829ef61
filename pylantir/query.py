"""What a scanner asks for, in the worklist's own terms: the value that passes from DICOM to the database.

`pylantir.dicom` makes a `WorklistQuery` from a C-FIND identifier, `pylantir.store` answers it; neither knows the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistQuery:
    """The matching keys of one query; an empty one matches every item. All conditions hold together.

    Attributes:
        equal: Worklist field -> accepted values (single value matching, or a list of UIDs).
        like: Worklist field -> DICOM pattern with `*` and `?`. Person names match case-insensitively.
        ranges: Date or time field -> inclusive bounds in stored form (YYYYMMDD, HHMMSS); None is open.
        period: Inclusive bounds YYYYMMDDHHMMSS of scheduled start date and time together; None is open.

    Source: DICOM PS3.4 C.2.2.2 (attribute matching), K.4.1.1.3 (worklist keys).
    """

    equal: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    like: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    period: tuple[str | None, str | None] | None = None
