"""Which worklist items was a performed procedure step done for, and what does that make of their status? Pure.

What the scanner names comes in with the items that might be meant; the items, each with the rule that found it, go out.
An ambiguous sign links nothing: a step marked as done under the wrong patient is worse than one that stays open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pylantir import entry
from pylantir.mpps.model import (
    ACCESSION_NUMBER,
    BIRTH_DATE,
    COMPLETED,
    DISCONTINUED,
    IN_PROGRESS,
    ISSUER,
    MODALITY,
    PATIENT_ID,
    PATIENT_NAME,
    REQUEST_SEQUENCE,
    SEX,
    START_DATE,
    STEP_ID,
    STEP_SEQUENCE,
    STUDY_UID,
    Attributes,
    day_of,
    items_of,
    levels_about_steps,
    name_of,
    text_of,
)

BY_STUDY = "study UID"
BY_ACCESSION = "accession number"
BY_PATIENT = "patient"

_ITEM_STATUSES = {
    IN_PROGRESS: entry.IN_PROGRESS,
    COMPLETED: entry.COMPLETED,
    DISCONTINUED: entry.DISCONTINUED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What one item of the Scheduled Step Attributes Sequence names; empty where it does not."""

    study_uid: str = ""
    step_id: str = ""
    accession_number: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clues:
    """What a performed procedure step says about its worklist items.

    Attributes:
        steps: What it names; one that names nothing for an unscheduled exam.
        issuer: Who issued the patient ID; "" if it does not say, as for name, birth date and sex.
        day: When it began, YYYYMMDD.
    """

    steps: tuple[Named, ...]
    patient_id: str
    modality: str
    day: str
    issuer: str = ""
    name: str = ""
    birth_date: str = ""
    sex: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A worklist item that might be meant, empty text where it has no value.

    Attributes:
        former_uids: Study UIDs that it was served with earlier.
        step_id: As a worklist response gives it.
        is_somebody_else: Its birth date, name or sex rules out the person of the report.
        is_same_person: Birth date and name are those of the report, whatever its patient ID.
    """

    id: int
    study_uids: frozenset[str]
    former_uids: frozenset[str] = frozenset()
    step_id: str
    accession_number: str
    patient_id: str
    modality: str
    day: str
    status: str
    issuer: str = ""
    is_somebody_else: bool = False
    is_same_person: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An item, and the rule that found it.

    Attributes:
        other_patient: The scanner names another patient than the item: another ID, or another person with that ID.
        former_uid: The study UID that it names, if the item had it earlier only.
    """

    item_id: int
    rule: str
    other_patient: bool = False
    former_uid: str = ""


def read_clues(attributes: Attributes, today: str) -> Clues:
    """Read what a performed procedure step says about its items.

    Args:
        attributes: The instance's attributes.
        today: YYYYMMDD, for a scanner that does not say when it began.
    """
    # Simple devices put the step's attributes at the top level, or into the request attributes.
    around = {tag: _only_text(attributes, tag) for tag in (STUDY_UID, STEP_ID, ACCESSION_NUMBER)}
    steps = tuple(
        Named(
            study_uid=text_of(step, STUDY_UID) or around[STUDY_UID],
            step_id=text_of(step, STEP_ID),
            accession_number=text_of(step, ACCESSION_NUMBER) or around[ACCESSION_NUMBER],
        )
        for step in items_of(attributes, STEP_SEQUENCE)
    )
    whole = Named(study_uid=around[STUDY_UID], step_id=around[STEP_ID], accession_number=around[ACCESSION_NUMBER])
    patients = {text_of(level, PATIENT_ID) for level in levels_about_steps(attributes)} - {""}
    return Clues(
        steps=steps or (whole,),
        patient_id=text_of(attributes, PATIENT_ID) or (patients.pop() if len(patients) == 1 else ""),
        modality=text_of(attributes, MODALITY),
        day=day_of(attributes, START_DATE) or today,
        issuer=text_of(attributes, ISSUER),
        name=name_of(attributes, PATIENT_NAME),
        birth_date=day_of(attributes, BIRTH_DATE),
        sex=text_of(attributes, SEX),
    )


def _only_text(attributes: Attributes, tag: str) -> str:
    """Return the value of an attribute outside the steps; nothing where its places contradict each other."""
    said = {text_of(level, tag) for level in (attributes, *items_of(attributes, REQUEST_SEQUENCE))} - {""}
    return said.pop() if len(said) == 1 else ""


@dataclass(frozen=True, slots=True)
class Linked:
    """What a report belongs to.

    Attributes:
        links: The items.
        ambiguous: The items of which one is meant, where nothing says which: none of them is linked.
        of_others: The items that would fit, but are another patient's: none of them is linked.
    """

    links: tuple[Link, ...]
    ambiguous: tuple[int, ...] = ()
    of_others: tuple[int, ...] = ()


def link_items(clues: Clues, candidates: Sequence[Candidate]) -> Linked:
    """Find the item of each step that is named: by study UID and step ID, accession number, patient.

    A rule never applies where the step ID is present on both sides and differs. A report is about one patient: of the
    items of several patients, only those of the patient that it names are linked.
    """
    links: dict[int, Link] = {}
    ambiguous: set[int] = set()
    for named in clues.steps:
        found = _link(named, clues, candidates)
        if isinstance(found, Link):
            links.setdefault(found.item_id, found)
        else:
            ambiguous.update(found)
    patients = {item.id: item.patient_id for item in candidates if item.id in links}
    strangers = [number for number, patient in patients.items() if patient != clues.patient_id]
    if len(set(patients.values())) > 1:
        for number in strangers:
            del links[number]
        return Linked(tuple(links.values()), tuple(sorted(ambiguous)), tuple(sorted(strangers)))
    if links or ambiguous:
        return Linked(tuple(links.values()), tuple(sorted(ambiguous)))
    others = [item.id for item in candidates if item.is_somebody_else and _is_open_today(item, clues)]
    return Linked((), (), tuple(sorted(others)))


def _link(named: Named, clues: Clues, candidates: Sequence[Candidate]) -> Link | tuple[int, ...]:
    """Return the item that a step names, or the numbers of the items that it fits equally well."""
    same_step = [item for item in candidates if not named.step_id or item.step_id == named.step_id]
    fit: Sequence[Candidate] = ()
    if named.study_uid:
        fit = _of_study(named.study_uid, clues, same_step)
        found = _single(fit, clues)
        if found:
            other = bool(clues.patient_id) and not _is_of_patient(found, clues)
            former = "" if named.study_uid in found.study_uids else named.study_uid
            return Link(item_id=found.id, rule=BY_STUDY, other_patient=other, former_uid=former)
    # From here on the study UID says nothing: a scanner makes its own for what it did not take from the worklist.
    # A scanner may name an issuer of its own; an accession number is served for one issuer only.
    same_number = [item for item in same_step if not clues.patient_id or item.patient_id == clues.patient_id]
    same_patient = [item for item in same_number if not clues.patient_id or _is_of_patient(item, clues)]
    if named.accession_number:
        same_order = [item for item in same_number if item.accession_number == named.accession_number]
        same_order = [item for item in same_order if item in same_patient] or same_order
        found = _single(same_order, clues)
        if found:
            return Link(item_id=found.id, rule=BY_ACCESSION)
        if same_order:
            return tuple(item.id for item in same_order)
        # The patient ID may have been corrected since the scanner read the worklist.
        corrected = [item for item in same_step if item.accession_number == named.accession_number]
        found = _single((item for item in corrected if item.is_same_person), clues)
        if found:
            return Link(item_id=found.id, rule=BY_ACCESSION, other_patient=True)
    if not clues.patient_id:
        return tuple(item.id for item in fit)
    open_today = [
        item
        for item in same_patient
        if _is_open_today(item, clues) and not (named.accession_number and item.accession_number)
    ]
    if len(open_today) == 1:
        return Link(item_id=open_today[0].id, rule=BY_PATIENT)
    return tuple(item.id for item in open_today or fit)


def _is_open_today(item: Candidate, clues: Clues) -> bool:
    """Whether an item has the patient ID and the modality of the report, and waits on the day on which that began."""
    return (
        item.patient_id == clues.patient_id
        and item.day == clues.day
        and item.status == entry.SCHEDULED
        and (not clues.modality or item.modality == clues.modality)
    )


def _of_study(uid: str, clues: Clues, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The items with a study UID: those that have it now before those that had it, the patient's own before others."""
    now = [item for item in candidates if uid in item.study_uids]
    former = [item for item in candidates if uid in item.former_uids]
    for fit in (now, former):
        own = [item for item in fit if _is_of_patient(item, clues)]
        if own:
            return own
    return now or former


def _is_of_patient(item: Candidate, clues: Clues) -> bool:
    """Whether an item is of the patient that the scanner names; whoever names no issuer may mean either."""
    two_issuers = clues.issuer and item.issuer and clues.issuer != item.issuer
    return item.patient_id == clues.patient_id and not two_issuers and not item.is_somebody_else


def _single(found: Iterable[Candidate], clues: Clues) -> Candidate | None:
    """Choose among several items: one that is not cancelled, of the scanner's modality."""
    remaining = list(found)
    for narrower in (
        [item for item in remaining if item.status != entry.CANCELED],
        [item for item in remaining if item.status != entry.CANCELED and item.modality == clues.modality],
    ):
        if len(remaining) > 1 and narrower:
            remaining = narrower
    return remaining[0] if len(remaining) == 1 else None


def next_item_status(current: str | None, reported: str) -> str:
    """Return an item's status after a report: COMPLETED stays, and DISCONTINUED may begin again.

    Args:
        current: The item's status in the worklist's terms.
        reported: The performed procedure step's status that has just come about.
    """
    return entry.COMPLETED if current == entry.COMPLETED else _ITEM_STATUSES[reported]
