"""What the web application needs of the process around it: it knows neither the database nor the supervisor itself."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pylantir.mpps.model import Attributes, MppsAnswer, MppsRequest
from pylantir.query import WorklistQuery
from pylantir.settings import DicomSettings, HttpSettings

Row = Sequence[object]
Item = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What is asked, and answered. For any thread; each may raise StoreError but `report` and `status`.

    Attributes:
        find_values: The items that match, in batches: of each the values of the named fields. To be closed.
        find_items: The items that match, each with every field.
        find_item: One item, whatever its status.
        find_statements: What each source says about an item now: `data_source`, `record_key`, `fields`.
        find_history: The audit log of an item, the oldest row first.
        report: Gives a report to the writer and waits for its answer. May raise WriterUnavailable.
        retrieve: The attributes of a stored performed procedure step, or None.
        status: What `pylantir-supervisor status --json` prints. May raise OSError or ControlError.
        last_queries: AE title -> what that scanner asked last, since the server started. May raise as `status`.
    """

    find_values: Callable[[WorklistQuery, Sequence[str]], Generator[Sequence[Row]]]
    find_items: Callable[[WorklistQuery], Iterable[Item]]
    find_item: Callable[[int], Item | None]
    find_statements: Callable[[int], Sequence[Mapping[str, Any]]]
    find_history: Callable[[int], Sequence[Mapping[str, Any]]]
    report: Callable[[MppsRequest], MppsAnswer]
    retrieve: Callable[[str], Attributes | None]
    status: Callable[[], Mapping[str, Any]]
    last_queries: Callable[[], Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The configuration, as far as the web application goes by it."""

    http: HttpSettings
    dicom: DicomSettings
