"""What an answer has shown of patients: noted where the answer is made, told to the process's owner when it is sent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

PAGE, DICOMWEB = "page", "DICOMweb"
_NAME = re.compile(r"[A-Za-z0-9_.]{1,100}")
_FORM_NAMES = {"date", "scanner", "modality", "patient", "status", "source", "item"}
_STRANGE_UID = re.compile(r"(?<=/modality-performed-procedure-steps/)(?![0-9]+(\.[0-9]+)+$).*", re.DOTALL)
_BAD_REQUEST = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One answer that may have shown patients.

    Attributes:
        service: `page` or `DICOMweb`.
        asked: The path and the names of the parameters, without their values: those may name a patient.
        items: Numbers of the items that were shown; none: nobody was found.
        status: Of HTTP.
        user: Who is logged in; `web` where nobody has to be.
        address: The client's.
    """

    service: str
    asked: str
    items: Sequence[int]
    status: int
    user: str
    address: str


@dataclass(slots=True)
class Notes:
    """What the maker of an answer notes; kept in the request's scope."""

    service: str | None = None
    items: list[int] = field(default_factory=list)

    def take(self, scope: Any, status: int, user: str) -> Shown | None:
        """Put together what was noted; None: nothing of the kind was asked for."""
        if self.service is None:
            return None
        parts = (part.partition("=") for part in scope["query_string"].decode("latin-1").split("&"))
        names = [name for name, _, value in parts if value and self._is_key(name, status)]
        # What stands in the place of a UID and is none may be a patient's ID.
        path = _STRANGE_UID.sub("?", scope["path"])
        asked = path + (f"?{'&'.join(dict.fromkeys(names))}" if names else "")
        address = (scope.get("client") or ("",))[0]
        return Shown(
            service=self.service, asked=asked, items=tuple(dict.fromkeys(self.items)), status=status, user=user,
            address=address,
        )  # fmt: skip

    def _is_key(self, name: str, status: int) -> bool:
        """Whether a parameter's name is one that we know: a stranger's may be a value that lost its name."""
        if self.service == PAGE:
            return name in _FORM_NAMES
        return status != _BAD_REQUEST and _NAME.fullmatch(name) is not None
