"""What the web application needs of the process around it: it knows neither the database nor the supervisor itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pylantir.mpps.model import Attributes, MppsAnswer, MppsRequest
from pylantir.query import WorklistQuery
from pylantir.settings import DicomSettings, HttpSettings
from pylantir.web.shown import Shown

Row = Sequence[object]
Item = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What is asked, and answered. For any thread; each may raise StoreError but `report` and `status`.

    Attributes:
        find_values: The items that match, in batches: of each the values of the named fields. To be closed.
        find_items: The items that match, each with every field.
        find_item: One item, whatever its status.
        find_givers: Item id -> the sources that give the item now, of some items.
        find_statements: What each source says about an item now: `data_source`, `record_key`, `fields`.
        find_history: The audit log of an item, the oldest row first.
        find_conflicts: The open differences between sources, and the removals that are held back.
        find_rejected: The refused records by source.
        count_conflicts: How many there are, and of these the held-back removals by source.
        report: Gives a report to the writer and waits for its answer. May raise WriterUnavailable.
        retrieve: The attributes of a stored performed procedure step, and the numbers of its items, or None.
        status: What `pylantir-supervisor status --json` prints. May raise OSError or ControlError.
        find_scanners: `asked`: AE title -> what that scanner asked last, since the server started; `refused`: who was
            refused lately, and why. May raise as `status`.
        find_creator: Who created a step (AE title or user), or None; no function: anybody may use any step.
        note_shown: Told of each answer that may have shown patients. Must not block or raise.
        note_refused_login: Told the address of a failed login, and the user's name if there is such a user. As before.
    """

    find_values: Callable[[WorklistQuery, Sequence[str]], Generator[Sequence[Row]]]
    find_items: Callable[[WorklistQuery], Iterable[Item]]
    find_item: Callable[[int], Item | None]
    find_givers: Callable[[Sequence[int]], Mapping[Any, Collection[str]]]
    find_statements: Callable[[int], Sequence[Mapping[str, Any]]]
    find_history: Callable[[int], Sequence[Mapping[str, Any]]]
    find_conflicts: Callable[[], Sequence[Mapping[str, Any]]]
    find_rejected: Callable[[], Sequence[Mapping[str, Any]]]
    count_conflicts: Callable[[], tuple[int, Mapping[str, int]]]
    report: Callable[[MppsRequest], MppsAnswer]
    retrieve: Callable[[str], tuple[Attributes, Sequence[int]] | None]
    status: Callable[[], Mapping[str, Any]]
    find_scanners: Callable[[], Mapping[str, Any]]
    find_creator: Callable[[str], str | None] | None = None
    note_shown: Callable[[Shown], None] = lambda _: None
    note_refused_login: Callable[[str, str | None], None] = lambda _address, _user: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The configuration, as far as the web application goes by it.

    Attributes:
        machine: This host's name.
    """

    http: HttpSettings
    dicom: DicomSettings
    machine: str = ""
