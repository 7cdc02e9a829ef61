"""The two DICOMweb services: searching the worklist, and taking in performed procedure steps.

Lives in the web process; called from its worker threads. Matching, profiles and the rules of MPPS are those of C-FIND
and MPPS over an association: the same functions.

Source: DICOM PS3.18 14 (modality scheduled procedure step service), 15 (modality performed procedure step service).
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice

import pydicom.config

from pylantir.dicom.find.encode_responses import ResponseEncoder
from pylantir.dicom.find.encode_values import Writing
from pylantir.dicom.find.matching import parse_query
from pylantir.dicom.find.serving import for_station, limited, profile_limits, serving_limits
from pylantir.dicom.mpps.decoding import read_attributes
from pylantir.dicom.mpps.encoding import write_attributes
from pylantir.errors import BadRequest, InvalidQuery, MppsRefused
from pylantir.mpps.model import Attributes, DimseStatus, ErrorId, MppsAnswer, MppsRequest, Operation
from pylantir.web.dicomweb.queries import FUZZY_REMARK, Search
from pylantir.web.ports import Ports, Site

ANY_STATION = "ANY"
"""Station AE title in a step that is planned for no station in particular; a scanner would read its own there."""
MORE_REMARK = '299 pylantir: "There are additional results that can be requested"'
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")

_NOT_AUTHORISED = 0x0124
_CREATED: Mapping[int, int] = {
    DimseStatus.DUPLICATE_INSTANCE: 409,
    _NOT_AUTHORISED: 403,
    DimseStatus.RESOURCE_LIMITATION: 503,
}
_SET: Mapping[int, int] = {
    DimseStatus.NO_SUCH_INSTANCE: 404,
    DimseStatus.NO_SUCH_ATTRIBUTE: 409,
    DimseStatus.PROCESSING_FAILURE: 409,
    _NOT_AUTHORISED: 403,
    DimseStatus.RESOURCE_LIMITATION: 503,
}
"""DIMSE status -> HTTP status (PS3.18 15); any other refusal is 400."""
_DONE = (DimseStatus.SUCCESS, 0x0001, DimseStatus.ATTRIBUTE_LIST_ERROR, 0x0116)


def prepare_dicom_library() -> None:
    """Let pydicom take values as they are: they are judged by the rules of the worklist and of MPPS."""
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE


@dataclass(slots=True, kw_only=True)
class Found:
    """What a search has found.

    Attributes:
        steps: The data sets, in order.
        items: The number of the item of each.
        remarks: Values of the header Warning.
        is_refused: More match than the user may have, and the configuration says to refuse that.
    """

    steps: list[Attributes] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    is_refused: bool = False


def search_steps(site: Site, ports: Ports, user: str, search: Search, today: datetime.date) -> Found:
    """Find the steps that a search matches, as this user may see them.

    Raises:
        BadRequest: The search has a fault for which a C-FIND would be answered 0xA900.
        StoreError: The worklist cannot be read just now.
    """
    try:
        parsed = parse_query(search.identifier)
    except InvalidQuery as error:
        raise BadRequest(f"{error.tag:08X}: {error}") from None
    station = site.http.stations.get(user)
    profile = site.dicom.profile_of(station) if station else site.dicom.default_profile
    limits = serving_limits(parsed.query, site.dicom.serving, today)
    limits += profile_limits(profile, station or ANY_STATION) if station else []
    query = limited(for_station(parsed.query, station) if station else parsed.query, limits)
    writing = Writing(explicit_vr=True, station_aet=station or ANY_STATION, send_empty=profile.required_empty)
    encoder = ResponseEncoder(parsed, writing)
    most = min((bound for bound in (search.limit, profile.max_answers) if bound is not None), default=None)

    def encoded() -> Generator[tuple[int, bytes]]:
        with closing(ports.find_values(query, encoder.fields)) as batches:
            for rows in batches:
                batch = encoder.encode(rows)
                kept_back = {item for item, _ in (*batch.left_out, *batch.unfit)}
                numbers = [row[0] for row in rows if row[0] not in kept_back]
                yield from zip(map(int, map(str, numbers)), batch.identifiers, strict=True)

    found = Found(remarks=[FUZZY_REMARK] if search.is_fuzzy else [])
    with closing(encoded()) as answers:
        last = None if most is None else search.offset + most
        for number, identifier in islice(answers, search.offset, last):
            found.items.append(number)
            found.steps.append(read_attributes(identifier, explicit_vr=True).attributes)
        if most is not None and next(answers, None):
            fails = site.dicom.serving.when_too_many == "fail" and most != search.limit
            return Found(is_refused=True) if fails else replace(found, remarks=[*found.remarks, MORE_REMARK])
    return found


def may_use(site: Site, ports: Ports, user: str, uid: str) -> bool:
    """Say whether a user may change and retrieve a step: with `mpps.own_only`, only the one who created it."""
    creator = ports.find_creator(uid) if ports.find_creator else None
    return creator in {None, user, site.http.stations.get(user)}


def take_report(
    ports: Ports, user: str, uid: str, operation: Operation, attributes: Attributes
) -> tuple[int, MppsAnswer]:
    """Give a report to the writer: HTTP status, and what a scanner would be told.

    Args:
        ports: The way to the writer.
        user: Who reports.
        uid: The instance, from the path.
        operation: `create` or `set`.
        attributes: As they came; they are read element by element, as those of an association are.

    Raises:
        WriterUnavailable: It could not be stored in time.
        BadRequest: The UID or the body is none.
    """
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise BadRequest("the path has to end with a UID of at most 64 digits and dots")
    try:
        # Once encoded, it is read by the same rules as a report over an association.
        reading = read_attributes(write_attributes(attributes, explicit_vr=True), explicit_vr=True)
        request = MppsRequest(
            request_id=uuid.uuid4().hex, operation=operation, sop_instance_uid=uid, scanner=user,
            attributes=reading.attributes, oddities=reading.oddities,
        )  # fmt: skip
    except MppsRefused as refusal:
        raise BadRequest(str(refusal)) from None
    except Exception as error:  # noqa: BLE001 - pydicom reads here, and a stranger's body raises anything
        raise BadRequest(f"the body cannot be read ({type(error).__name__})") from None
    answer = ports.report(request)
    if answer.status in _DONE:
        return (201 if operation == "create" else 200), answer
    if answer.error_id == ErrorId.NO_LONGER_UPDATABLE:
        return 409, answer
    statuses = _CREATED if operation == "create" else _SET
    return statuses.get(answer.status, 400), answer


def remark(answer: MppsAnswer) -> Sequence[tuple[str, str]]:
    """What a client is told beside the status: the DIMSE status, why, and which attributes are at fault."""
    said = f"0x{answer.status:04X}" + (f" {answer.comment}" if answer.comment else "")
    tags = f" ({', '.join(answer.tags[:20])})" if answer.tags else ""
    return (("Warning", f'299 pylantir: "{said}{tags}"'),)
