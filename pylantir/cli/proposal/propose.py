"""Proposes a `field_mapping`: which field each column holds, how it is written, and how certain the guess is.

Lives in `pylantir init`. Pure. In: a sample. Out: a source, with reasons that contain no patient's data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pylantir.cli.proposal import contents
from pylantir.cli.proposal.headings import FIRST_NAME, LAST_NAME, MIDDLE_NAME, MOMENT, meaning, meanings
from pylantir.cli.proposal.sample import Sample
from pylantir.settings import EMPTY_VALUES

SURE, LIKELY, GUESS = "sure", "likely", "a guess"
_LONGEST_AE_TITLE = 16
_EXAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """One line of the proposal: a worklist field, its columns, how certain the guess is, and what to check."""

    target: str
    columns: tuple[str, ...]
    confidence: str
    remark: str = ""


@dataclass(slots=True)
class Proposal:
    """The proposed keys of a source, and the reasoning behind them."""

    field_mapping: dict[str, Any] = field(default_factory=dict)
    empty_values: list[str] = field(default_factory=list)
    guesses: list[Guess] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    has_offsets: bool = False


class _Proposer:
    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self.proposal = Proposal()
        self._by_meaning: dict[str, list[str]] = {}
        for column, target in meanings(list(sample.columns)).items():
            self._by_meaning.setdefault(target, []).append(column)
        self._used: set[str] = set()

    def run(self) -> Proposal:
        """Decide field by field."""
        self._find_names()
        for target, columns in self._by_meaning.items():
            if target == MOMENT:
                self._find_moments(columns)
            elif target == "patient_birth_date":
                self._add_dated(target, columns[0], SURE)
            elif target == "patient_sex":
                self._find_sex(columns[0])
            elif target == "pregnancy_status":
                self._find_pregnancy(columns[0])
            elif target == "scheduled_station_aetitle":
                self._find_station(columns[0])
            elif target not in {LAST_NAME, FIRST_NAME, MIDDLE_NAME, "patient_name"}:
                confidence = SURE if meaning(columns[0]) else GUESS
                remark = "" if confidence == SURE else "is this the patient's number?"
                self._add(target, (columns[0],), columns[0], confidence, remark)
        if not {"scheduled_start", "scheduled_start_date"} & {guess.target for guess in self.proposal.guesses}:
            self._guess_moment()
        self._find_words_for_nothing()
        self._name_what_is_missing()
        return self.proposal

    def _values(self, column: str) -> list[str]:
        return [
            one for one in contents.distinct(self._sample.columns[column][:_EXAMPLES]) if not contents.says_nothing(one)
        ]

    def _add(self, target: str, columns: tuple[str, ...], said: object, confidence: str, remark: str = "") -> None:
        """Add a field to the mapping: as text if the column is taken unchanged, else as an object."""
        if isinstance(said, str) and said not in self.proposal.field_mapping:
            self.proposal.field_mapping[said] = target
        else:
            self.proposal.field_mapping[target] = {"from": said} if isinstance(said, str) else said
        self.proposal.guesses.append(Guess(target=target, columns=columns, confidence=confidence, remark=remark))
        self._used.update(columns)

    def _find_names(self) -> None:
        parts = [self._by_meaning.get(part, [None])[0] for part in (LAST_NAME, FIRST_NAME, MIDDLE_NAME)]
        columns = tuple(part for part in parts if part)
        whole = self._by_meaning.get("patient_name", [])
        if parts[0] and parts[1]:
            self._add("patient_name", columns, {"from": list(columns)}, SURE)
        elif whole:
            spaced = any(" " in value and "," not in value and "^" not in value for value in self._values(whole[0]))
            remark = "which part is the family name cannot be known; DICOM writes Family^Given" if spaced else ""
            self._add("patient_name", (whole[0],), whole[0], LIKELY if spaced else SURE, remark)
        elif columns:
            self._add("patient_name", columns[:1], columns[0], LIKELY, "only a part of the name was found")

    def _find_moments(self, columns: list[str]) -> None:
        kinds: dict[str, list[str]] = {"time": [], "moment": [], "date": []}
        for column in columns:
            values = self._values(column)
            is_time, is_moment = contents.holds_times(values), contents.holds_moments(values)
            kinds["time" if is_time else "moment" if is_moment else "date"].append(column)
        dates, times, both = kinds["date"], kinds["time"], kinds["moment"]
        if both and not (dates and times):
            self._add_dated("scheduled_start", both[0], SURE if len(both) == 1 else LIKELY)
            return
        if dates:
            self._add_dated("scheduled_start_date", dates[0], SURE if len(dates) == 1 else LIKELY)
        if times and dates:
            found = contents.time_format(self._values(times[0]))
            said = {"from": times[0], "format": found} if found else times[0]
            self._add("scheduled_start_time", (times[0],), said, SURE if len(times) == 1 else LIKELY)

    def _guess_moment(self) -> None:
        """If exactly one column has dates with times, take it for the scan's start, whatever its heading."""
        free = [column for column in self._sample.columns if column not in self._used]
        dated = [column for column in free if (values := self._values(column)) and contents.holds_moments(values)]
        if len(dated) == 1:
            self._add_dated("scheduled_start", dated[0], GUESS)

    def _add_dated(self, target: str, column: str, confidence: str) -> None:
        values = self._values(column)
        found, reason = contents.date_format(target, values) if values else ("", "the column is empty")
        if found is None or reason:
            self.proposal.unknown.append(f'"{column}": {reason}')
        self.proposal.has_offsets |= target == "scheduled_start" and contents.has_offsets(values)
        said: object = {"from": column, "format": found} if found else column
        self._add(target, (column,), said, confidence if found is not None else GUESS, reason)

    def _find_sex(self, column: str) -> None:
        table, unknown = contents.sex_table(self._values(column))
        if unknown:
            told = f'what {len(unknown)} of its words mean cannot be known; add them to "values"'
            self.proposal.unknown.append(f'"{column}": {told}')
        said: object = {"from": column, "values": table} if table else column
        self._add(
            "patient_sex", (column,), said, LIKELY if unknown else SURE, "see what cannot be known" if unknown else ""
        )

    def _find_pregnancy(self, column: str) -> None:
        """Map the column; DICOM's code 1 is "not pregnant", so a 1 is only read where a 0 shows that it is a yes."""
        values = set(self._values(column))
        if values & {"0", "1"} and values <= {"0", "1"} and "0" in values:
            said = {"from": column, "values": {"0": "no", "1": "yes"}}
            self._add("pregnancy_status", (column,), said, LIKELY, "is 1 a yes? DICOM's own code 1 is not pregnant")
        elif "1" in values:
            self.proposal.unknown.append(
                f'"{column}": is 1 a yes, or DICOM\'s code for not pregnant? Map it to pregnancy_status with "values"'
            )
        else:
            self._add("pregnancy_status", (column,), column, SURE)

    def _find_station(self, column: str) -> None:
        values = self._values(column)
        is_title = all(len(one) <= _LONGEST_AE_TITLE and one.isascii() and " " not in one for one in values)
        target = "scheduled_station_aetitle" if is_title else "scheduled_step_location"
        remark = (
            "are these the scanners' AE titles? Items of another title are not shown to a scanner" if is_title else ""
        )
        if target == "scheduled_step_location" and target in self._by_meaning:
            return
        self._add(target, (column,), column, LIKELY, remark)

    def _find_words_for_nothing(self) -> None:
        found = dict.fromkeys(
            value.strip()
            for column in self._used
            for value in self._sample.columns[column]
            if contents.says_nothing(value) and value.strip() not in EMPTY_VALUES
        )
        if found:
            self.proposal.empty_values = [*EMPTY_VALUES, *sorted(found)]

    def _name_what_is_missing(self) -> None:
        targets = {guess.target for guess in self.proposal.guesses}
        wanted = {"patient_id": "the patient's number", "scheduled_start_date": "the day of the scan"}
        for target, what in wanted.items():
            if target not in targets and not (target == "scheduled_start_date" and "scheduled_start" in targets):
                self.proposal.unknown.append(
                    f"no column was found for {what} ({target}); every record is refused without"
                )
        if "modality" not in targets:
            self.proposal.unknown.append("the modality: MR is assumed (defaults)")
        several = dict.fromkeys(column.partition(".0.")[0] for column in self._used if ".0." in column)
        for name in several:
            self.proposal.unknown.append(
                f'of "{name}" only the first one is read; records_path can lead to each of them'
            )
        for column in self._sample.columns:
            if column not in self._used:
                self.proposal.unknown.append(f'"{column}" is not mapped')


def propose(sample: Sample) -> Proposal:
    """Propose a mapping for an export."""
    return _Proposer(sample).run()
